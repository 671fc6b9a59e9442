"""What each verb does, once its turn has come.

The caller (engine.py) has the desktop's turn, has found its servers, held the operation's
generation against them, and knows that the operation was not carried out yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from broker.domain.errors import EngineError
from broker.domain.model import Host
from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.knobs import Agent, Place
from broker.engines.openstack.servers import METADATA, VALUE_CHARS_MAX, Found, Servers
from broker.engines.openstack.turns import Turn
from broker.engines.openstack.watch import Watch
from broker.limits import OPENSTACK_POLL_S
from broker.ports import Clock, GuestLinks, Operation

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class CloudLink:
    """A cloud that some host's profile names."""

    cloud: Cloud
    watch: Watch
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class HostLink:
    """A host of the broker's: a place in a cloud."""

    host: Host
    place: Place
    link: CloudLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One desktop's turn: its servers, the best first, and the cloud that they are in."""

    turn: Turn
    link: CloudLink
    found: Sequence[Found]
    desktop_id: str

    @property
    def best(self) -> Found | None:
        return self.found[0] if self.found else None

    @property
    def there(self) -> Found:
        if not self.found:
            raise EngineError("there is no such machine")
        return self.found[0]

    async def do(self, work: Callable[[Servers], _T]) -> _T:
        return await self.turn.do(self.link.cloud, work)

    def expect(self, operation: Operation) -> None:
        """That operation's report follows."""
        self.link.watch.expect(self.desktop_id, operation.desktop.generation, operation.id)

    def forget(self) -> None:
        """What follows is not a machine that stopped by itself."""
        self.link.watch.forget(self.desktop_id)


Work = Callable[[Desk], Awaitable[None]]


