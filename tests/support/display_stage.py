"""A broker whose desktops always draw, and one open display: for tests of what ends it, or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import WSMsgType
from yarl import URL

from broker import wire
from broker.domain.model import Desktop, Host
from broker.gateway.desk import end_displays
from broker.web.guard import GuardLimits
from tests.support.app import App, furnish, running_app


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

    def displays(self, host: Host) -> frozenset[str]:
        del host
        return frozenset({"vnc"})

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


@contextlib.asynccontextmanager
async def running_stage(
    data: Path, monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """A broker that looks after its displays twenty times a second. `env`: of its settings."""
    monkeypatch.setattr("broker.web.display.DISPLAY_SIGN_IN_S", 0.05)
    monkeypatch.setattr("broker.gateway.desk.DISPLAYS_CHECK_S", 0.05)
    # the guard against slow clients, which comes later, is not what ends anything here
    guard = GuardLimits(write_stalled_s=3600)
    async with running_app(data, env=env, guard=guard) as app:
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
