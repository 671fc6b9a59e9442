"""Whom a request is from, when a proxy brings it."""

from __future__ import annotations

import logging
from ipaddress import ip_network

import pytest

from broker.web.proxies import Proxies

PROXIES = Proxies([ip_network("10.0.0.0/24"), ip_network("fd00::1/128"), ip_network("127.0.0.1")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # no proxy of ours
        ("192.0.2.9", [], "192.0.2.9"),
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),
        ("", ["198.51.100.1"], ""),
        # one proxy, two, and one header each
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::5"], "2001:db8::5"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        # with the client's port, as some proxies write it
        ("10.0.0.1", ["198.51.100.1:50312"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::5]:50312"], "2001:db8::5"),
        # what the client made up stands left of its own address
        ("10.0.0.1", ["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.7,198.51.100.1,10.0.0.2"], "198.51.100.1"),
        # nothing, or nothing that is an address
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["999.1.1.1"], "10.0.0.1"),
        # somebody within: all are ours
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_is(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert PROXIES.client(peer, forwarded) == client


def test_without_trusted_proxies_nothing_is_believed_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxies = Proxies([])
    with caplog.at_level(logging.WARNING, "trivium.web"):
        assert proxies.client("192.0.2.9", []) == "192.0.2.9"
        assert not caplog.records
        for _ in range(3):
            assert proxies.client("10.0.0.1", ["198.51.100.1"]) == "10.0.0.1"
    [told] = caplog.records
    assert "TRIVIUM_TRUSTED_PROXIES" in told.getMessage()
