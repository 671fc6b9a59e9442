"""The staff switches a desktop off and on again: over HTTP, and as commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.test_desktops import DESKTOP, PAGE
from tests.support.app import App, Reply
from tests.support.canned_api import CannedApi, canned_api
from tests.support.cli import Ran, run


async def by(app: App, who: str, method: str, path: str, body: Any = None) -> Reply:
    return await app.call(method, path, app.people[who], body=body)


async def given(app: App) -> tuple[str, str]:
    """The paths of ann's session, and of its desktop."""
    asked = await by(app, "ann", "POST", "/sessions", {"pool": "library"})
    session = asked.json["session"]
    return f"/sessions/{session['id']}", f"/desktops/{session['desktop']['id']}"


async def test_a_desktop_is_restarted_under_its_session(app: App) -> None:
    session, desktop = await given(app)
    begun = await by(app, "oliver", "POST", f"{desktop}/restart")
    assert (begun.status, begun.json["state"], begun.json["target"]) == (
        200, "unparking", "assigned",
    )  # fmt: skip
    assert (await by(app, "oliver", "GET", session)).json["state"] == "delivering"
    told = (await by(app, "oliver", "GET", f"{session}/why")).json["items"]
    assert "desktop.restart" in {one["action"] for one in told}
    jobs = (await by(app, "oliver", "GET", "/jobs")).json["items"]
    assert [(one["verb"], one["state"]) for one in jobs] == [("resume", "queued")]


async def test_one_that_is_in_the_middle_of_something_says_so(app: App) -> None:
    _, desktop = await given(app)
    await by(app, "oliver", "POST", f"{desktop}/restart")
    again = await by(app, "oliver", "POST", f"{desktop}/restart")
    assert (again.status, again.code) == (409, "lifecycle.refused")
    assert "unparking just now" in again.json["detail"]


async def test_what_is_no_machine_of_a_hosts_is_not_restarted(app: App) -> None:
    rows = (await by(app, "alice", "GET", "/desktops?text=LAB-01")).json["items"]
    refused = await by(app, "alice", "POST", f"/desktops/{rows[0]['id']}/restart")
    assert (refused.status, refused.code) == (409, "resource.conflict")
    assert "restart the endpoint" in refused.json["detail"]
    assert (await by(app, "alice", "POST", "/desktops/dsk_none/restart")).status == 404


@pytest.mark.parametrize("who", ["ann", "audrey"])
async def test_who_does_not_manage_sessions_restarts_nothing(app: App, who: str) -> None:
    _, desktop = await given(app)
    refused = await by(app, who, "POST", f"{desktop}/restart")
    assert (refused.status, refused.code) == (403, "auth.forbidden")
    assert (await by(app, "alice", "GET", desktop)).json["state"] == "assigned"


# --------------------------------------------------------------------------- commands


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with canned_api() as made:
        made.answers["GET /desktops"] = PAGE
        yield made


def ask(api: CannedApi, *words: str, stdin: str | None = None) -> Ran:
    env = {"TRIVIUM_URL": api.url, "TRIVIUM_TOKEN": "t0ken"}
    return run("desktop", *words, env=env, stdin=stdin)


def test_the_command_restarts_a_desktop_by_its_name_once_it_was_asked(api: CannedApi) -> None:
    api.answers["POST /desktops/dsk_1/restart"] = (200, {**DESKTOP, "state": "resuming"})
    assert ask(api, "restart", "library-001", stdin="n\n").code == 1
    assert api.asked == []
    done = ask(api, "restart", "library-001", "--yes")
    assert (done.code, api.asked[-1].path) == (0, "/desktops/dsk_1/restart")
    assert "resuming" in done.out
