"""Which desktops have an agent that can be asked, and who asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from broker.domain.errors import EngineError, GuestSilentError, TriviumError, UnsupportedError
from broker.domain.model import Desktop, Host
from broker.limits import GUEST_ASK_S, GUEST_CALL_S
from broker.ports import Engine, GuestAgents, GuestAsk
from broker.services.kit import Kit

_HOSTS_FRESH_S: Final = 2.0
"""age after which the copy of the hosts is read again"""


class GuestReach:
    def __init__(self, kit: Kit, engines: Callable[[str], Engine]) -> None:
        self._kit = kit
        self._engines = engines
        self._hosts: dict[str, Host] = {}
        self._read_at: float | None = None

    async def agents(self, desktop: Desktop) -> GuestAgents | None:
        """The engine that speaks with this desktop's agent; None where it has none. Raises what
        the store does."""
        host = await self._host(desktop.host_id)
        if host is None:
            return None
        try:
            engine = self._engines(host.engine)
        except KeyError:
            return None
        return engine if isinstance(engine, GuestAgents) and engine.has_guests(host) else None

    async def ask(self, desktop: Desktop, ask: GuestAsk) -> None:
        """Have this process ask it. Raises EngineError for whatever went wrong, BusyError."""
        agents = await self.agents(desktop)
        if agents is None:
            raise UnsupportedError(f"{desktop.name} has no guest agent that could be asked")
        try:
            async with asyncio.timeout(GUEST_CALL_S):
                await agents.ask_guest(desktop, ask, deadline_s=GUEST_ASK_S)
        except TriviumError as error:
            if isinstance(error, EngineError):
                raise
            raise GuestSilentError(error.detail) from error
        except TimeoutError:
            raise GuestSilentError(f"the guest agent of {desktop.name} gave no answer") from None

    async def hears(self, desktop: Desktop) -> bool:
        """Whether this process hears the agent of the desktop's present generation."""
        agents = await self.agents(desktop)
        state = agents.guest(desktop.id) if agents is not None else None
        return state is not None and state.generation == desktop.generation

    async def _host(self, host_id: str | None) -> Host | None:
        if host_id is None:
            return None
        now_s = self._kit.clock.monotonic()
        stale = self._read_at is None or now_s - self._read_at >= _HOSTS_FRESH_S
        if stale or host_id not in self._hosts:
            loads = await self._kit.store.directory.host_loads()
            self._hosts = {load.host.id: load.host for load in loads}
            self._read_at = now_s
        return self._hosts.get(host_id)
