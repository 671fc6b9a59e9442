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
