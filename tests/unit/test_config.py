"""Settings: where they come from, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import SETTINGS, hide_password, load, parse_address, problems
from broker.domain.errors import ConfigError


def test_defaults_are_the_ones_that_others_rely_on() -> None:
    config = load({})
    assert str(config.listen) == "127.0.0.1:8080"
    assert config.data == Path("var").absolute()
    assert config.database_url == f"sqlite:///{Path('var').absolute() / 'trivium.db'}"
    assert config.public_url == "http://127.0.0.1:8080"
    assert not config.secure_cookies
    assert set(config.origin_of.values()) == {"default"}


def test_a_flag_beats_the_environment_and_each_value_knows_its_origin() -> None:
    config = load({"TRIVIUM_LISTEN": "127.0.0.1:1", "TRIVIUM_SPEED": "8"}, {"listen": ":9000"})
    assert config.listen.port == 9000
    assert config.origin_of["listen"] == "flag"
    assert config.origin_of["speed"] == "environment"
    assert config.origin_of["seed"] == "default"


def test_a_misspelt_setting_is_refused_and_not_ignored() -> None:
    with pytest.raises(ConfigError, match="TRIVIUM_DATABSE_URL is not a setting"):
        load({"TRIVIUM_DATABSE_URL": "sqlite:///x"})


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"TRIVIUM_LISTEN": "localhost"}, "listen: 'localhost' is not of the form"),
        ({"TRIVIUM_LISTEN": "localhost:99999"}, "port 99999 is above"),
        ({"TRIVIUM_LISTEN": "localhost:²"}, "is not of the form"),
        ({"TRIVIUM_SPEED": "fast"}, "speed: 'fast' is not a number"),
        ({"TRIVIUM_SPEED": "0.5"}, "from 1 to 1000"),
        ({"TRIVIUM_SPEED": "nan"}, "from 1 to 1000"),
        ({"TRIVIUM_DATABASE_URL": "mysql://x"}, "neither sqlite nor postgresql"),
        ({"TRIVIUM_PUBLIC_URL": "desk.example"}, "not an http or https address"),
        ({"TRIVIUM_LOG": "xml"}, "neither text nor json"),
        ({"TRIVIUM_VNC_LISTEN": "5900"}, "vnc_listen: '5900' is not of the form"),
        ({"TRIVIUM_RDP_LISTEN": "x"}, "rdp_listen: 'x' is not of the form"),
        ({"TRIVIUM_SPICE_LISTEN": "x:-1"}, "spice_listen: 'x:-1' is not of the form"),
        ({"TRIVIUM_TRUSTED_PROXIES": "10.0.0.1/24"}, "'10.0.0.1/24' is neither an address nor"),
        ({"TRIVIUM_TRUSTED_PROXIES": "10.0.0.1 proxy"}, "'proxy' is neither an address nor"),
        ({"TRIVIUM_VIEWER_HOST": "a\nproxy=b"}, "viewer_host: 'a\\nproxy=b' is not the name"),
    ],
)
def test_each_bad_value_is_named(env: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(env)
    assert told in caught.value.detail


def test_viewers_are_told_the_public_name_unless_another_is_given() -> None:
    public = {"TRIVIUM_PUBLIC_URL": "https://desk.example:8443"}
    assert load(public).viewer_host == "desk.example"
    assert load(public | {"TRIVIUM_VIEWER_HOST": "10.0.0.7"}).viewer_host == "10.0.0.7"
    assert load({}).vnc_listen is None


def test_all_problems_are_found_at_once() -> None:
    found = problems({"TRIVIUM_SPEED": "x", "TRIVIUM_LISTEN": "y", "TRIVIUM_TYPO": "z"})
    assert len(found) == 3


def test_a_password_in_a_database_address_is_never_shown() -> None:
    shown = hide_password("postgresql://anna:s3cret@db/trivium")
    assert shown == "postgresql://anna:***@db/trivium"
    with pytest.raises(ConfigError) as caught:
        load({"TRIVIUM_DATABASE_URL": "mysql://anna:s3cret@db/trivium"})
    assert "s3cret" not in caught.value.detail


def test_addresses_of_both_families_are_understood() -> None:
    assert str(parse_address("[::1]:80", "listen")) == "[::1]:80"
    assert parse_address("[::1]:80", "listen").is_loopback
    assert not parse_address(":80", "listen").is_loopback


def test_https_in_front_makes_cookies_secure() -> None:
    assert load({"TRIVIUM_PUBLIC_URL": "https://desk.example/"}).secure_cookies


def test_every_setting_says_what_it_is_and_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    for setting in SETTINGS:
        assert setting.says
        assert setting.env in page
