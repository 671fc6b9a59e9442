"""Shadowing over real sockets: asked, answered, seen, and ended by whoever may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from broker import limits, wire
from broker.domain.errors import UnsupportedError
from broker.domain.model import Desktop
from broker.domain.settings import Shadowing
from broker.domain.shadowing import ShadowMode
from broker.domain.viewers import ViewerKind
from broker.web.display import CLOSE_ENDED, CLOSE_REFUSED
from tests.support.app import furnish, running_app
from tests.support.displays import FakeClient
from tests.support.eventually import eventually
from tests.support.rfb_server import RfbServer
from tests.support.shadows import REASON, RfbEnd, RfbEngine, Stage, said

F1 = 0xFFBE


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr("broker.web.display.DISPLAY_SIGN_IN_S", 0.05)
    monkeypatch.setattr(limits, "DISPLAYS_CHECK_S", 0.05)
    # a slow machine may take its time to look: what cannot be asked is a test of its own
    monkeypatch.setattr(limits, "SHADOW_LOOK_S", 60.0)
    monkeypatch.setattr(limits, "SHADOW_UNCHECKED_S", 60.0)
    monkeypatch.setattr(limits, "SHADOW_CHECK_S", 0.05)
    monkeypatch.setattr(limits, "SHADOW_RETRY_S", 0.01)
    async with RfbServer.started() as server, running_app(tmp_path) as app:
        await furnish(app)
        engine = RfbEngine(server)
        engines = cast("dict[str, object]", app.broker.engines._engines)
        monkeypatch.setitem(engines, "simulated", engine)
        shadows = asyncio.ensure_future(app.broker.shadows.run())
        await asyncio.sleep(0)
        yield Stage(app, engine)
        shadows.cancel()
        await asyncio.wait([shadows])
        monkeypatch.undo()
        assert shadows.cancelled(), "it failed before"


async def over(stage: Stage, end: RfbEnd, *, alone: bool = True) -> str:
    """The shadow's viewer is closed, and its console with it; the code. `alone`: ann's display is
    as it was, so that it did not end with that."""
    code = await end.ended()
    if alone:
        assert stage.app.broker.displays.open_count
    assert end.socket.close_code == CLOSE_ENDED
    await eventually(lambda: stage.app.broker.shadows.open_count == 0)
    assert stage.engine.consoles[1].closed
    return code


async def only_shadow(stage: Stage) -> dict[str, Any]:
    found = await stage.call("GET", "/shadows", "alice")
    (one,) = found.json["items"]
    return dict(one)


# ------------------------------------------------------------------------ asked and answered


async def test_a_person_lets_the_staff_look_on_and_sees_who_does(stage: Stage) -> None:
    async with stage.desktop() as own:
        shadow_id = await stage.asked()
        mine = (await stage.call("GET", "/shadows", "ann")).json["items"]
        assert [(one["state"], one["staff"]["username"], one["reason"]) for one in mine] == [
            ("asked", "oliver", REASON)
        ]
        assert len(stage.engine.consoles) == 1, "nothing is shown before the answer"
        assert (await stage.answer(shadow_id, granted=True)).json["state"] == "allowed"
        async with stage.shadow(shadow_id, await stage.ticket(shadow_id)) as socket:
            assert isinstance(await said(socket), wire.DisplayReady)
            end = RfbEnd(socket)
            size = await end.greet()
            assert len(await end.picture(*size)) == 4
            assert (await stage.now(shadow_id, "ann"))["state"] == "open"
            assert stage.engine.sessions == [stage.session_id, ""], "it is not the session's own"
        await eventually(lambda: stage.app.broker.shadows.open_count == 0)
        assert (await stage.now(shadow_id))["code"] == "shadow.viewer_closed"
        assert not own.closed
        assert not stage.engine.consoles[0].closed
    assert await stage.written() == [
        ("shadow.ask", "done", "oliver"),
        ("shadow.allow", "done", "ann"),
        ("shadow.ticket", "done", "oliver"),
        ("shadow.begin", "done", "oliver"),
        ("shadow.end", "done", "broker"),
    ]


async def test_the_trail_says_who_why_and_how(stage: Stage) -> None:
    async with stage.desktop(), stage.opened("interactive"):
        shadow = await only_shadow(stage)
        path = f"/audit?limit=200&session_id={stage.session_id}&action=shadow.begin"
        (entry,) = (await stage.app.call("GET", path, stage.who("alice"))).json["items"]
        assert entry["details"]["shadow"] == shadow["id"]
        assert entry["details"]["mode"] == "interactive"
        assert entry["details"]["reason"] == REASON
        assert "oliver begins to take part in this desktop" in entry["why"]


async def test_a_no_is_a_no(stage: Stage) -> None:
    async with stage.desktop():
        shadow_id = await stage.asked()
        assert (await stage.answer(shadow_id, granted=False)).json["state"] == "refused"
        assert (await stage.now(shadow_id))["code"] == "shadow.refused"
        refused = await stage.call("POST", f"/shadows/{shadow_id}/ticket", "oliver")
        assert (refused.status, refused.code) == (409, "resource.conflict")
        assert (await stage.answer(shadow_id, granted=True)).status == 409
        assert ("shadow.refuse", "done", "ann") in await stage.written()
    assert len(stage.engine.consoles) == 1


async def test_no_answer_in_time_is_a_no(stage: Stage) -> None:
    await stage.settings(consent_s=30)
    async with stage.desktop():
        shadow_id = await stage.asked()
        stage.app.clock.shift_s += 31
        late = await stage.answer(shadow_id, granted=True)
        assert late.status == 409
        while (found := await stage.now(shadow_id))["state"] == "asked":
            await asyncio.sleep(0.02)
        assert (found["state"], found["code"]) == ("refused", "shadow.no_answer")
        async with asyncio.timeout(60):
            while ("shadow.refuse", "done", "broker") not in await stage.written():
                await asyncio.sleep(0.02)


async def test_who_was_refused_does_not_ask_again_and_again(stage: Stage) -> None:
    async with stage.desktop():
        await stage.answer(await stage.asked(), granted=False)
        again = await stage.ask()
        assert (again.status, again.code) == (409, "resource.conflict")
        assert "ask again in" in again.json["detail"]
        assert (await stage.ask(who="alice")).status == 201, "he was refused, and nobody else"
        stage.app.clock.shift_s += limits.SHADOW_AGAIN_S
        assert (await stage.ask()).status == 201


async def test_who_had_no_answer_does_not_ask_again_and_again(stage: Stage) -> None:
    await stage.settings(consent_s=30)
    async with stage.desktop():
        shadow_id = await stage.asked()
        stage.app.clock.shift_s += 31
        while (await stage.now(shadow_id))["state"] == "asked":
            await asyncio.sleep(0.02)
        assert (await stage.ask()).status == 409


async def test_what_was_allowed_must_be_opened_soon(stage: Stage) -> None:
    async with stage.desktop():
        shadow_id = await stage.allowed()
        ticket = await stage.ticket(shadow_id)
        stage.app.clock.shift_s += limits.SHADOW_OPEN_S + 1
        async with stage.shadow(shadow_id, ticket) as socket:
            refused = await said(socket)
        assert isinstance(refused, wire.DisplayRefused)
        assert refused.code == "ticket.refused"
    assert len(stage.engine.consoles) == 1


async def test_a_question_may_be_withdrawn(stage: Stage) -> None:
    async with stage.desktop():
        shadow_id = await stage.asked()
        assert (await stage.end(shadow_id, "oliver")).json["code"] == "shadow.ended"
        assert (await stage.answer(shadow_id, granted=True)).status == 409


# ----------------------------------------------------------------------------------- who may


@pytest.mark.parametrize(("who", "status"), [("bob", 403), ("audrey", 403), ("alice", 201)])
async def test_only_who_may_shadow_asks(stage: Stage, who: str, status: int) -> None:
    async with stage.desktop():
        assert (await stage.ask(who=who)).status == status


async def test_only_the_person_where_the_desktop_is_shown_answers(stage: Stage) -> None:
    async with stage.desktop():
        shadow_id = await stage.asked()
        for who in ("bob", "oliver", "alice"):
            answered = await stage.answer(shadow_id, granted=True, who=who)
            assert answered.status in {403, 404}, who
        user = await stage.app.services.directory.user("ann")
        stage.app.people["elsewhere"] = await stage.app.signed_in(user)
        assert (await stage.answer(shadow_id, granted=True, who="elsewhere")).status == 403
        assert (await stage.now(shadow_id))["state"] == "asked"


@pytest.mark.parametrize(
    ("policy", "mode", "status"),
    [
        (Shadowing.OFF, "view", 409),
        (Shadowing.VIEW, "view", 201),
        (Shadowing.VIEW, "interactive", 409),
        (Shadowing.ASK, "interactive", 201),
    ],
)
async def test_the_pool_says_what_may_be_asked(
    stage: Stage, policy: Shadowing, mode: str, status: int
) -> None:
    await stage.settings(shadowing=policy)
    async with stage.desktop():
        assert (await stage.ask(mode)).status == status


async def test_nobody_is_asked_who_sees_no_question(stage: Stage) -> None:
    async with stage.desktop() as own:
        await own.close()
        await eventually(lambda: stage.app.broker.displays.open_count == 0)
        asked = await stage.ask()
        assert (asked.status, asked.code) == (409, "resource.conflict")
        assert "display is not open" in asked.json["detail"]


async def test_nobody_is_asked_in_a_viewer_outside_the_browser(stage: Stage) -> None:
    viewers, displays = stage.app.services.viewers, stage.app.broker.displays
    async with stage.desktop():
        ann = await stage.app.services.accounts.identify(stage.who("ann").token)
        viewers.doors[ViewerKind.VNC] = 5900
        given = await viewers.issue(ann, stage.session_id, ViewerKind.VNC)
        knock = await viewers.knock(ViewerKind.VNC, stage.session_id, given.secret)
        client = FakeClient()
        shown = asyncio.ensure_future(
            displays.serve(
                client, ticket=knock.ticket, session_id=stage.session_id, browser=knock.browser
            )
        )
        await eventually(lambda: client.opened)
        asked = await stage.ask()
        assert (asked.status, asked.code) == (409, "engine.unsupported")
        assert "cannot be asked there" in asked.json["detail"]
        client.type(b"")
        await shown


async def test_nobody_is_asked_at_an_endpoint(stage: Stage) -> None:
    async with stage.desktop():
        found = await stage.app.services.kit.store.sessions.session(stage.session_id)
        assert found is not None
        at_endpoint = replace(found, endpoint_id="ept_1")
        refusal = await stage.app.services.shadows.refusal(at_endpoint, ShadowMode.VIEW)
        assert isinstance(refusal, UnsupportedError)


async def test_as_many_ask_as_may_and_no_more(stage: Stage) -> None:
    async with stage.desktop():
        assert limits.SHADOWS_PER_SESSION_MAX == 2
        first = await stage.asked()
        second = await stage.asked("interactive")
        full = await stage.ask(who="alice")
        assert full.code == "resource.conflict"
        assert full.json["detail"] == "2 at most ask to see a session, or see it; now: oliver"
        await stage.end(second, "oliver")
        assert (await stage.ask(who="alice")).status == 201
        assert (await stage.now(first))["state"] == "asked"


async def test_who_asks_twice_takes_one_place_and_the_person_is_asked_once(stage: Stage) -> None:
    async with stage.desktop():
        first = await stage.asked()
        assert await stage.asked() == first
        assert (await stage.answer(first, granted=True)).json["state"] == "allowed"
        assert await stage.asked() == first
        assert (await only_shadow(stage))["state"] == "allowed"
        assert (await stage.ask(who="alice")).status == 201
        await stage.end(first, "oliver")
        assert await stage.asked() != first


@pytest.mark.parametrize("reason", ["", "   ", "two\nlines\x07", "x" * 201])
async def test_a_reason_is_one_short_line(stage: Stage, reason: str) -> None:
    async with stage.desktop():
        assert (await stage.ask(reason=reason)).status in {400, 422}


def test_a_machine_shows_the_person_whoever_takes_over_and_every_shadow() -> None:
    assert 2 + limits.SHADOWS_PER_SESSION_MAX <= limits.CONSOLES_PER_MACHINE_MAX


# ---------------------------------------------------------------------------------- tickets


async def test_a_ticket_opens_once_and_only_for_whom_it_is(stage: Stage) -> None:
    async with stage.desktop():
        shadow_id = await stage.allowed()
        assert (await stage.call("POST", f"/shadows/{shadow_id}/ticket", "alice")).status == 403
        old, ticket = await stage.ticket(shadow_id), await stage.ticket(shadow_id)
        first, user = stage.who("oliver"), await stage.app.services.directory.user("oliver")
        again = await stage.app.signed_in(user)
        stage.app.people.update(oliver=first, again=again)
        for wrong, who in ((old, "oliver"), (ticket, "again"), ("no ticket", "oliver")):
            async with stage.shadow(shadow_id, wrong, who) as socket:
                refused = await said(socket)
                assert isinstance(refused, wire.DisplayRefused)
                assert refused.code == "ticket.refused", (who, wrong)
                await socket.receive()
                assert socket.close_code == CLOSE_REFUSED
        async with stage.shadow(shadow_id, ticket) as socket:
            assert isinstance(await said(socket), wire.DisplayReady)
            async with stage.shadow(shadow_id, ticket) as second:
                assert isinstance(await said(second), wire.DisplayRefused)
            assert not socket.closed


async def test_the_person_s_own_ticket_opens_no_shadow_and_the_other_way_round(
    stage: Stage,
) -> None:
    async with stage.desktop():
        shadow_id = await stage.allowed()
        again = await stage.app.call(
            "POST", "/sessions", stage.who("ann"), body={"pool": "library"}
        )
        async with stage.shadow(shadow_id, again.json["ticket"]) as socket:
            assert isinstance(await said(socket), wire.DisplayRefused)
        path = f"/api/v1/sessions/{stage.session_id}/display"
        ticket = await stage.ticket(shadow_id)
        async with stage._socket(path, stage.who("ann"), ticket) as own:
            assert isinstance(await said(own), wire.DisplayRefused)


async def test_a_desktop_made_fresh_while_the_ticket_is_looked_at_is_not_shown(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the next person's by then, who was not asked."""
    async with stage.desktop():
        ticket = await stage.ticket(shadow_id := await stage.allowed())
        desktops = stage.app.services.kit.store.desktops
        session = await stage.app.services.kit.store.sessions.session(stage.session_id)
        assert session is not None
        found = await desktops.desktop(session.desktop_id or "")

        async def later(_: str) -> Desktop:
            assert found is not None
            return replace(found, generation=found.generation + 1)

        monkeypatch.setattr(desktops, "desktop", later)
        async with stage.shadow(shadow_id, ticket) as socket:
            assert isinstance(await said(socket), wire.DisplayRefused)


