"""A session of ann's that is open, a desktop that remembers what it hears, staff who looks on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from broker import wire
from broker.domain.model import Desktop, Host
from broker.domain.settings import PoolSettings
from broker.events.memory import MemoryEvents
from broker.services.shadows import Shadows
from tests.support.app import App, Person, Reply
from tests.support.rfb_server import GREETING, RfbServer, SocketConsole

Socket = aiohttp.ClientWebSocketResponse
REASON = "You called about the printer"


class RfbEngine:
    """As much of the Engine port as displays ask for: consoles of one VNC server."""

    def __init__(self, server: RfbServer) -> None:
        self.server = server
        self.consoles: list[SocketConsole] = []
        self.sessions: list[str] = []

    def displays(self, host: Host) -> frozenset[str]:
        del host
        return frozenset({"vnc"})

    async def console(
        self, desktop: Desktop, session_id: str = "", protocol: str = ""
    ) -> SocketConsole:
        del desktop, protocol
        self.sessions.append(session_id)
        self.consoles.append(await self.server.console())
        return self.consoles[-1]


@dataclass
class RfbEnd:
    """A viewer's end of a display's socket: what came, byte by byte."""

    socket: Socket
    _rest: bytearray = field(default_factory=bytearray)

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(60):
            while len(self._rest) < count:
                message = await self.socket.receive()
                assert message.type is WSMsgType.BINARY, (message, self.socket.close_code)
                self._rest += message.data
        taken = bytes(self._rest[:count])
        del self._rest[:count]
        return taken

    async def greet(self, shared: int = 1) -> tuple[int, int]:
        """The whole handshake; width and height."""
        assert await self.read(12) == GREETING
        await self.socket.send_bytes(GREETING)
        types = await self.read((await self.read(1))[0])
        assert 1 in types
        await self.socket.send_bytes(b"\x01")
        assert await self.read(4) == bytes(4)
        await self.socket.send_bytes(bytes([shared]))
        head = await self.read(24)
        await self.read(int.from_bytes(head[20:24]))
        return int.from_bytes(head[0:2]), int.from_bytes(head[2:4])

    async def picture(self, width: int, height: int) -> bytes:
        """Ask for all of it; the first pixel."""
        size = width.to_bytes(2) + height.to_bytes(2)
        await self.socket.send_bytes(b"\x03\x00\x00\x00\x00\x00" + size)
        await self.read(4 + 12)
        return (await self.read(4 * width * height))[:4]

    async def key(self, keysym: int) -> None:
        await self.socket.send_bytes(b"\x04\x01\x00\x00" + keysym.to_bytes(4))

    async def ended(self) -> str:
        """Read until it is closed; the code that it is closed with."""
        async with asyncio.timeout(60):
            while (message := await self.socket.receive()).type is WSMsgType.BINARY:
                pass
        return message.extra or ""


@dataclass
class Stage:
    """`session_id`: ann's, once it is open."""

    app: App
    engine: RfbEngine
    session_id: str = ""

    @property
    def server(self) -> RfbServer:
        return self.engine.server

    def who(self, name: str) -> Person:
        return self.app.people[name]

    async def call(self, method: str, path: str, who: str, body: Any = None) -> Reply:
        address = f"/sessions/{self.session_id}{path}"
        return await self.app.call(method, address, self.who(who), body=body)

    # ------------------------------------------------------------------ displays

    @contextlib.asynccontextmanager
    async def desktop(self) -> AsyncIterator[Socket]:
        """Ann's own display, open."""
        ann = self.who("ann")
        made = await self.app.call("POST", "/sessions", ann, body={"pool": "library"})
        self.session_id = made.json["session"]["id"]
        path = f"/api/v1/sessions/{self.session_id}/display"
        async with self._socket(path, ann, made.json["ticket"]) as socket:
            ready = wire.decode_from_display((await socket.receive()).data)
            assert isinstance(ready, wire.DisplayReady)
            yield socket

    @contextlib.asynccontextmanager
    async def shadow(
        self, shadow_id: str, ticket: str, who: str = "oliver"
    ) -> AsyncIterator[Socket]:
        """The socket of a shadow, from its ticket on; its first message says whether it opened."""
        path = f"/api/v1/sessions/{self.session_id}/shadows/{shadow_id}/display"
        async with self._socket(path, self.who(who), ticket) as socket:
            yield socket

    @contextlib.asynccontextmanager
    async def opened(self, mode: str = "view", who: str = "oliver") -> AsyncIterator[RfbEnd]:
        """Asked, allowed, and open up to the first message."""
        shadow_id = await self.allowed(mode, who)
        async with self.shadow(shadow_id, await self.ticket(shadow_id, who), who) as socket:
            ready = await said(socket)
            assert isinstance(ready, wire.DisplayReady), ready
            yield RfbEnd(socket)

    @contextlib.asynccontextmanager
    async def _socket(self, path: str, who: Person, ticket: str) -> AsyncIterator[Socket]:
        url = URL(self.app.url + path)
        async with self.app.http.ws_connect(url, headers=who.headers, max_msg_size=0) as socket:
            opening = wire.DisplayOpen(ticket=ticket)
            await socket.send_str(wire.encode(opening).decode())
            yield socket

    # ------------------------------------------------------------------ what is asked

    async def ask(self, mode: str = "view", who: str = "oliver", reason: str = REASON) -> Reply:
        return await self.call("POST", "/shadows", who, {"mode": mode, "reason": reason})

    async def asked(self, mode: str = "view", who: str = "oliver") -> str:
        made = await self.ask(mode, who)
        assert made.status == 201, made.json
        return str(made.json["id"])

    async def answer(self, shadow_id: str, granted: bool, who: str = "ann") -> Reply:
        return await self.call("POST", f"/shadows/{shadow_id}/answer", who, {"granted": granted})

    async def allowed(self, mode: str = "view", who: str = "oliver") -> str:
        shadow_id = await self.asked(mode, who)
        done = await self.answer(shadow_id, granted=True)
        assert done.status == 200, done.json
        return shadow_id

    async def ticket(self, shadow_id: str, who: str = "oliver") -> str:
        given = await self.call("POST", f"/shadows/{shadow_id}/ticket", who)
        assert given.status == 200, given.json
        return str(given.json["ticket"])

    async def end(self, shadow_id: str, who: str) -> Reply:
        return await self.call("DELETE", f"/shadows/{shadow_id}", who)

    async def now(self, shadow_id: str, who: str = "oliver") -> dict[str, Any]:
        found = await self.call("GET", f"/shadows/{shadow_id}", who)
        assert found.status == 200, found.json
        return dict(found.json)

    async def written(self) -> list[tuple[str, str, str]]:
        """(action, outcome, actor's user name) of what the trail has of shadows, oldest first."""
        names = {person.id: person.username for person in self.app.people.values()}
        query = {"limit": 200, "session_id": self.session_id}
        found = await self.app.call(
            "GET", f"/audit?limit=200&session_id={query['session_id']}", self.who("alice")
        )
        return [
            (one["action"], one["outcome"], names.get(one["actor"]["id"], one["actor"]["id"]))
            for one in reversed(found.json["items"])
            if one["action"].startswith("shadow.")
        ]

    # ------------------------------------------------------------------ around it

    async def settings(self, **changes: Any) -> None:
        """The library's pool, changed."""
        services = self.app.services
        pool = await services.pools.find("library")
        changed = replace(pool, settings=PoolSettings(**changes))
        await services.kit.store.directory.save_pool(changed, new=False)
        services.pools.forget()

    def elsewhere(self) -> Shadows:
        """The same service in another broker whose hints never arrive here."""
        services = self.app.services
        kit = replace(services.kit, events=MemoryEvents())
        return Shadows(kit, services.sessions, services.pools, services.showing)


async def said(socket: Socket) -> wire.DisplayReady | wire.DisplayRefused:
    """The broker's first message on a display's socket."""
    async with asyncio.timeout(60):
        found = wire.decode_from_display((await socket.receive()).data)
    assert isinstance(found, wire.DisplayReady | wire.DisplayRefused)
    return found
