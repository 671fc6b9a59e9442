"""Snapshots over HTTP, and as commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.model import LogOff, PoolKind
from tests.api.test_desktops import DESKTOP, PAGE
from tests.support.app import App, Reply
from tests.support.canned_api import CannedApi, canned_api
from tests.support.cli import Ran, run

SNAPSHOT: dict[str, Any] = {
    "id": "snp_1",
    "name": "before the update",
    "note": "office 2027",
    "state": "ready",
    "why": "",
    "resources": {
        "cpus": 2.0,
        "memory_mib": 4096,
        "disk_mib": 0,
        "disk_iops": 0,
        "network_mbit": 0,
    },
    "size_bytes": 3 * 2**20,
    "created_at": "2026-11-21T08:00:00.000Z",
    "changed_at": "2026-11-21T08:00:00.000Z",
}
ALBUM = (
    200,
    {"desktop": {"id": "dsk_1", "name": "library-001"}, "items": [SNAPSHOT], "most": 5,
     "refusal": ""},
)  # fmt: skip


async def as_alice(app: App, method: str, path: str, body: Any = None) -> Reply:
    return await app.call(method, path, app.people["alice"], body=body)


@pytest.fixture
async def path(app: App) -> str:
    """Of a desktop that is ann's."""
    pool = await app.services.pools.find("library")
    changed = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
    await app.services.kit.store.directory.save_pool(changed, new=False)
    app.services.pools.forget()
    asked = await app.call("POST", "/sessions", app.people["ann"], body={"pool": "library"})
    session = asked.json["session"]
    await app.call("DELETE", f"/sessions/{session['id']}", app.people["ann"])
    return f"/desktops/{session['desktop']['id']}/snapshots"


async def test_one_is_asked_for_listed_and_named_in_the_trail(app: App, path: str) -> None:
    asked = await as_alice(app, "POST", path, {"name": "before", "note": "an update"})
    assert (asked.status, asked.json["state"], asked.json["size_bytes"]) == (202, "making", None)
    album = (await as_alice(app, "GET", path)).json
    assert [one["name"] for one in album["items"]] == ["before"]
    assert (album["most"], album["refusal"]) == (5, "")
    again = await as_alice(app, "POST", path, {"name": "before"})
    assert (again.status, again.code) == (409, "resource.exists")


async def test_what_is_still_being_made_is_neither_gone_back_to_nor_dropped(
    app: App, path: str
) -> None:
    key = (await as_alice(app, "POST", path, {"name": "before"})).json["id"]
    refused = await as_alice(app, "POST", f"{path}/{key}/revert")
    assert (refused.status, refused.code) == (409, "snapshot.refused")
    refused = await as_alice(app, "DELETE", f"{path}/{key}")
    assert (refused.status, refused.code) == (409, "lifecycle.refused")


async def test_what_is_not_there_is_not_found(app: App, path: str) -> None:
    for method, rest in (("POST", "/snp_none/revert"), ("DELETE", "/snp_none")):
        assert (await as_alice(app, method, path + rest)).status == 404
    assert (await as_alice(app, "GET", "/desktops/dsk_none/snapshots")).status == 404


async def test_a_floating_desktop_says_why_it_takes_none(app: App) -> None:
    one = (await as_alice(app, "GET", "/desktops")).json["items"][-1]
    path = f"/desktops/{one['id']}/snapshots"
    refused = await as_alice(app, "POST", path, {"name": "before"})
    assert (refused.status, refused.code) == (409, "snapshot.refused")
    assert refused.json["detail"] == (await as_alice(app, "GET", path)).json["refusal"]


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x" * 200}, {"name": "a", "memory": 1}]
)
async def test_bad_bodies_are_refused(app: App, path: str, body: Any) -> None:
    assert (await as_alice(app, "POST", path, body)).status == 400


# --------------------------------------------------------------------------- commands


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        made.answers["GET /desktops"] = PAGE
        made.answers["GET /desktops/dsk_1/snapshots"] = ALBUM
        yield made


def ask(api: CannedApi, *words: str, stdin: str | None = None) -> Ran:
    env = {"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"}
    return run("desktop", "snapshot", *words, env=env, stdin=stdin)


def test_the_command_lists_them(api: CannedApi) -> None:
    ran = ask(api, "list", "library-001")
    assert ran.code == 0, ran.err
    for word in ("before the update", "ready", "office 2027", "3"):
        assert word in ran.out


def test_the_command_takes_one(api: CannedApi) -> None:
    api.answers["POST /desktops/dsk_1/snapshots"] = (202, SNAPSHOT)
    ran = ask(api, "take", "library-001", "before the update", "--note", "office 2027")
    assert ran.code == 0, ran.err
    body = {"name": "before the update", "note": "office 2027"}
    last = api.asked[-1]
    assert (last.method, last.path, last.body) == ("POST", "/desktops/dsk_1/snapshots", body)


def test_the_command_goes_back_only_when_it_is_meant(api: CannedApi) -> None:
    where = "POST /desktops/dsk_1/snapshots/snp_1/revert"
    api.answers[where] = (202, DESKTOP | {"state": "resetting"})
    assert ask(api, "revert", "library-001", "snp_1", stdin="n\n").code != 0
    assert not api.asked
    ran = ask(api, "revert", "library-001", "snp_1", "--yes")
    assert (ran.code, "resetting" in ran.out) == (0, True)


def test_the_command_drops_one(api: CannedApi) -> None:
    where = "DELETE /desktops/dsk_1/snapshots/snp_1"
    api.answers[where] = (202, SNAPSHOT | {"state": "dropping"})
    ran = ask(api, "drop", "library-001", "snp_1")
    assert (ran.code, "dropping" in ran.out) == (0, True)