# ------------------------------------------------------------------------ what gets through


async def test_who_looks_on_types_into_nothing(stage: Stage) -> None:
    async with stage.desktop() as own, stage.opened("view") as end:
        size = await end.greet(shared=0)
        assert stage.server.shared == 1, "it may not throw the person off"
        await end.key(F1)
        await end.socket.send_bytes(b"\x05\x01\x00\x01\x00\x01")
        await end.socket.send_bytes(b"\x06\x00\x00\x00\x00\x00\x00\x02hi")
        # what was asked for after it is answered, so what came before was heard or dropped
        await end.picture(*size)
        assert (stage.server.keys, stage.server.clicks) == ([], [])
        assert not own.closed


async def test_who_takes_part_types(stage: Stage) -> None:
    async with stage.desktop(), stage.opened("interactive") as end:
        await end.greet()
        await end.key(F1)
        await end.socket.send_bytes(b"\x06\x00\x00\x00\x00\x00\x00\x02hi")
        await end.key(F1 + 1)
        await eventually(lambda: stage.server.keys == [F1, F1 + 1])


async def test_what_the_broker_cannot_follow_ends_the_shadow(stage: Stage) -> None:
    async with stage.desktop(), stage.opened("view") as end:
        await end.greet()
        await end.socket.send_bytes(b"\x07 what is this?")
        await over(stage, end)
        assert (await only_shadow(stage))["code"] == "shadow.bad_input"


async def test_a_shadow_is_not_the_person_s_doing(stage: Stage) -> None:
    async with stage.desktop() as own, stage.opened("interactive") as end:
        await end.greet()
        displays = stage.app.broker.displays
        before = (displays._inputs.copy(), displays._bytes.copy())
        await end.key(F1)
        await eventually(lambda: stage.server.keys == [F1])
        assert (displays._inputs, displays._bytes) == before
        await own.send_bytes(b"RFB 003.008\n\x01\x01\x04\x01\x00\x00\x00\x00\x00a")
        await eventually(lambda: displays._inputs)
