"""An engine whose desktops have a real display: the simulated one, with a VNC server behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.model import Desktop, Host
from broker.ports import Console, Engine
from tests.support.live_broker import LiveBroker
from tests.support.rfb_server import RfbServer


class EngineWithScreen:
    """The Engine port over another engine; every desktop's display is that server's.

    `away`: displays that are refused before the next one is opened.
    """

    def __init__(self, inner: Engine, server: RfbServer) -> None:
        self._inner = inner
        self.server = server
        self.away = 0
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def displays(self, host: Host) -> frozenset[str]:
        return frozenset({"vnc"})

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        if protocol not in {"", "vnc"}:
            raise UnsupportedError(f"{desktop.name} has no display for {protocol}")
        seen = await self._inner.console(desktop, session_id)  # refuses what does not run
        await seen.close()
        if self.away:
            self.away -= 1
            raise EngineError(f"{desktop.name} does not run")
        self.opened += 1
        return await self.server.console()


class EngineThatShows:
    """The Engine port over another engine, whose hosts show desktops in these protocols, of which
    the console's page draws none: what it opens is refused."""

    def __init__(self, inner: Engine, displays: frozenset[str]) -> None:
        self._inner = inner
        self._displays = displays

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def displays(self, host: Host) -> frozenset[str]:
        return self._displays

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        raise UnsupportedError(f"{desktop.name} cannot hand over a {protocol or 'vnc'} display")


@contextlib.contextmanager
def shown_in(broker: LiveBroker, *displays: str) -> Iterator[None]:
    """From now on the hosts of this broker's simulated engine show desktops in these alone."""
    engines = broker.running.broker.engines._engines
    inner = engines["simulated"]
    engines["simulated"] = cast("Engine", EngineThatShows(inner, frozenset(displays)))
    try:
        yield
    finally:
        engines["simulated"] = inner


@contextlib.contextmanager
def with_screen(broker: LiveBroker) -> Iterator[EngineWithScreen]:
    """From now on the desktops of this broker's simulated engine have real displays."""
    started = RfbServer.started()
    server = broker.ask(started.__aenter__())
    engines = broker.running.broker.engines._engines
    inner = engines["simulated"]
    engine = EngineWithScreen(inner, server)
    engines["simulated"] = cast("Engine", engine)
    try:
        yield engine
    finally:
        engines["simulated"] = inner
        broker.ask(started.__aexit__(None, None, None))
