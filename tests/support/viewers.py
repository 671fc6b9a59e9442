"""Viewers outside the browser, and a school whose desktops have real displays for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.model import Desktop, Host
from broker.ports import Console, Engine
from tests.support.app import App, Person, Reply, furnish, running_app
from tests.support.rfb_server import RfbServer, SocketConsole


class EngineWithPorts:
    """The Engine port over another engine; displays are connections to ports of 127.0.0.1, by
    protocol. `broken`: what every display is refused with from now on."""

    def __init__(self, inner: Engine, ports: Mapping[str, int]) -> None:
        self._inner = inner
        self.ports = dict(ports)
        self.broken: EngineError | None = None
        self.consoles: list[SocketConsole] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def displays(self, host: Host) -> frozenset[str]:
        return frozenset(self.ports)

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        if self.broken is not None:
            raise self.broken
        if protocol not in self.ports:
            raise UnsupportedError(f"{desktop.name} has no {protocol} display")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[protocol])
        self.consoles.append(SocketConsole(reader, writer, protocol))
        return self.consoles[-1]


@dataclass
class School:
    """A furnished broker; `engine` shows its desktops."""

    app: App
    engine: EngineWithPorts
    sessions: dict[str, str] = field(default_factory=dict)

    def port(self, kind: str) -> int:
        doors = self.app.services.viewers.doors
        return next(port for one, port in doors.items() if one == kind)

    async def connected(self, username: str = "ann", pool: str = "library") -> str:
        """The person's session, live or about to be, at the sign-in of that person."""
        who = self.app.people[username]
        reply = await self.app.call("POST", "/sessions", who, body={"pool": pool})
        assert reply.status in {200, 201}, reply.body
        session_id: str = reply.json["session"]["id"]
        self.sessions[username] = session_id
        return session_id

    async def file(self, kind: str, username: str = "ann", who: Person | None = None) -> Reply:
        """The answer to asking for a connection file of that person's session."""
        path = f"/sessions/{self.sessions[username]}/connection"
        who = who or self.app.people[username]
        return await self.app.call("POST", path, who, body={"kind": kind})

    async def password(self, kind: str = "vnc", username: str = "ann") -> str:
        return values_of(await self.file(kind, username))["password"]

    async def state(self, username: str = "ann") -> str:
        path = f"/sessions/{self.sessions[username]}"
        return str((await self.app.call("GET", path, self.app.people[username])).json["state"])


def values_of(reply: Reply) -> dict[str, str]:
    """The lines of a virt-viewer file."""
    assert reply.status == 200, reply.body
    head, *lines = reply.body.decode().splitlines()
    assert head == "[virt-viewer]"
    return dict(line.split("=", 1) for line in lines)


@contextlib.asynccontextmanager
async def school(
    data: Path, ports: Mapping[str, int], env: Mapping[str, str] | None = None
) -> AsyncIterator[School]:
    """A furnished broker that listens for viewers of those protocols."""
    listen = {f"TRIVIUM_{kind.upper()}_LISTEN": "127.0.0.1:0" for kind in ports}
    async with running_app(data, env={**listen, **(env or {})}) as app:
        await furnish(app)
        engines = cast("dict[str, Any]", app.broker.engines._engines)
        engine = engines["simulated"] = EngineWithPorts(engines["simulated"], ports)
        yield School(app, engine)


@contextlib.asynccontextmanager
async def vnc_school(
    data: Path, env: Mapping[str, str] | None = None, **server: Any
) -> AsyncIterator[tuple[School, RfbServer]]:
    """As `school`, with one VNC server behind all desktops."""
    async with (
        RfbServer.started(**server) as rfb,
        school(data, {"vnc": rfb.port}, env) as one,
    ):
        yield one, rfb


async def until(holds: Callable[[], Any], *, within_s: float = 60.0) -> None:
    """Return once the awaited `holds()` is true; AssertionError where it never is."""
    try:
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError("waited in vain") from None