class Verbs:
    """`dark`: called of a desktop whose displays end, though its machine runs on."""

    def __init__(
        self, clock: Clock, dark: Callable[[str], None], guest_links: GuestLinks | None = None
    ) -> None:
        self._guest_links = guest_links
        self._clock = clock
        self._dark = dark

    # ----------------------------------------------------------- made, fresh, gone

    def create(self, operation: Operation, home: HostLink) -> Work:
        async def work(desk: Desk) -> None:
            best = desk.best
            if best is None or best.generation != operation.desktop.generation:
                await self._make(desk, operation, home)
            elif best.status == "ERROR" or best.unmade:
                await self._replace(desk, operation, home)
            else:
                if not best.running and not best.suspended:
                    await desk.do(lambda servers: servers.start(best))
                if not best.suspended:
                    await self._placed(desk, best, operation)

        return work

    def reset(self, operation: Operation, home: HostLink) -> Work:
        async def work(desk: Desk) -> None:
            best = desk.best
            if best is None or best.generation != operation.desktop.generation:
                await self._make(desk, operation, home)
            elif not best.running and not best.suspended:
                await self._replace(desk, operation, home)
            elif best.running:
                await self._placed(desk, best, operation)

        return work

    async def _make(self, desk: Desk, operation: Operation, home: HostLink) -> None:
        """Fresh, where the store believes it."""
        best = desk.best
        desk.forget()
        if best is not None:
            best = await self._settled(desk, best)
        # Nova rebuilds what is suspended or broken not at all, and leaves off what is off
        stays = desk.link is home.link and best is not None and best.rebuildable
        if stays and best is not None and best.fits(home.place, operation.desktop.resources):
            there = best
            await self.remove(desk, desk.found[1:])
            given = self._given(home, operation)
            await desk.do(lambda servers: servers.rebuild(there, operation, given))
            desk.expect(operation)
        else:
            await self._replace(desk, operation, home)

    async def _replace(self, desk: Desk, operation: Operation, home: HostLink) -> None:
        given = self._given(home, operation)
        await self.remove(desk, desk.found)
        desk = replace(desk, link=home.link, found=())
        made = await desk.do(lambda servers: servers.make(home.place, operation, given))
        await self._placed(desk, made, operation)

    def _given(self, home: HostLink, operation: Operation) -> dict[str, str]:
        """What the agent must find among its server's metadata, where it is to link up."""
        if home.place.agent is not Agent.WEBSOCKET:
            return {}
        if self._guest_links is None:
            raise EngineError("this broker takes no links of guest agents")
        desktop = operation.desktop
        given = self._guest_links.given(desktop.id, desktop.generation)
        return {
            **{name.lower(): value for name, value in given.items()},
            f"{METADATA}name": desktop.name[:VALUE_CHARS_MAX],
        }

    async def _placed(self, desk: Desk, found: Found, operation: Operation) -> None:
        """A compute host has taken it, or none would."""
        placed = await self._until(desk, found, lambda one: one.placed)
        if placed.status == "ERROR":
            raise EngineError(f"{operation.host.name} could not start {operation.desktop.name}")
        desk.expect(operation)

    def destroy(self) -> Work:
        async def work(desk: Desk) -> None:
            await self.remove(desk, desk.found)

        return work

    async def remove(self, desk: Desk, found: Sequence[Found]) -> None:
        """They are gone when it returns."""
        if not found:
            return
        desk.forget()
        await desk.do(lambda servers: servers.delete(found))
        for one in found:
            while not await desk.do(partial(Servers.is_gone, found=one)):
                await self._clock.sleep(OPENSTACK_POLL_S)

    # -------------------------------------------------------------------- suspended

    def suspend(self, operation: Operation) -> Work:
        async def work(desk: Desk) -> None:
            there = await self._settled(desk, desk.there)
            if there.suspended or operation.id in there.operations:
                return
            if not there.ready:
                raise EngineError(f"{operation.desktop.name} does not run")
            desk.forget()
            await desk.do(lambda servers: servers.suspend(there))
            after = await self._settled(desk, there)
            if not after.suspended:
                raise EngineError(f"{operation.desktop.name} was not suspended")
            await desk.do(lambda servers: servers.tag(after, operation.id))

        return work

    def resume(self, operation: Operation) -> Work:
        async def work(desk: Desk) -> None:
            there = await self._settled(desk, desk.there)
            if there.unmade:
                raise EngineError(f"{operation.desktop.name} was not made fresh")
            if operation.id not in there.operations:
                await self._wake(desk, there, operation)
            elif not there.running:
                return
            desk.expect(operation)

        return work

    async def _wake(self, desk: Desk, there: Found, operation: Operation) -> None:
        if there.ready and not operation.restart:
            return
        desk.forget()
        if there.ready:
            await desk.do(lambda servers: servers.restart(there))
        elif there.suspended:
            await desk.do(lambda servers: servers.resume(there))
        else:
            await desk.do(lambda servers: servers.start(there))
        await desk.do(lambda servers: servers.tag(there, operation.id))

    # ------------------------------------------------------------------------ moved

    def migrate(self, operation: Operation, to: Host, place: Place, hosts: dict[str, str]) -> Work:
        """`hosts`: compute host -> host id, of those that are known."""

        async def work(desk: Desk) -> None:
            there = await self._settled(desk, desk.there)
            name = operation.desktop.name
            if there.compute != place.host:
                if not there.ready:
                    raise EngineError(f"{name} does not run")
                await self._check_room(desk, there, to, hosts)
                await desk.do(lambda servers: servers.migrate(there, place.host))
                there = await self._settled(desk, there)
                self._dark(desk.desktop_id)
                if there.compute != place.host:
                    raise EngineError(f"{name} was not moved to {to.name}")
            if there.host_id != to.id:
                moved = there
                await desk.do(lambda servers: servers.tag(moved, operation.id, to.id))

        return work

    async def _check_room(self, desk: Desk, found: Found, to: Host, hosts: dict[str, str]) -> None:
        """What the broker gives of that host, which may be less than Nova would."""
        others = await desk.do(lambda servers: servers.all())
        _, held, _ = found.flavor
        for one in others:
            if hosts.get(one.compute, one.host_id) == to.id and not one.suspended:
                held += one.flavor[1]
        lacking = held - to.capacity.memory_mib * to.settings.overcommit_memory
        if lacking > 0:
            raise EngineError(f"{to.name} lacks {round(lacking)} MiB of memory")

    # ------------------------------------------------------------------------ waits

    async def _settled(self, desk: Desk, found: Found) -> Found:
        """The server once nothing is under way with it."""
        return await self._until(desk, found, lambda one: one.at_rest)

    async def _until(self, desk: Desk, found: Found, holds: Callable[[Found], bool]) -> Found:
        """The turn's deadline ends the wait."""
        while True:
            now = await self._at(desk, found)
            if now is None:
                raise EngineError("the machine is gone")
            if holds(now):
                return now
            await self._clock.sleep(OPENSTACK_POLL_S)

    async def _at(self, desk: Desk, found: Found) -> Found | None:
        return await desk.do(lambda servers: servers.at(found.id))
