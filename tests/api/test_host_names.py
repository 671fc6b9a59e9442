"""Hosts are named to those who run the site, and to nobody else: in the API and in the console."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from yarl import URL

from broker import wire
from broker.domain.errors import EngineError, NoHostFitsError, NotFoundError
from broker.domain.model import Role, SessionState
from broker.services.decisions import decision
from tests.support.app import App, Person

HOST = "server-1"
"""see furnish"""


async def connected(app: App, who: str) -> dict[str, Any]:
    made = await app.call("POST", "/sessions", app.people[who], body={"pool": "library"})
    assert made.status == 201, made.body
    found: dict[str, Any] = made.json
    return found


async def text_of(app: App, path: str, who: Person, base: str = "/api/v1") -> str:
    reply = await app.call("GET", path, who, base=base)
    assert reply.status == 200, reply.body
    return reply.body.decode()


async def lost(app: App, who: str) -> str:
    """The id of a session whose host went down."""
    session = (await connected(app, who))["session"]
    desktop = await app.services.kit.store.desktops.desktop(session["desktop"]["id"])
    assert desktop is not None
    await app.services.engine_work.lost(desktop, f"{HOST} is down")
    found = await app.services.kit.store.sessions.session(session["id"])
    assert found is not None
    assert found.state is SessionState.FAILED
    return str(session["id"])


async def test_a_session_that_broke_off_with_its_host_says_so_without_its_name(app: App) -> None:
    session_id = await lost(app, "ann")
    ann = app.people["ann"]
    for path in (f"/sessions/{session_id}", "/sessions", f"/sessions/{session_id}/why"):
        mine = await text_of(app, path, ann)
        assert "a host is down" in mine, path
        assert HOST not in mine, path
        for staff in ("oliver", "alice", "audrey"):
            assert f"{HOST} is down" in await text_of(app, path, app.people[staff]), (path, staff)


async def test_so_do_the_pages_of_the_console(app: App) -> None:
    session_id = await lost(app, "ann")
    mine = await text_of(app, f"/me/sessions/{session_id}", app.people["ann"], base="")
    assert "a host is down" in mine
    assert HOST not in mine
    for staff in ("oliver", "alice"):
        theirs = await text_of(app, f"/sessions/{session_id}", app.people[staff], base="")
        assert f"{HOST} is down" in theirs
    own = await lost(app, "oliver")
    page = await text_of(app, f"/me/sessions/{own}", app.people["oliver"], base="")
    assert f"{HOST} is down" in page, "who runs the site is told the whole about his own, too"


async def test_who_waits_is_told_that_no_host_has_room_and_not_which(app: App) -> None:
    for who in ("ann", "bob", "audrey", "oliver", "alice"):
        await connected(app, who)
    eve = await app.person("eve", Role.USER, ["class-a"])
    waits = await app.call("POST", "/sessions", eve, body={"pool": "library"})
    assert waits.status == 202
    reasons = (f"{HOST} lacks 4096 MiB of memory", f"{HOST} drains")
    app.clock.shift_s += 1
    entry = decision(
        app.services.kit,
        "pool.no_room",
        f"no host fits: {'; '.join(reasons)}",
        about={"pool_id": waits.json["session"]["pool"]["id"]},
        reasons=reasons,
    )
    await app.services.kit.store.audit.append([entry])
    app.clock.shift_s += 1
    path = f"/sessions/{waits.json['session']['id']}/why"
    newest = (await app.call("GET", path, eve)).json["items"][0]
    assert newest["text"] == (
        "No desktop could be made: no host fits: a host lacks 4096 MiB of memory; a host drains."
    )
    assert newest["reasons"] == []
    for staff in ("oliver", "alice"):
        whole = (await app.call("GET", path, app.people[staff])).json["items"][0]
        assert whole["text"] == f"No desktop could be made: no host fits: {'; '.join(reasons)}."
        assert whole["reasons"] == list(reasons)
        page = path.removesuffix("/why")
        assert reasons[0] in await text_of(app, page, app.people[staff], base="")


async def test_a_display_that_does_not_open_names_no_host(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise EngineError(f"{HOST} cannot be reached")

    monkeypatch.setattr("broker.engines.simulated.engine.SimulatedEngine.console", away)
    for who, told in (("ann", "a host cannot be reached"), ("alice", f"{HOST} cannot be reached")):
        made = await connected(app, who)
        url = URL(f"{app.url}/api/v1/sessions/{made['session']['id']}/display")
        async with app.http.ws_connect(url, headers=app.people[who].headers) as socket:
            opening = wire.DisplayOpen(ticket=made["ticket"])
            await socket.send_str(wire.encode(opening).decode())
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.TEXT
            refused = wire.decode_from_display(message.data)
        assert isinstance(refused, wire.DisplayRefused)
        assert (refused.code, refused.detail) == ("engine.failed", told)


async def test_errors_about_hosts_name_none_and_others_are_as_they_were(app: App) -> None:
    tell = app.services.discretion.error
    for error in (EngineError(f"{HOST} is away"), NoHostFitsError(f"no host fits: {HOST} drains")):
        plain = await tell(error, Role.USER)
        assert (type(plain), plain.detail) == (
            type(error), error.detail.replace(HOST, "a host"),
        )  # fmt: skip
        for role in (Role.OPERATOR, Role.AUDITOR, Role.ADMINISTRATOR):
            assert (await tell(error, role)).detail == error.detail
    # what somebody typed is no news to him, and does not tell him that there is such a host
    asked = NotFoundError(f"there is no endpoint {HOST!r}")
    assert (await tell(asked, Role.USER)).detail == asked.detail


async def test_a_host_that_came_just_now_is_not_named_for_long(app: App) -> None:
    tell = await app.services.discretion.for_role(Role.USER)
    assert tell("server-1 and server-2 are down") == "a host and server-2 are down"
    host = {
        "name": "server-2", "engine": "simulated", "profile": "bare-metal", "cpus": 4,
        "memory_mib": 4096, "overcommit_cpu": 1, "start_limit": 1,
    }  # fmt: skip
    assert (await app.call("POST", "/hosts", app.people["alice"], body=host)).status == 201
    app.clock.shift_s += 10
    tell = await app.services.discretion.for_role(Role.USER)
    assert tell("server-1 and server-2 are down") == "a host and a host are down"
