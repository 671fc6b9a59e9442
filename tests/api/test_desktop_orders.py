"""The staff restarts and moves one desktop: over HTTP, and as commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.model import HostState, Resources
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


# ------------------------------------------------------------------------------- moved


async def second_host(app: App, **changes: Any) -> None:
    """server-2, of the first host's kind unless `changes` say otherwise."""
    [load, *_] = await app.services.kit.store.directory.host_loads()
    like = replace(load.host, id="hst_2", name="server-2", **changes)
    await app.services.kit.store.directory.save_host(like, new=True)


async def test_a_desktop_moves_to_the_named_host_under_its_session(app: App) -> None:
    _, desktop = await given(app)
    await second_host(app)
    begun = await by(app, "alice", "POST", f"{desktop}/move", {"host": "server-2"})
    assert (begun.status, begun.json["moving_to"]["name"]) == (202, "server-2")
    assert (begun.json["host"]["name"], begun.json["state"]) == ("server-1", "assigned")
    again = await by(app, "alice", "POST", f"{desktop}/move", {"host": "server-2"})
    assert (again.status, again.code) == (409, "lifecycle.refused")
    assert "on its way to another host already" in again.json["detail"]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"state": HostState.DRAINING}, "placement.host_refused", "server-2 drains"),
        ({"profile": "hosted"}, "engine.unsupported", "cannot take running desktops"),
        (
            {"capacity": Resources(cpus=1, memory_mib=1024)},
            "placement.host_refused",
            "server-2 lacks",
        ),
        ({"engine": "elsewhere"}, "engine.unsupported", "no engine here"),
    ],
)
async def test_a_host_that_does_not_take_it_says_why(
    app: App, changes: dict[str, Any], code: str, words: str
) -> None:
    _, desktop = await given(app)
    await second_host(app, **changes)
    refused = await by(app, "alice", "POST", f"{desktop}/move", {"host": "server-2"})
    assert (refused.status, refused.code) == (409, code)
    assert words in refused.json["detail"]
    assert (await by(app, "alice", "GET", desktop)).json["moving_to"] is None


async def test_an_endpoints_own_desktop_moves_nowhere(app: App) -> None:
    rows = (await by(app, "alice", "GET", "/desktops?text=LAB-01")).json["items"]
    path = f"/desktops/{rows[0]['id']}/move"
    refused = await by(app, "alice", "POST", path, {"host": "server-1"})
    assert (refused.status, refused.code) == (409, "engine.unsupported")


async def test_hosts_and_desktops_that_are_not_there_are_not_found(app: App) -> None:
    _, desktop = await given(app)
    for path, host in ((desktop, "server-7"), ("/desktops/dsk_none", "server-1")):
        assert (await by(app, "alice", "POST", f"{path}/move", {"host": host})).status == 404


@pytest.mark.parametrize("body", [{}, {"host": ""}, {"host": "server-1", "now": True}])
async def test_bad_bodies_of_a_move_are_refused(app: App, body: Any) -> None:
    _, desktop = await given(app)
    assert (await by(app, "alice", "POST", f"{desktop}/move", body)).status == 400


async def test_who_does_not_manage_pools_moves_nothing(app: App) -> None:
    _, desktop = await given(app)
    refused = await by(app, "oliver", "POST", f"{desktop}/move", {"host": "server-1"})
    assert (refused.status, refused.code) == (403, "auth.forbidden")


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


def test_the_command_moves_a_desktop_and_shows_the_way(api: CannedApi) -> None:
    to = {"id": "hst_2", "name": "server-2"}
    api.answers["POST /desktops/dsk_1/move"] = (202, {**DESKTOP, "moving_to": to})
    done = ask(api, "move", "library-001", "server-2")
    assert (done.code, api.asked[-1].body) == (0, {"host": "server-2"})
    assert "server-1 → server-2" in done.out
