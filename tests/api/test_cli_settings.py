"""`trivium pool settings` and `trivium host`: what is sent, and what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api_documents import POOL, page
from tests.support.canned_api import CannedApi, canned_api
from tests.support.cli import Ran, run

SETTINGS: dict[str, Any] = {
    "idle_s": 1200,
    "after_grace": "suspend",
    "guarantee": {"cpus": 0.5, "memory": 1.0},
    "labels": ["gpu"],
    "schedule": [],
}
HOST: dict[str, Any] = {
    "id": "hst_1",
    "name": "server-1",
    "engine": "simulated",
    "profile": "bare-metal",
    "state": "draining",
    "capacity": {"cpus": 32, "memory_mib": 131072, "disk_mib": 0},
    "used": {"cpus": 8, "memory_mib": 16384, "disk_mib": 0},
    "starting": 1,
    "overcommit_cpu": 4.0,
    "start_limit": 8,
    "settings": {"overcommit_memory": 1.5, "labels": ["gpu"], "power_managed": True},
    "deadline_at": None,
    "note": "a fan is loud",
}


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


def ask(api: CannedApi, *words: str) -> Ran:
    return run(*words, env={"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"})


def test_a_pools_settings_are_shown_flat_and_given_whole_to_programs(api: CannedApi) -> None:
    api.answers["GET /pools/library"] = (200, POOL | {"settings": SETTINGS})
    shown = ask(api, "pool", "settings", "library").out
    assert "guarantee.cpus" in shown
    assert "suspend" in shown
    assert '["gpu"]' in shown
    assert ask(api, "pool", "settings", "library", "--json").document == SETTINGS


def test_settings_are_sent_as_json_and_nested_by_dots(api: CannedApi) -> None:
    api.answers["PATCH /pools/library"] = (200, POOL | {"settings": SETTINGS})
    words = ("idle_s=1200", "apart=true", "guarantee.memory=0.5", "take_over=ask", 'labels=["a"]')
    assert ask(api, "pool", "settings", "library", *words).code == 0
    assert api.asked[-1].body == {
        "settings": {
            "idle_s": 1200,
            "apart": True,
            "guarantee": {"memory": 0.5},
            "take_over": "ask",
            "labels": ["a"],
        }
    }


@pytest.mark.parametrize("word", ["idle_s", "=1", "a..b=1", "a.b.c.d.e=1"])
def test_a_word_that_sets_nothing_is_refused_before_anything_is_sent(
    api: CannedApi, word: str
) -> None:
    ran = ask(api, "pool", "settings", "library", word)
    assert (ran.code, api.asked) == (2, [])
    assert "FIELD=VALUE" in ran.err


def test_a_field_cannot_be_a_value_and_hold_others(api: CannedApi) -> None:
    assert ask(api, "pool", "settings", "library", "a=1", "a.b=2").code == 2


def test_hosts_are_listed_with_what_is_given_out(api: CannedApi) -> None:
    api.answers["GET /hosts"] = page(HOST)
    shown = ask(api, "host", "list").out
    assert "8 of 128" in shown
    assert "16,384 of 131,072 MiB" in shown
    assert "draining" in shown
    shown = ask(api, "host", "show", "server-1").out
    assert "a fan is loud" in shown
    assert "power_managed" in shown
    assert ask(api, "host", "show", "server-9").code == 1


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("drain", "server-1"), {"state": "draining"}),
        (("maintenance", "server-1"), {"state": "maintenance"}),
        (("open", "server-1"), {"state": "up"}),
        (
            ("set", "server-1", "start_limit=4", "overcommit_memory=1.5"),
            {"start_limit": 4, "settings": {"overcommit_memory": 1.5}},
        ),
        (
            ("set", "server-1", "cpus=64", "disk_mib=900000", "network_mbit=1000"),
            {"cpus": 64, "disk_mib": 900000, "network_mbit": 1000},
        ),
    ],
)
def test_a_host_is_changed_by_what_was_given(
    api: CannedApi, words: tuple[str, ...], body: dict[str, Any]
) -> None:
    api.answers["PATCH /hosts/server-1"] = (200, HOST)
    assert ask(api, "host", *words).code == 0
    assert api.asked[-1].body == body


@pytest.mark.parametrize("wish", ["on", "off"])
def test_a_host_is_switched(api: CannedApi, wish: str) -> None:
    api.answers["POST /hosts/server-1/power"] = (202, HOST)
    if wish == "off":
        assert ask(api, "host", "power", "server-1", wish).code != 0
        assert not api.asked
    assert ask(api, "host", "power", "server-1", wish, "--yes").code == 0
    assert api.asked[-1].body == {"on": wish == "on"}


def test_a_host_is_declared_lost_by_who_means_it(api: CannedApi) -> None:
    api.answers["PATCH /hosts/server-1"] = (200, HOST)
    assert ask(api, "host", "lost", "server-1").code != 0
    assert not api.asked
    assert ask(api, "host", "lost", "server-1", "--yes").code == 0
    assert api.asked[-1].body == {"state": "down"}


def test_a_pools_new_size_keeps_what_was_not_named(api: CannedApi) -> None:
    size = {"cpus": 2, "memory_mib": 4096, "disk_mib": 0, "disk_iops": 0, "network_mbit": 0}
    api.answers["GET /pools/library"] = (200, {**POOL, "resources": size})
    api.answers["PATCH /pools/library"] = (200, POOL)
    words = ("--memory", "8192", "--network", "50", "--spares", "3")
    assert ask(api, "pool", "change", "library", *words).code == 0
    assert api.asked[-1].body == {
        "spares_min": 3,
        "resources": {**size, "memory_mib": 8192, "network_mbit": 50},
    }


def test_breakers_are_listed_and_reset(api: CannedApi) -> None:
    one = {
        "id": "library server-1",
        "pool": "library",
        "host": "server-1",
        "state": "half_open",
        "failures": 5,
        "since": "2026-11-21T07:50:00.000Z",
        "trying": True,
        "until": "2026-11-21T08:00:00.000Z",
        "error": "no disk",
    }
    api.answers["GET /breakers"] = page(one)
    shown = ask(api, "host", "breakers").out
    assert "half open" in shown
    assert "no disk" in shown
    api.answers["POST /hosts/server-1/breakers/reset"] = (200, {"reset": 1})
    assert ask(api, "host", "reset-breakers", "server-1", "--pool", "library").code == 0
    assert api.asked[-1].body == {"pool": "library"}
    ask(api, "host", "reset-breakers", "server-1")
    assert api.asked[-1].body == {}
