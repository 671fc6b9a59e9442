"""Hosts that are answered, and origins that may change things."""

from __future__ import annotations

import pytest

from broker.config import load
from broker.domain.errors import ConfigError
from broker.web.sites import Sites

HTTP = {"TRIVIUM_LISTEN": "127.0.0.1:8080"}
HTTPS = {
    "TRIVIUM_LISTEN": "0.0.0.0:8080",
    "TRIVIUM_PUBLIC_URL": "https://desk.school.example",
    "TRIVIUM_ORIGINS": "http://broker:8080",
}


def sites(env: dict[str, str]) -> Sites:
    return Sites(load(env))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080", "127.0.0.1"]
)
def test_a_broker_answers_to_its_own_names(host: str) -> None:
    assert sites(HTTP).host_allowed(host, "127.0.0.1")


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8080", "localhost.evil.example:8080", "localhost",
     "localhost:8081", "127.0.0.2:8080", "[::2]:8080", "x@127.0.0.1:8080", "127.0.0.1:8080/x",
     "127.0.0.1:8080, evil.example", "[::1", "127.1:8080", "2130706433:8080"],
)  # fmt: skip
def test_it_answers_to_no_other(host: str) -> None:
    assert not sites(HTTP).host_allowed(host, "127.0.0.1")


def test_behind_a_public_name_that_name_and_the_listed_ones_are_answered() -> None:
    found = sites(HTTPS)
    assert found.host_allowed("desk.school.example", "10.0.0.5")
    assert found.host_allowed("desk.school.example:443", "10.0.0.5")
    assert found.host_allowed("broker:8080", "10.0.0.5")
    assert found.host_allowed("10.0.0.5:8080", "10.0.0.5")
    assert not found.host_allowed("10.0.0.6:8080", "10.0.0.5")


def test_the_address_of_desktops_agents_is_answered_and_is_the_public_one_unless_told() -> None:
    found = sites(HTTPS | {"TRIVIUM_GUEST_URL": "https://broker.inside.example:8443"})
    assert found.host_allowed("broker.inside.example:8443", "10.0.0.5")
    assert not found.host_allowed("broker.inside.example:8444", "10.0.0.5")
    assert load(HTTPS).guest_url == "https://desk.school.example"
    with pytest.raises(ConfigError, match="guest_url"):
        load({"TRIVIUM_GUEST_URL": "desk"})


def test_the_port_that_the_system_chose_is_known_once_it_listens() -> None:
    found = sites({"TRIVIUM_LISTEN": "127.0.0.1:0"})
    assert not found.host_allowed("localhost:4711", "127.0.0.1")
    found.listens_on(4711)
    assert found.host_allowed("localhost:4711", "127.0.0.1")


@pytest.mark.parametrize(
    ("env", "origin", "host", "allowed"),
    [
        (HTTP, "http://127.0.0.1:8080", "127.0.0.1:8080", True),
        (HTTP, "http://localhost:8080", "localhost:8080", True),
        (HTTP, "http://localhost:9000", "localhost:8080", False),
        (HTTP, "https://evil.example", "127.0.0.1:8080", False),
        (HTTP, "null", "127.0.0.1:8080", False),
        (HTTP, "", "127.0.0.1:8080", False),
        (HTTP, "http://127.0.0.1:8080.evil.example", "127.0.0.1:8080", False),
        (HTTPS, "https://desk.school.example", "desk.school.example", True),
        (HTTPS, "https://DESK.school.example", "desk.school.example", True),
        (HTTPS, "http://desk.school.example", "desk.school.example", False),
        (HTTPS, "http://broker:8080", "desk.school.example", True),
        (HTTPS, "https://evil.school.example", "desk.school.example", False),
    ],
)
def test_origins(env: dict[str, str], origin: str, host: str, allowed: bool) -> None:
    assert sites(env).origin_allowed(origin, host) is allowed


@pytest.mark.parametrize(
    ("host", "peer", "local"),
    [
        ("127.0.0.1:8080", "127.0.0.1", True),
        ("localhost:8080", "::1", True),
        ("desk.school.example", "127.0.0.1", False),
        ("127.0.0.1:8080", "10.0.0.9", False),
        ("127.0.0.1:8080", "", False),
    ],
)
def test_a_proxy_on_this_machine_does_not_make_strangers_local(
    host: str, peer: str, local: bool
) -> None:
    assert sites(HTTPS).is_local(host, peer) is local
