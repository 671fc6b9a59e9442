"""What each verb does, once its turn has come.

The caller (engine.py) has the desktop's turn, has found the machine, held the operation's
generation against it, and knows that the operation was not carried out yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from broker.domain.errors import EngineError, StaleGenerationError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.model import Host, HostState, Resources
from broker.engines.libvirt import moves
from broker.engines.libvirt.golden_images import GoldenImages
from broker.engines.libvirt.guests import Guest, Guests
from broker.engines.libvirt.hosts import HostLink, Hosts
from broker.engines.libvirt.instant import Golden, GoldenDesktops, InstantClones, equip
from broker.engines.libvirt.kinds import Clone
from broker.engines.libvirt.machines import Begin, Found, Machines, fence
from broker.engines.libvirt.snapshots import Snapshots, under
from broker.engines.libvirt.turns import Turn
from broker.ports import Machine, Operation

Work = Callable[[Turn, HostLink, Found | None], Awaitable[None]]
"""a verb, given its turn, where the machine is (or should be), and the machine"""


class Verbs:
    def __init__(
        self,
        hosts: Hosts,
        guests: Guests,
        goldens: GoldenDesktops,
        images: GoldenImages,
        close_displays: Callable[[str], object],
    ) -> None:
        self._goldens = goldens
        self._images = images
        self._hosts = hosts
        self._guests = guests
        self._close_displays = close_displays

    # ------------------------------------------------------------------------ finding

    async def find(
        self, turn: Turn, link: HostLink, desktop_id: str, other: HostLink | None = None
    ) -> tuple[HostLink, Found | None]:
        """The machine where the store believes it, where it was heard last, at that `other` host,
        or at any host that answers; where it is nowhere, the first of these."""
        guest = self._guests.get(desktop_id)
        heard = self._hosts.get(guest.host_id) if guest is not None else None
        for one in dict.fromkeys((heard or link, link, other or link)):
            found = await turn.do(one, lambda machines: machines.find(desktop_id))
            if found is not None:
                return one, found
        return await self._elsewhere(turn, link, desktop_id) or (link, None)

    async def _elsewhere(
        self, turn: Turn, link: HostLink, desktop_id: str
    ) -> tuple[HostLink, Found] | None:
        """At another host, of those that answer soon."""
        others = [
            one
            for one in self._hosts
            if one is not link and not one.is_away and not one.connection.lost.is_set()
        ]
        looks = (turn.glance(one, lambda machines: machines.find(desktop_id)) for one in others)
        for one, found in zip(others, await asyncio.gather(*looks), strict=True):
            if found is not None:
                return one, found
        return None

    def listen(self, link: HostLink, found: Found, *, force: bool, ready: bool = False) -> Guest:
        guest = Guest(
            desktop_id=found.tags.desktop_id,
            name=found.tags.name,
            uuid=found.uuid,
            generation=found.tags.generation,
            host=link.connection,
            host_id=link.host.id,
            ready=ready,
        )
        return self._guests.listen(guest, force=force)

    def expect(self, link: HostLink, found: Found, operation_id: str) -> None:
        """That operation's report follows."""
        self._guests.expect(self.listen(link, found, force=True), operation_id)

    # ----------------------------------------------------------- made, fresh, gone

    def create(self, operation: Operation) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            if found is None or found.tags.generation != operation.desktop.generation:
                await self._make(turn, operation, link, found)
                return
            there = found
            if there.active:
                await self._equip(turn, link, there)
            elif not there.saved:
                await self._start(turn, link, there, operation)
            if not there.saved or there.active:
                self.expect(link, there, operation.id)

        return work

    def reset(self, operation: Operation) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            same = found is not None and found.tags.generation == operation.desktop.generation
            if found is None or not same or not (found.active or found.saved):
                await self._make(turn, operation, link, found)
            elif found.active:
                await self._equip(turn, link, found)
                self.expect(link, found, operation.id)

        return work

    async def _equip(self, turn: Turn, link: HostLink, found: Found) -> None:
        """An instant clone that an attempt before woke may lack its network card."""
        if link.place.clone is Clone.INSTANT:
            await turn.do(link, lambda machines: equip(machines, found))

    async def _make(
        self, turn: Turn, operation: Operation, place: HostLink, found: Found | None
    ) -> None:
        """Fresh, where the store believes it: one that is elsewhere, by a move that nobody waited
        for, comes home."""
        desktop, home = operation.desktop, self._hosts.know(operation.host)
        self._leave(desktop.id)
        if found is not None and place is not home:
            await self._remove(turn, place, desktop.id, found.tags.generation, found)
        made = await self._made(turn, home, operation)
        self.expect(home, made, operation.id)

    async def _made(self, turn: Turn, home: HostLink, operation: Operation) -> Found:
        await self._images.ensure(turn, home, operation.image, operation.storage)
        pool = home.place.at(operation.storage).pool
        if home.place.clone is not Clone.INSTANT:
            return await turn.do(
                home, lambda machines: machines.make(operation, turn.check), pool=pool
            )

        def make(machines: Machines, golden: Golden) -> Found:
            clones = InstantClones(machines, operation.storage)
            begin = Begin(
                disk=lambda: clones.disk(golden, operation),
                wake=lambda domain: clones.wake(golden, domain),
            )
            return machines.make(operation, turn.check, begin)

        async with self._goldens.lock(home, operation):
            golden = await self._goldens.ensure(turn, home, operation)
            return await turn.do(home, lambda machines: make(machines, golden), pool=pool)

    async def _remove(
        self, turn: Turn, link: HostLink, desktop_id: str, last: int, found: Found | None
    ) -> None:
        """The machine `found`, and its desktop's disks up to the generation `last`."""
        pool = await _pool_of(turn, link, found)
        await turn.do(link, lambda machines: machines.remove(desktop_id, last), pool=pool)

    async def _start(self, turn: Turn, link: HostLink, found: Found, operation: Operation) -> None:
        pool = await _pool_of(turn, link, found)
        await turn.do(link, lambda machines: machines.start(found, operation), pool=pool)

    def destroy(self, operation: Operation) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            desktop = operation.desktop
            generation = found.tags.generation if found is not None else desktop.generation
            self._leave(desktop.id)
            await self._remove(turn, link, desktop.id, generation, found)

        return work

    async def discard(self, turn: Turn, machine: Machine) -> None:
        link = self._hosts.get(machine.host_id)
        if link is None:
            raise EngineError("the machine's host is not known")
        found = await turn.do(link, lambda machines: machines.find(machine.desktop_id))
        if found is None:
            return
        fence(found, machine.generation, found.tags.name)
        guest = self._guests.get(machine.desktop_id)
        if guest is None or guest.host is link.connection:
            self._leave(machine.desktop_id)
        generation = found.tags.generation
        disks = await self._disks_elsewhere(turn, link, machine.desktop_id, generation)
        last = min((generation, *(disk - 1 for disk in disks)))
        await self._remove(turn, link, machine.desktop_id, last, found)

    async def _disks_elsewhere(
        self, turn: Turn, link: HostLink, desktop_id: str, generation: int
    ) -> list[int]:
        """The generations of the disks that another host's machine of it is on, or may be: one
        that has the same storage and is away may have it on any, and so may one whose profile is
        not understood. Raises EngineError."""
        disks = [1 for _ in self._hosts.unread.others(link.host.id)]
        for one in self._hosts:
            if one is link or one.host.state is HostState.RETIRED:
                continue
            same = _may_share(link, one)
            if one.is_away:
                disks += [1] if same else []
                continue
            found = await turn.do(one, lambda machines: machines.find(desktop_id))
            if found is not None and (same or found.tags.generation == generation):
                disks.append(found.tags.on_disk)
        return disks

    def _leave(self, desktop_id: str) -> None:
        """What follows is not a machine that stopped by itself."""
        self._guests.forget(desktop_id)
        self._close_displays(desktop_id)

    # -------------------------------------------------------------------- suspended

    def suspend(self, operation: Operation) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            there = _there(found)
            if not there.active:
                if there.saved:
                    return
                raise EngineError(f"{operation.desktop.name} does not run")
            if operation.id in there.tags.operations:
                return
            await turn.do(
                link,
                lambda machines: machines.suspend(there, operation),
                undo=lambda machines: machines.abort(there),
            )
            self._leave(operation.desktop.id)

        return work

    def resume(self, operation: Operation) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            there = _there(found)
            if there.tags.generation < operation.desktop.generation:
                self._leave(operation.desktop.id)
                there = under(there, operation.desktop.generation)
                tags = there.tags
                await turn.do(link, lambda machines: machines.tag(there, tags))
            if operation.restart and there.active and operation.id not in there.tags.operations:
                self._leave(operation.desktop.id)
                pool = await _pool_of(turn, link, there)
                await turn.do(link, lambda machines: machines.restart(there, operation), pool=pool)
            elif not there.active:
                if operation.id in there.tags.operations:
                    return
                await self._start(turn, link, there, operation)
                self.listen(link, there, force=True).woken |= there.saved
            elif not there.running:
                await self._check_stayed(turn, link, there)
                await turn.do(link, lambda machines: machines.unpause(there))
                self._guests.tell_time(operation.desktop.id)
            self.expect(link, there, operation.id)

        return work

    async def _check_stayed(self, turn: Turn, link: HostLink, found: Found) -> None:
        """Raises EngineError where a move may have brought it elsewhere: two would run on its
        disk."""
        tags, uuid = found.tags, found.uuid
        by_move = await turn.do(
            link, lambda machines: moves.left(machines.connection, machines.host, uuid)
        )
        if by_move and await self._disks_elsewhere(turn, link, tags.desktop_id, tags.generation):
            raise EngineError(f"{tags.name} stands still by a move, and may run elsewhere")

    # -------------------------------------------------------------------- snapshots

    def snapshot(self, snapshot_id: str, took: list[int | None]) -> Work:
        """`took` is given the bytes that it took."""

        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            there = _there(found)
            took.append(
                await turn.do(
                    link,
                    lambda machines: Snapshots(machines, there).take(snapshot_id),
                    slow=True,
                )
            )
            # it stood still meanwhile, and its agent did not notice
            self._guests.tell_time(there.tags.desktop_id)

        return work

    def revert(self, operation: Operation, snapshot_id: str) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            there, desktop = _there(found), operation.desktop
            done = operation.id in there.tags.operations
            if not done and there.tags.generation == desktop.generation:
                # it came to that generation by a resume, and is somebody's by now
                raise StaleGenerationError(f"{desktop.name} goes on as it is by now")
            if not done:
                self._leave(desktop.id)
                await turn.do(
                    link,
                    lambda machines: Snapshots(machines, there).revert(snapshot_id, operation),
                    slow=True,
                )
            elif not there.active:
                await self._start(turn, link, there, operation)
            now = _there(await turn.do(link, lambda machines: machines.find(desktop.id)))
            # a snapshot has what its pool let it take when it was made
            await turn.do(link, lambda machines: machines.tune(now, operation))
            self.listen(link, now, force=True).woken |= not done
            self.expect(link, now, operation.id)

        return work

    def drop_snapshot(self, snapshot_id: str) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            there = _there(found)
            await turn.do(
                link, lambda machines: Snapshots(machines, there).drop(snapshot_id), slow=True
            )

        return work

    # --------------------------------------------------------------- moved, resized

    def migrate(self, operation: Operation, to: Host) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            there, name = _there(found), operation.desktop.name
            if link.host.id == to.id:
                if there.active:
                    self.follow(link, there, force=True)
                return
            if not there.running:
                raise EngineError(f"{name} does not run")
            if link.host.hardware != to.hardware:
                raise UnsupportedError(f"{link.host.name} and {to.name} are not of one kind")
            memory_mib = there.memory_mib
            _check_room(to, memory_mib)
            other = self._hosts.know(to)
            if Feature.MIGRATE not in other.features:
                raise UnsupportedError(f"{to.name} takes no machines that move")
            pool = await turn.do(link, lambda machines: machines.pool_of(there))
            if not link.shares(other, pool):
                raise UnsupportedError(f"{to.name} has not the disk of {name}")
            if Feature.SNAPSHOT in link.features:
                await turn.do(link, lambda machines: Snapshots(machines, there).tidy())
            held = await turn.do(other, lambda machines: machines.expect(pool))
            _check_room(to, held + memory_mib)
            groups = await turn.do(other, lambda machines: machines.groups)
            await turn.do(
                link,
                lambda machines: machines.migrate(
                    there, other.connection.reached, operation, groups, turn.check
                ),
                undo=lambda machines: machines.abort(there),
            )
            self.follow(other, there, force=True)

        return work

    def follow(self, link: HostLink, found: Found, *, force: bool) -> None:
        """Listen to it where and as it is now; who waited for that machine waits on. It may have
        stood still."""
        before = self._guests.get(found.tags.desktop_id)
        if before is not None and before.generation != found.tags.generation:
            before = None
        ready = before is not None and before.ready
        guest = self.listen(link, found, force=force, ready=ready)
        self._guests.tell_time(guest.desktop_id)
        if before is not None and guest is not before:
            for operation_id in before.waiting:
                self._guests.expect(guest, operation_id)

    def resize(self, operation: Operation, to: Resources) -> Work:
        async def work(turn: Turn, link: HostLink, found: Found | None) -> None:
            there = _there(found)
            if not there.running:
                raise EngineError(f"{operation.desktop.name} does not run")
            try:
                await turn.do(link, lambda machines: machines.resize(there, operation, to))
            except UnsupportedError:
                link.lacks.add(Feature.RESIZE)
                raise

        return work


async def _pool_of(turn: Turn, link: HostLink, found: Found | None) -> str:
    """The storage pool of the machine's disk, where its host has several."""
    if found is None or not link.place.classes:
        return ""
    there = found
    return await turn.do(link, lambda machines: machines.pool_of(there))


def _there(found: Found | None) -> Found:
    if found is None:
        raise EngineError("there is no such machine")
    return found


def _may_share(link: HostLink, other: HostLink) -> bool:
    """Whether disks there may be the other's, too. What pools of a host really are is known once
    it has been reached."""
    unseen = bool(other.place.classes) and other.connection.capabilities is None
    return unseen or any(link.shares(other, pool) for pool in link.place.pools)


def _check_room(to: Host, memory_mib: int) -> None:
    limit = to.capacity.memory_mib * to.settings.overcommit_memory
    if memory_mib > limit:
        raise EngineError(f"{to.name} lacks {round(memory_mib - limit)} MiB of memory")
