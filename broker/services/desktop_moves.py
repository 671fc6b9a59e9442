"""Moving one desktop to a named host while it runs: an administrator's order, carried out as the
moves are that the planner begins.

Room is given out by whoever has the planner's turn in this process, so no look of it places
something at the same moment. Another process may: then a host is overfull for once, as after a
change of its capacity, and the planner relieves it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broker import limits
from broker.domain.errors import (
    BusyError,
    HostRefusedError,
    IllegalTransitionError,
    NotFoundError,
    UnsupportedError,
)
from broker.domain.model import Desktop
from broker.domain.planning.commands import MigrateDesktop
from broker.domain.planning.ordered import Destination, destinations, stays
from broker.domain.planning.rooms import Rooms
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.reconciler.looking import Looking
from broker.services.reconciler.running import Running

_RETRY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaysOut:
    """Where a desktop can go. `refusal`: why it does not leave its host at all now, in words;
    `unsupported`: because it never can there. `hosts`: every other host, by name."""

    refusal: str
    unsupported: bool
    hosts: tuple[Destination, ...]

    @property
    def open(self) -> tuple[Destination, ...]:
        """The hosts that take it now."""
        return () if self.refusal else tuple(one for one in self.hosts if not one.refusal)


class DesktopMoves:
    """`turn`: who has it gives out hosts' room, in this process."""

    def __init__(self, kit: Kit, looking: Looking, running: Running, turn: asyncio.Lock) -> None:
        self._kit = kit
        self._looking = looking
        self._running = running
        self._turn = turn

    async def ways_out(self, desktop: Desktop) -> WaysOut:
        """Where it can go now."""
        view = await self._looking.standing()
        rooms = Rooms(view)
        refusal, unsupported = stays(view, rooms, desktop)
        found = destinations(view, rooms, desktop)
        return WaysOut(refusal=refusal, unsupported=unsupported, hosts=found)

    async def move(
        self, desktop_id: str, host: str, *, actor: str, origin: Origin = NOWHERE
    ) -> Desktop:
        """It is on its way to that host, by name or id; the display comes along.

        Raises:
            NotFoundError: there is no such desktop, or host. UnsupportedError: an engine or a
            host cannot. HostRefusedError: that host does not take it now. IllegalTransitionError:
            it does not run, moves already, or its host does not let it go now. BusyError: the
            planner did not end its look in time.
        """
        try:
            async with asyncio.timeout(limits.MOVE_TURN_S):
                await self._turn.acquire()
        except TimeoutError:
            raise BusyError("hosts are being looked at", retry_after_s=_RETRY_S) from None
        try:
            return await self._move(desktop_id, host, actor, origin)
        finally:
            self._turn.release()

    async def _move(self, desktop_id: str, host: str, actor: str, origin: Origin) -> Desktop:
        desktop = await self._desktop(desktop_id)
        ways = await self.ways_out(desktop)
        chosen = await self._chosen(desktop, ways, host)
        if ways.unsupported or chosen.unsupported:
            raise UnsupportedError(ways.refusal if ways.unsupported else chosen.refusal)
        if ways.refusal:
            raise IllegalTransitionError(ways.refusal)
        if chosen.refusal:
            raise HostRefusedError(chosen.refusal)
        command = MigrateDesktop(
            desktop=desktop,
            to_host_id=chosen.host.id,
            why=f"an administrator asked for it to go to {chosen.host.name}",
        )
        await self._running.migrate(command, action="desktop.move", actor=actor, origin=origin)
        return await self._desktop(desktop_id)

    async def _chosen(self, desktop: Desktop, ways: WaysOut, ref: str) -> Destination:
        loads = await self._kit.store.directory.host_loads()
        host = next((one.host for one in loads if ref in {one.host.id, one.host.name}), None)
        if host is None:
            raise NotFoundError(f"there is no host {ref!r}")
        if host.id == desktop.host_id:
            return Destination(host=host, refusal=f"{desktop.name} is on {host.name} already")
        found = next((one for one in ways.hosts if one.host.id == host.id), None)
        if found is None:
            why = f"no engine here is called {host.engine!r}"
            return Destination(host=host, refusal=why, unsupported=True)
        return found

    async def _desktop(self, desktop_id: str) -> Desktop:
        desktop = await self._kit.store.desktops.desktop(desktop_id)
        if desktop is None:
            raise NotFoundError(f"there is no desktop {desktop_id!r}")
        return desktop
