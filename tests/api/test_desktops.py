"""Administrators' work on one desktop and on hosts that are gone, over HTTP and as commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.model import LogOff, PoolKind
from tests.support.app import App, Reply
from tests.support.canned_api import CannedApi, canned_api
from tests.support.cli import Ran, run

DESKTOP: dict[str, Any] = {
    "id": "dsk_1",
    "name": "library-001",
    "pool": {"id": "pol_1", "name": "library"},
    "architecture": "vdi",
    "host": {"id": "hst_1", "name": "server-1"},
    "moving_to": None,
    "endpoint": None,
    "owner": {"id": "usr_1", "username": "li.ming"},
    "state": "ready",
    "target": None,
    "deadline_at": None,
    "generation": 4,
    "resources": {
        "cpus": 2.0,
        "memory_mib": 4096,
        "disk_mib": 0,
        "disk_iops": 0,
        "network_mbit": 0,
    },
    "note": "",
    "created_at": "2026-11-21T08:00:00.000Z",
    "changed_at": "2026-11-21T08:00:00.000Z",
}
PAGE = (200, {"items": [DESKTOP], "next": None})


async def as_alice(app: App, method: str, path: str, body: Any = None) -> Reply:
    return await app.call(method, path, app.people["alice"], body=body)


@pytest.fixture
async def kept(app: App) -> App:
    pool = await app.services.pools.find("library")
    changed = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
    await app.services.kit.store.directory.save_pool(changed, new=False)
    app.services.pools.forget()
    return app


async def test_a_desktop_is_given_shown_with_its_owner_and_taken_back(kept: App) -> None:
    path = f"/desktops/{(await as_alice(kept, 'GET', '/desktops')).json['items'][-1]['id']}"
    given = await as_alice(kept, "POST", f"{path}/assign", {"user": "ann"})
    assert (given.status, given.json["owner"]["username"]) == (200, "ann")
    assert (await as_alice(kept, "GET", path)).json["owner"]["username"] == "ann"
    again = await as_alice(kept, "POST", f"{path}/assign", {"user": "alice"})
    assert (again.status, again.code) == (409, "resource.conflict")
    taken = await as_alice(kept, "POST", f"{path}/unassign")
    assert (taken.json["owner"], taken.json["state"]) == (None, "resetting")
    assert taken.json["generation"] == given.json["generation"] + 1


@pytest.mark.parametrize(
    ("method", "verb"), [("POST", "/unassign"), ("POST", "/reset"), ("DELETE", "")]
)
async def test_a_desktop_in_use_is_left_alone(kept: App, method: str, verb: str) -> None:
    asked = await kept.call("POST", "/sessions", kept.people["ann"], body={"pool": "library"})
    path = f"/desktops/{asked.json['session']['desktop']['id']}"
    refused = await as_alice(kept, method, path + verb)
    assert (refused.status, refused.code) == (409, "desktop.in_use")
    assert (await as_alice(kept, "GET", path)).json["state"] == "assigned"


async def test_a_desktop_is_removed(app: App) -> None:
    path = f"/desktops/{(await as_alice(app, 'GET', '/desktops')).json['items'][-1]['id']}"
    removed = await as_alice(app, "DELETE", path)
    assert (removed.status, removed.json["state"]) == (202, "deleting")


async def test_a_host_is_retired_once_it_is_down_and_with_its_work_only_on_purpose(
    kept: App,
) -> None:
    asked = await kept.call("POST", "/sessions", kept.people["ann"], body={"pool": "library"})
    path = "/hosts/server-1"
    assert (await as_alice(kept, "POST", f"{path}/retire", {})).code == "lifecycle.refused"
    await as_alice(kept, "PATCH", path, {"state": "down"})
    refused = await as_alice(kept, "POST", f"{path}/retire", {})
    assert (refused.status, refused.code) == (409, "host.holds_work")
    retired = await as_alice(kept, "POST", f"{path}/retire", {"give_up": True})
    assert (retired.status, retired.json["state"]) == (200, "retired")
    session = await as_alice(kept, "GET", f"/sessions/{asked.json['session']['id']}")
    assert session.json["state"] == "failed"


# --------------------------------------------------------------------------- commands


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        made.answers["GET /desktops"] = PAGE
        yield made


def ask(api: CannedApi, *words: str, stdin: str | None = None) -> Ran:
    return run(*words, env={"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"}, stdin=stdin)


@pytest.mark.parametrize(
    ("verb", "method", "path"),
    [
        ("unassign", "POST", "/desktops/dsk_1/unassign"),
        ("reset", "POST", "/desktops/dsk_1/reset"),
        ("delete", "DELETE", "/desktops/dsk_1"),
    ],
)
def test_what_takes_work_away_is_asked_for_twice(
    api: CannedApi, verb: str, method: str, path: str
) -> None:
    api.answers[f"{method} {path}"] = (200, {**DESKTOP, "owner": None})
    assert ask(api, "desktop", verb, "library-001", stdin="n\n").code == 1
    assert api.asked == []
    done = ask(api, "desktop", verb, "library-001", "--yes")
    assert (done.code, api.asked[-1].method, api.asked[-1].path) == (0, method, path)


def test_a_desktop_is_given_by_its_name(api: CannedApi) -> None:
    api.answers["POST /desktops/dsk_1/assign"] = (200, DESKTOP)
    given = ask(api, "desktop", "assign", "library-001", "li.ming")
    assert api.asked[-1].body == {"user": "li.ming"}
    assert "li.ming" in given.out


@pytest.mark.parametrize("give_up", [False, True])
def test_a_host_is_retired_by_command(api: CannedApi, *, give_up: bool) -> None:
    api.answers["POST /hosts/server-1/retire"] = (409, {"code": "host.holds_work", "title": "no"})
    words = ("--give-up",) if give_up else ()
    assert ask(api, "host", "retire", "server-1", *words, stdin="n\n").code == 1
    assert api.asked == []
    ask(api, "host", "retire", "server-1", "--yes", *words)
    assert api.asked[-1].body == {"give_up": give_up}
