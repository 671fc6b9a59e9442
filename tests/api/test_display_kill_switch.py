"""Whoever ends a session ends its stream: over real sockets, whatever client and database do.

No time is measured here: after a kill no frame begins its way, and the waits up to the kill are
limits that are added up below.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import WSMsgType
from yarl import URL

from broker import limits, wire
from broker.domain.errors import UnavailableError
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import Desktop, SessionState
from broker.gateway.desk import end_displays
from broker.web.display import CLOSE_ENDED, SocketClient
from broker.web.guard import GuardLimits
from tests.support.app import App, furnish, running_app
from tests.support.eventually import eventually


class Screen:
    """A desktop that always has something new: frame after frame, each with its number."""

    protocol = "vnc"
    size = (0, 0)

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self.frames = 0
        self.frames_at_kill: int | None = None
        self.closed = False

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        self.frames += 1
        return self.frames.to_bytes(8) + bytes(self._frame_bytes - 8)

    async def send(self, data: bytes) -> None:
        del data

    async def close(self) -> None:
        self.closed = True


class ScreenEngine:
    """As much of the Engine port as a display asks for."""

    def __init__(self) -> None:
        self.frame_bytes = 64
        self.screens: list[Screen] = []

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Screen:
        del desktop, session_id, protocol
        self.screens.append(Screen(self.frame_bytes))
        return self.screens[-1]


class Stage:
    """A broker whose desktops always draw, and one open display of ann's."""

    def __init__(self, app: App, engine: ScreenEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.engine = engine
        self.displays = app.broker.displays
        self.session_id = ""
        self._note_kills(monkeypatch)

    def _note_kills(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kill = self.displays.kill

        def noted(session_id: str, *more: Any, **named: Any) -> bool:
            done = kill(session_id, *more, **named)
            if done and self.screen.frames_at_kill is None:
                self.screen.frames_at_kill = self.screen.frames
            return done

        monkeypatch.setattr(self.displays, "kill", noted)

    @property
    def screen(self) -> Screen:
        return self.engine.screens[-1]

    @contextlib.asynccontextmanager
    async def display(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        ann = self.app.people["ann"]
        made = await self.app.call("POST", "/sessions", ann, body={"pool": "library"})
        self.session_id = made.json["session"]["id"]
        url = URL(f"{self.app.url}/api/v1/sessions/{self.session_id}/display")
        async with self.app.http.ws_connect(url, headers=ann.headers, max_msg_size=0) as socket:
            opening = wire.DisplayOpen(ticket=made.json["ticket"])
            await socket.send_str(wire.encode(opening).decode())
            ready = wire.decode_from_display((await socket.receive()).data)
            assert isinstance(ready, wire.DisplayReady)
            assert ready.protocol == "vnc"
            yield socket

    async def end(self, method: str, path: str) -> None:
        """The administrator does that to the session."""
        address = f"/sessions/{self.session_id}{path}"
        done = await self.app.call(method, address, self.app.people["alice"])
        assert done.status in {200, 202}, done.json

    async def state(self) -> str:
        found = await self.app.call("GET", f"/sessions/{self.session_id}", self.app.people["ann"])
        return str(found.json["state"])


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr("broker.web.display.EVENTS_BEAT_S", 0.05)
    monkeypatch.setattr("broker.gateway.desk.DISPLAYS_CHECK_S", 0.05)
    # the guard against slow clients, which comes later, is not what ends anything here
    async with running_app(tmp_path, guard=GuardLimits(write_stalled_s=3600)) as app:
        await furnish(app)
        engine = ScreenEngine()
        engines = cast("dict[str, object]", app.broker.engines._engines)
        monkeypatch.setitem(engines, "simulated", engine)
        one = Stage(app, engine, monkeypatch)
        ends = asyncio.ensure_future(end_displays(app.services.kit, app.broker.displays))
        await asyncio.sleep(0)
        yield one
        ends.cancel()
        await asyncio.wait([ends])
        monkeypatch.undo()


async def some_frames(socket: aiohttp.ClientWebSocketResponse, count: int = 20) -> int:
    """The number of the last of so many frames."""
    last = 0
    async with asyncio.timeout(30):
        for _ in range(count):
            message = await socket.receive()
            assert message.type is WSMsgType.BINARY, message
            last = int.from_bytes(message.data[:8])
    return last


async def rest(socket: aiohttp.ClientWebSocketResponse) -> int:
    """The number of the last frame before the end."""
    last = 0
    async with asyncio.timeout(60):
        while True:
            message = await socket.receive()
            if message.type is not WSMsgType.BINARY:
                return last
            last = int.from_bytes(message.data[:8])


def test_the_limits_before_and_after_a_kill_add_up_to_less_than_five_seconds() -> None:
    assert limits.DISPLAYS_CHECK_S + limits.DISPLAY_CLOSE_S < 5


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


async def test_a_stream_outlives_an_outage_of_the_database(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stage.app.services.kit.store
    asked: list[str] = []

    async with stage.display() as socket:
        await some_frames(socket)
        with monkeypatch.context() as outage:
            for part, names in {
                store.sessions: ("some", "session", "note_phases", "active"),
                store.credentials: ("identities",),
            }.items():
                for name in names:
                    outage.setattr(part, name, _away(name, asked))
            while not {"some", "identities"} <= set(asked):
                await some_frames(socket)
            await stage.displays.flush()
            assert "note_phases" in asked
            carried = await some_frames(socket, 100)
        # it is back: the stream is as it was, and what it carried meanwhile is counted
        await some_frames(socket)
        assert await stage.state() == SessionState.ACTIVE
        await stage.displays.flush()
        session = await store.sessions.session(stage.session_id)
        assert session is not None
        assert session.traffic.display >= 64 * carried
        await stage.end("DELETE", "")
        await rest(socket)


def _away(name: str, asked: list[str]) -> Any:
    async def call(*args: object, **named: object) -> None:
        del args, named
        asked.append(name)
        raise UnavailableError("the database is away")

    return call


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
