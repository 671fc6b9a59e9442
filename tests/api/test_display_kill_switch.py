"""Whoever ends a session ends its stream: over real sockets, whatever client and database do.

No time is measured here: after a kill no frame begins its way, and the waits up to the kill are
limits that are added up below.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker import limits
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import SessionState
from broker.web.display import CLOSE_ENDED, SocketClient
from tests.support.display_stage import Screen, Stage, rest, running_stage, some_frames
from tests.support.eventually import eventually


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    async with running_stage(tmp_path, monkeypatch) as one:
        yield one


def test_the_limits_before_and_after_a_kill_add_up_to_less_than_five_seconds() -> None:
    assert limits.DISPLAYS_CHECK_S + limits.DISPLAY_CLOSE_S < 5
    assert limits.DISPLAY_SIGN_IN_S + limits.DISPLAY_CLOSE_S < 5


async def test_who_signs_out_while_the_display_is_being_opened_does_not_get_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks for that may come before there is anything that could be ended."""
    looks, ann = 0, stage.app.people["ann"]
    redeem, kill = stage.app.services.sessions.redeem_display, stage.displays.kill

    async def slowly(*what: Any) -> Any:
        found = await redeem(*what)
        await stage.app.call("POST", "/auth/logout", ann)
        await eventually(lambda: looks > 1)
        return found

    def counted(session_id: str, *more: Any, **named: Any) -> bool:
        nonlocal looks
        looks += 1
        return kill(session_id, *more, **named)

    monkeypatch.setattr(stage.app.services.sessions, "redeem_display", slowly)
    monkeypatch.setattr(stage.displays, "kill", counted)
    async with stage.display() as socket:
        await rest(socket)
        assert socket.close_code is not None
    assert looks > 1


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/disconnect")])
async def test_an_administrator_ends_the_stream_with_the_session(
    stage: Stage, method: str, path: str
) -> None:
    async with stage.display() as socket:
        await some_frames(socket)
        await stage.end(method, path)
        last = await rest(socket)
        assert stage.screen.frames_at_kill is not None
        assert last <= stage.screen.frames_at_kill
        assert socket.close_code == CLOSE_ENDED
        await eventually(lambda: stage.screen.closed)
    assert stage.displays.open_count == 0


async def test_the_stream_ends_though_its_client_takes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.engine.frame_bytes = limits.FRAME_BYTES_MAX
    sent_to: list[asyncio.Transport] = []
    make = SocketClient.__init__

    def noted(self: SocketClient, socket: Any, transport: Any) -> None:
        sent_to.append(transport)
        make(self, socket, transport)

    monkeypatch.setattr(SocketClient, "__init__", noted)
    async with stage.display() as socket:
        await eventually(lambda: stage.screen.frames)
        await _until_held_back(stage.screen)
        await stage.end("DELETE", "")
        await eventually(lambda: stage.displays.open_count == 0)
        assert stage.screen.closed
        # what was on its way is thrown away, and not kept for when it wakes up
        await eventually(lambda: sent_to[0].get_write_buffer_size() == 0)
        # it wakes up much later, and what it finds began before the kill
        assert stage.screen.frames_at_kill is not None
        assert await rest(socket) < stage.screen.frames_at_kill
        assert socket.close_code != CLOSE_ENDED, "nothing was said to who does not listen"


async def _until_held_back(screen: Screen) -> None:
    """Nothing more is taken from the desktop: every buffer on the way is full."""
    before = -1
    while before != screen.frames:
        before = screen.frames
        await asyncio.sleep(0.3)


async def test_a_session_that_another_broker_ends_is_noticed_by_its_hint(stage: Stage) -> None:
    async with stage.display() as socket:
        await some_frames(socket)
        stage.app.services.kit.events.publish(
            "session", id=stage.session_id, state=SessionState.ENDING, endpoint_id=None
        )
        last = await rest(socket)
        assert stage.screen.frames_at_kill is not None
        assert last <= stage.screen.frames_at_kill


async def test_a_session_that_another_broker_ends_is_noticed_without_a_hint(stage: Stage) -> None:
    async with stage.display() as socket:
        await some_frames(socket)
        store, now = stage.app.services.kit.store, stage.app.clock.now()
        await store.sessions.advance(stage.session_id, SessionEvent.FAILED, now, why="elsewhere")
        last = await rest(socket)
        assert stage.screen.frames_at_kill is not None
        assert last <= stage.screen.frames_at_kill


async def test_a_stream_outlives_the_draining_of_its_pool_and_its_site(stage: Stage) -> None:
    async with stage.display() as socket:
        await some_frames(socket)
        alice = stage.app.people["alice"]
        drain = {"state": "draining"}
        for path, body in (("/site", drain), ("/pools/library", {"settings": drain})):
            done = await stage.app.call("PATCH", path, alice, body=body)
            assert done.status == 200, done.json
        before = stage.screen.frames
        while await some_frames(socket) < before + 1000:
            pass
        assert stage.displays.open_count == 1
        await stage.end("DELETE", "")
        await rest(socket)


async def test_a_stream_outlives_the_draining_of_its_broker_until_that_stops(stage: Stage) -> None:
    async with stage.display() as socket:
        await some_frames(socket)
        stage.app.broker.web.drain()
        draining = asyncio.ensure_future(stage.displays.drain(3600))
        before = stage.screen.frames
        while await some_frames(socket) < before + 1000:
            pass
        assert not draining.done()
        stage.app.clock.shift_s += 3600
        await rest(socket)
        assert socket.close_code == CLOSE_ENDED
        await asyncio.wait_for(draining, 30)
    # nobody ended the session: it is opened again at another broker
    found = await stage.app.services.kit.store.sessions.session(stage.session_id)
    assert found is not None
    assert found.state is SessionState.ACTIVE
