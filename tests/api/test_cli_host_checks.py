"""`trivium host check` and `host capabilities`, against a broker and against canned answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.app import App
from tests.support.canned_api import CannedApi, canned_api
from tests.support.cli import Ran, run

KEY = "SHA256:" + "a" * 43
STEP = {"name": "sign_in", "verdict": "ok", "says": "in", "advice": "", "found": {}}


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        yield made


def ask(api: CannedApi, *words: str) -> Ran:
    return run(*words, env={"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"})


def test_what_is_missing_is_shown_with_what_to_do_and_the_status_says_so(api: CannedApi) -> None:
    key = STEP | {
        "name": "key", "verdict": "unknown", "says": f"it shows \x1b[31m{KEY}",
        "advice": "Compare it at the host.", "found": {"host_key": KEY},
    }  # fmt: skip
    api.answers["POST /hosts/check"] = (200, {"fits": False, "steps": [STEP, key]})
    shown = ask(api, "host", "check", "server-7", "qemu?uri=qemu%2Bssh://server-7/system")
    assert api.asked[-1].body == {
        "name": "server-7", "engine": "libvirt",
        "profile": "qemu?uri=qemu%2Bssh://server-7/system",
    }  # fmt: skip
    assert shown.code == 1
    assert "Compare it at the host." in shown.out
    assert KEY in shown.out
    assert "\x1b" not in shown.out
    as_json = ask(api, "host", "check", "server-7", "qemu", "--json")
    assert (as_json.code, as_json.document["fits"]) == (1, False)


async def test_a_host_that_fits_ends_with_status_0(app: App) -> None:
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["alice"].token}
    words = ("host", "check", "server-9", "hosted?migrate=0", "--engine", "simulated")
    shown = await asyncio.to_thread(run, *words, env=env)
    assert shown.code == 0, shown.err
    assert "simulated: nothing is started anywhere" in shown.out


async def test_what_a_host_can_and_cannot_do_is_shown_with_the_reasons(app: App) -> None:
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["alice"].token}
    loads = await app.services.kit.store.directory.host_loads()
    name = loads[0].host.name
    shown = await asyncio.to_thread(run, "host", "capabilities", name, env=env)
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["can", "desktops"] in [line[:2] for line in lines]
    nobody = await asyncio.to_thread(run, "host", "capabilities", "nowhere", env=env)
    assert nobody.code == 1


async def host_command(app: App, *words: str) -> Ran:
    env = {"TRIVIUM_URL": app.url, "TRIVIUM_TOKEN": app.people["alice"].token}
    return await asyncio.to_thread(run, "host", *words, env=env)


async def test_a_host_is_looked_at_and_then_added(app: App) -> None:
    add = ("add", "server-9", "hosted?migrate=0", "--engine", "simulated")
    shown = await host_command(app, *add, "cpus=8", "memory_mib=4096", 'labels=["gpu"]')
    assert shown.code == 0, shown.err
    assert "simulated hosted?migrate=0" in shown.out
    [host] = [
        one for one in await app.services.kit.store.directory.hosts() if one.name == "server-9"
    ]
    assert (host.capacity.cpus, host.settings.labels) == (8, ("gpu",))
    again = await host_command(app, *add, "cpus=8", "memory_mib=4096")
    assert (again.code, "exists already" in again.err) == (1, True)


def test_what_the_look_found_is_what_the_host_has_unless_it_is_said(api: CannedApi) -> None:
    size = STEP | {"name": "libvirt", "found": {"cpus": "48", "memory_mib": "9000"}}
    api.answers["POST /hosts/check"] = (200, {"fits": True, "steps": [STEP, size]})
    profile = "qemu?uri=qemu%2Bssh://server-7/system"
    ask(api, "host", "add", "server-7", profile, "memory_mib=8000", "power_managed=true")
    assert [one.path for one in api.asked] == ["/hosts/check", "/hosts"]
    assert api.asked[-1].body == {
        "name": "server-7", "engine": "libvirt", "profile": profile,
        "cpus": 48, "memory_mib": 8000, "settings": {"power_managed": True},
    }  # fmt: skip


def test_a_host_that_would_not_do_is_not_added_unless_nobody_looks(api: CannedApi) -> None:
    gone = STEP | {"name": "port", "verdict": "missing", "says": "nothing", "advice": "Start it."}
    api.answers["POST /hosts/check"] = (200, {"fits": False, "steps": [gone]})
    shown = ask(api, "host", "add", "server-7", "qemu", "cpus=1", "memory_mib=2")
    assert (shown.code, [one.path for one in api.asked]) == (1, ["/hosts/check"])
    assert "Start it." in shown.out
    ask(api, "host", "add", "server-7", "qemu", "cpus=1", "memory_mib=2", "--unchecked")
    assert [one.path for one in api.asked[1:]] == ["/hosts"]


async def test_a_stored_host_gets_another_profile(app: App) -> None:
    shown = await host_command(app, "set", "server-1", "profile=bare-metal?resize=0", "revision=1")
    assert shown.code == 0, shown.err
    assert "simulated bare-metal?resize=0" in shown.out
    assert ["revision", "2"] in [line.split() for line in shown.out.splitlines()]
    late = await host_command(app, "set", "server-1", "profile=bare-metal", "revision=1")
    assert (late.code, "it is at revision 2" in late.err) == (1, True)
    refused = await host_command(app, "set", "server-1", "profile=hosted")
    assert (refused.code, "desktops on server-1" in refused.err) == (1, True)
    assert "under maintenance" in refused.err
