"""Commands that need no broker: help, check-config, and what a taken port says."""

from __future__ import annotations

import json
import os
import socket

import click
import pytest

from broker.cli import root as root_module
from broker.cli.errors import CommandError
from broker.cli.ports import refuse_if_taken
from broker.cli.root import COMMANDS
from broker.config import SETTINGS, Address
from broker.domain.errors import ConfigError
from tests.support.cli import run


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIVIUM_")]:
        monkeypatch.delenv(name)


def test_help_lists_every_command() -> None:
    ran = run("--help")
    assert ran.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert "Usage: " in ran.out


def test_an_unknown_command_is_a_wrong_call() -> None:
    assert run("dance").code == 2


def test_check_config_shows_each_value_and_where_it_comes_from() -> None:
    env = {"TRIVIUM_SPEED": "8", "TRIVIUM_DATABASE_URL": "postgresql://u:hunter2@db/x"}
    ran = run("check-config", "--listen", "127.0.0.1:9000", "--json", env=env)
    assert ran.code == 0
    assert "hunter2" not in ran.out
    found = {one["name"]: one for one in ran.document["settings"]}
    assert set(found) == {setting.name for setting in SETTINGS}
    assert (found["listen"]["value"], found["listen"]["origin"]) == ("127.0.0.1:9000", "flag")
    assert (found["speed"]["value"], found["speed"]["origin"]) == ("8", "environment")
    assert (found["data"]["value"], found["data"]["origin"]) == ("var", "default")
    assert found["database_url"]["value"] == "postgresql://u:***@db/x"
    shown = run("check-config", env=env)
    assert "hunter2" not in shown.out
    assert "***" in shown.out


def test_a_password_in_the_query_of_a_database_address_is_hidden_too() -> None:
    env = {"TRIVIUM_DATABASE_URL": "postgresql://db/x?password=hunter2&user=u"}
    ran = run("check-config", env=env)
    assert "hunter2" not in ran.out + ran.err


def test_check_config_names_every_problem_and_fails() -> None:
    env = {"TRIVIUM_SPEED": "fast", "TRIVIUM_LISTEN": "nowhere", "TRIVIUM_SPED": "8"}
    ran = run("check-config", "--json", env=env)
    assert ran.code == 1
    assert len(ran.document["problems"]) == 3
    for word in ("speed", "listen", "TRIVIUM_SPED"):
        assert word in ran.err


def test_a_bad_setting_is_told_without_a_traceback() -> None:
    ran = run("serve", env={"TRIVIUM_SPEED": "fast"})
    assert ran.code == 1
    assert "speed" in ran.err
    assert "check-config" in ran.err
    assert "Traceback" not in ran.err


def test_a_taken_port_is_told_with_its_owner_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(CommandError) as told:
            refuse_if_taken(address)
    assert told.value.title == f"Port {address.port} is taken"
    assert f"process {os.getpid()} " in told.value.detail
    assert f"kill {os.getpid()}" in told.value.advice
    assert "TRIVIUM_LISTEN" in told.value.advice
    refuse_if_taken(address)


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(CommandError, match="Nothing can listen"):
        refuse_if_taken(Address("192.0.2.1", 8080))


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command that raises what a test puts into the list."""
    errors: list[BaseException] = []

    @click.command()
    def broken() -> None:
        raise errors[0]

    monkeypatch.setattr(root_module, "broken", broken, raising=False)
    monkeypatch.setattr(
        root_module, "COMMANDS", {**COMMANDS, "broken": ("broker.cli.root:broken", "breaks")}
    )
    return errors


def test_an_unexpected_error_is_a_sentence_and_a_traceback_only_when_asked(
    breaks: list[BaseException],
) -> None:
    breaks.append(KeyError("oops"))
    ran = run("broken")
    assert ran.code == 1
    assert "KeyError" in ran.err
    assert "Traceback" not in ran.err
    assert "--traceback" in ran.err


def test_an_error_out_of_a_group_of_tasks_is_told_like_any_other(
    breaks: list[BaseException],
) -> None:
    inner = ExceptionGroup("inner", [ValueError("noise"), ConfigError("listen: bad")])
    breaks.append(ExceptionGroup("outer", [inner]))
    ran = run("broken")
    assert ran.code == 1
    assert "listen: bad" in ran.err


def test_errors_are_json_for_programs() -> None:
    ran = run("check-config", "--json", env={"TRIVIUM_SPEED": "fast"})
    assert json.loads(ran.err)["error"]["code"] == "config.invalid"
