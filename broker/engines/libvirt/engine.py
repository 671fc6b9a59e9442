"""The libvirt engine: the Engine port over real hypervisors, one daemon for each host.

What there is, is what the hosts say: machines carry the broker's tags (tags.py), so a broker that
starts anew finds everything again. Only who waits for which report, and which operations were
carried out lately, is kept here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from broker.config import IMAGES_FOLDER
from broker.domain.drift import Difference
from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.inspection import Abilities, Condition, Step
from broker.domain.model import Desktop, DesktopState, Host, Image, Resources
from broker.domain.silence import Silence
from broker.domain.storage import StorageClass
from broker.engines.libvirt.cleared import clear_all
from broker.engines.libvirt.displays import Displays
from broker.engines.libvirt.golden_images import FORMAT, GoldenImages
from broker.engines.libvirt.guest_speaking import GuestSpeaking
from broker.engines.libvirt.guests import Guests
from broker.engines.libvirt.hosts import HostLink, Hosts, readable
from broker.engines.libvirt.inspector import Inspector
from broker.engines.libvirt.instant import GoldenDesktops
from broker.engines.libvirt.kinds import KINDS
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.machines import Found, fence
from broker.engines.libvirt.power import switch
from broker.engines.libvirt.tags import owner_mark
from broker.engines.libvirt.turns import Turn, Turns
from broker.engines.libvirt.verbs import Verbs
from broker.engines.reports import Reports
from broker.limits import LIBVIRT_ADOPT_S, LIST_HOST_S
from broker.ports import (
    Chance,
    Clock,
    Console,
    GuestLinks,
    Ids,
    Machine,
    MachineReport,
    Operation,
    PartialListError,
)

_log = logging.getLogger("trivium.libvirt")

_COMING_STATES = frozenset(
    {
        DesktopState.STARTING,
        DesktopState.RESETTING,
        DesktopState.RESUMING,
        DesktopState.UNPARKING,
    }
)

_Work = Callable[[Turn, HostLink, Found | None], Awaitable[None]]


class LibvirtEngine(GuestSpeaking):
    """See the module. `installation_id` marks its machines; it touches no others. `data`: the
    broker's folder, for its keys and the sockets that lead to hosts; None: only this machine's
    daemons are reached. `guest_links`: see EngineContext.guests."""

    name = "libvirt"

    def __init__(
        self, *, clock: Clock, chance: Chance, ids: Ids, installation_id: str,
        data: Path | None = None, guest_links: GuestLinks | None = None,
    ) -> None:  # fmt: skip
        self._installation_id = installation_id
        self._clock = clock
        self._reports = Reports()
        self._guests = Guests(
            clock=clock, chance=chance, ids=ids, reports=self._reports, guest_links=guest_links
        )
        self._hosts = Hosts(
            clock=clock, chance=chance, happened=self._happened, survey=self._survey,
            renewed=self._renewed, data=data, guest_links=guest_links,
        )  # fmt: skip
        self._inspector = Inspector(self._hosts, clock=clock, ids=ids, data=data)
        self._turns = Turns(installation_id)
        self._displays = Displays(self._hosts, self._guests, self._turns)
        goldens = GoldenDesktops(clock=clock, ids=ids, installation_id=installation_id)
        folder, owner = data / IMAGES_FOLDER if data else None, owner_mark(installation_id)
        images = self._images = GoldenImages(folder, clock, owner)
        self._verbs = Verbs(self._hosts, self._guests, goldens, images, self._displays.close)
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def profiles(self) -> tuple[str, ...]:
        return tuple(sorted(KINDS))

    def check_profile(self, profile: str) -> None:
        """See the port."""
        parse_profile(profile)

    def home(self, profile: str) -> Mapping[str, str]:
        """See broker.ports.ProfileReader."""
        return readable(profile).home

    def features(self, host: Host) -> frozenset[Feature]:
        """See the port; none for a profile that nobody understands."""
        try:
            return self._hosts.know(host).features
        except EngineError:
            return frozenset()

    def displays(self, host: Host) -> frozenset[str]:
        """See the port."""
        return self._displays.kinds(host)

    def storage_classes(self, host: Host) -> Mapping[str, StorageClass]:
        """See broker.ports.StorageTeller."""
        try:
            return self._hosts.know(host).storage
        except EngineError:
            return {}

    def silence(self, host: Host) -> Silence | None:
        """See broker.ports.HostListener."""
        return self._hosts.know(host).connection.silence

    async def abilities(self, host: Host) -> Abilities:
        """See broker.ports.HostInspector."""
        return await self._inspector.abilities(host)

    async def condition(self, host: Host) -> Condition:
        """See broker.ports.HostWatcher."""
        return await self._inspector.condition(host)

    def probe(self, host: Host) -> AsyncIterator[Step]:
        """See broker.ports.HostInspector."""
        return self._inspector.probe(host)

    async def drift(self, operation: Operation) -> tuple[Difference, ...]:
        """See broker.ports.DriftInspector: of machines under QEMU that are on."""
        desktop, link = operation.desktop, self._hosts.know(operation.host)
        if link.place.kind.name != "qemu":
            raise UnsupportedError(f"machines of {link.host.name} are not compared")
        async with self._turns.next(desktop.id, operation.deadline_s) as turn:
            link, found = await self._verbs.find(turn, link, desktop.id)
            fence(found, desktop.generation, desktop.name)
            if found is None:
                raise EngineError(f"there is no machine of {desktop.name}")
            there = found
            if not there.active or there.tags.generation != desktop.generation:
                return ()
            return await turn.do(link, lambda machines: machines.drift(there, operation))

    async def open(self) -> None:
        """Connections are made in the background: a host that is away keeps nobody waiting."""
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._turns.tasks = self._tasks
        self._guests.begin(self._tasks)
        self._hosts.begin(self._tasks)

    async def close(self) -> None:
        """End `reports` and every display, and hang up. Machines run on."""
        self._reports.close()
        self._displays.close_all()
        tasks, self._tasks, self._turns.tasks = self._tasks, None, None
        self._guests.end()
        self._hosts.end()
        for task in tuple(self._running):
            task.cancel()
        if tasks is not None:
            await tasks.__aexit__(None, None, None)
        await self._hosts.close()

    # ------------------------------------------------------------------------- verbs

    async def create(self, operation: Operation) -> None:
        """See the port. A machine of this generation that runs, or is suspended, is success; one
        that is off is started as it is."""
        await self._once(operation, self._verbs.create(operation), reports=True)

    async def reset(self, operation: Operation) -> None:
        """See the port. A machine that is at this generation already is success."""
        await self._once(operation, self._verbs.reset(operation), reports=True)

    async def destroy(self, operation: Operation) -> None:
        await self._once(operation, self._verbs.destroy(operation))

    async def suspend(self, operation: Operation) -> None:
        """See the port: libvirt's managed save."""
        self._need(operation.host, Feature.SUSPEND)
        await self._once(operation, self._verbs.suspend(operation), exists=True)

    async def resume(self, operation: Operation) -> None:
        """See the port."""
        await self._once(operation, self._verbs.resume(operation), reports=True, exists=True)

    async def migrate(self, operation: Operation, to: Host) -> None:
        """See the port. Both hosts are of one kind, and their disks are the same files. It may be
        at the other by an attempt of another broker's."""
        self._need(operation.host, Feature.MIGRATE)
        other = self._hosts.know(to)
        work = self._verbs.migrate(operation, to)
        await self._once(operation, work, exists=True, other=other)

    async def resize(self, operation: Operation, to: Resources) -> None:
        """See the port. More than the machine was started with is refused."""
        self._need(operation.host, Feature.RESIZE)
        await self._once(operation, self._verbs.resize(operation, to), exists=True)

    async def snapshot(self, operation: Operation, snapshot_id: str) -> int | None:
        """See the port: in the machine's own disk."""
        self._need(operation.host, Feature.SNAPSHOT)
        took: list[int | None] = []
        work = self._verbs.snapshot(snapshot_id, took)
        # not remembered: who asks again is told its size
        await self._once(operation, work, exists=True, remember=False)
        return took[0]

    async def revert(self, operation: Operation, snapshot_id: str) -> None:
        """See the port."""
        self._need(operation.host, Feature.SNAPSHOT)
        work = self._verbs.revert(operation, snapshot_id)
        await self._once(operation, work, reports=True, exists=True)

    async def drop_snapshot(self, operation: Operation, snapshot_id: str) -> None:
        """See the port."""
        self._need(operation.host, Feature.SNAPSHOT)
        await self._once(operation, self._verbs.drop_snapshot(snapshot_id), exists=True)

    async def power(self, operation_id: str, host: Host, *, on: bool, deadline_s: float) -> None:
        """See the port: what the profile says of it (off and wake)."""
        del operation_id
        self._need(host, Feature.HOST_POWER)
        await switch(self._hosts.know(host), self._clock, on=on, deadline_s=deadline_s)

    async def discard(self, machine: Machine) -> None:
        """See the port. A disk that another host's machine is on stays, and so does each where a
        host with the same storage is away."""
        async with self._turns.next(machine.desktop_id, None) as turn:
            await self._verbs.discard(turn, machine)

    async def clear_images(
        self, host: Host, removed: Sequence[Image], deadline_s: float
    ) -> tuple[str, ...]:
        """See broker.ports.ImageKeeper: in each storage pool whose desktops have qcow2 files."""
        link = self._hosts.know(host)
        if link.is_away or link.connection.failing:
            raise EngineError(f"{host.name} does not answer")
        if link.place.kind.disk_format != FORMAT:
            return ()
        mark = f"{host.id}-{self._clock.now()}"
        async with self._turns.next(f"images of {host.id}", deadline_s) as turn:
            return await clear_all(turn, link, self._images, removed, mark)

    def _need(self, host: Host, feature: Feature) -> None:
        if feature not in self._hosts.know(host).features:
            raise UnsupportedError(f"{host.name} has no {feature}")

    async def _once(
        self, operation: Operation, work: _Work, *, reports: bool = False, exists: bool = False,
        remember: bool = True, other: HostLink | None = None,
    ) -> None:  # fmt: skip
        """The desktop's next turn; an operation that was done (`remember`) is not done again, but
        whoever waits for its report gets another. `exists`: the machine is there, somewhere; at
        the `other` host, if not at its own."""
        desktop = operation.desktop
        link = self._hosts.know(operation.host)
        async with self._turns.next(desktop.id, operation.deadline_s) as turn:
            link, found = await self._verbs.find(turn, link, desktop.id, other)
            fence(found, desktop.generation, desktop.name)
            if self._turns.is_finished(operation.id):
                if reports and found is not None and found.active:
                    self._verbs.expect(link, found, operation.id)
                return
            if exists and found is None:
                raise EngineError(f"there is no machine of {desktop.name}")
            await work(turn, link, found)
            if remember:
                self._turns.remember(operation.id)

    # ------------------------------------------------------------- after a restart

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """See the port. One on a host that does not answer is found when the host is."""
        link = self._hosts.know(host)
        if link.connection.failing:
            return
        try:
            async with self._turns.next(desktop.id, LIBVIRT_ADOPT_S) as turn:
                found = await turn.do(link, lambda machines: machines.find(desktop.id))
                if found is None or not found.active:
                    return
                guest = self._verbs.listen(link, found, force=True)
                if desktop.state in _COMING_STATES and guest.generation == desktop.generation:
                    self._guests.expect(guest, "")
        except EngineError as error:
            _log.warning("%s was not taken up: %s", desktop.name, error)

    async def machines(self) -> tuple[Machine, ...]:
        """All of them by desktop id, those on hosts that are away excepted. A host whose profile
        is not understood is one that did not answer."""
        links = [link for link in self._hosts if not link.is_away]
        listed: list[Machine] = []
        silent = self._hosts.unread.silent()

        async def ask(link: HostLink) -> None:
            try:
                async with asyncio.timeout(LIST_HOST_S):
                    found = await self._listed(link)
                listed.extend([_machine(link, one) for one in found])
            except EngineError as error:
                silent[link.host.id] = error.detail
            except TimeoutError:
                silent[link.host.id] = f"no answer within {LIST_HOST_S:g} s"

        await asyncio.gather(*map(ask, links))
        listed = sorted(_at_their_places(listed), key=lambda one: one.desktop_id)
        if silent:
            raise PartialListError(listed, silent)
        return tuple(listed)

    async def _listed(self, link: HostLink) -> list[Found]:
        def work(connection: object) -> list[Found]:
            return link.machines(connection, self._installation_id).all()

        return await link.connection.call(work)

    async def _survey(self, link: HostLink) -> None:
        """A host was reached: listen to its machines, and tell of those that went meanwhile."""
        found = {one.tags.desktop_id: one for one in await self._listed(link)}
        for guest in self._guests.at(link.host.id):
            there = found.get(guest.desktop_id)
            if there is None or not there.active:
                await self._look_at(link, guest.uuid)
        for one in found.values():
            if one.active and self._guests.get(one.tags.desktop_id) is None:
                await self._look_at(link, one.uuid)

    def _renewed(self, link: HostLink) -> None:
        """The host is reached in another way from now on, and so are its guests: whoever waits for
        one of them goes on waiting."""
        for guest in self._guests.at(link.host.id):
            guest.host = link.connection

    # ----------------------------------------------------------------- what happens

    def _happened(self, link: HostLink, uuid: str) -> None:
        """A machine started or stopped: look at it once whoever works on it is done."""
        if self._tasks is not None:
            task = self._tasks.create_task(self._look_at(link, uuid), name=f"look at {uuid}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _look_at(self, link: HostLink, uuid: str) -> None:
        """Tell of a machine that stopped by itself; listen to one that somebody else started, or
        moved. What another broker suspended, moved or removed, that one tells of."""
        guest = self._guests.by_uuid(uuid)
        try:
            if guest is not None:
                desktop_id = guest.desktop_id
            else:
                found = await link.connection.call(
                    lambda one: link.machines(one, self._installation_id).at(uuid)
                )
                if found is None:
                    return
                desktop_id = found.tags.desktop_id
            async with self._turns.next(desktop_id, None) as turn:
                guest = self._guests.get(desktop_id)
                if guest is not None and guest.host is not link.connection:
                    return
                place, now = await self._verbs.find(turn, link, desktop_id)
                if now is not None and now.active:
                    self._verbs.follow(place, now, force=False)
                elif guest is not None:
                    self._displays.close(desktop_id)
                    # one that stops by itself stays defined where it was, and has no memory saved
                    if now is None or now.saved or place is not link:
                        self._guests.forget(desktop_id)
                    else:
                        self._guests.stopped(guest, "the machine stopped")
        except EngineError as error:
            _log.warning("%s did not say what became of a machine: %s", link.host.name, error)

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        """See the port."""
        return await self._displays.open(desktop, session_id, protocol or "vnc")

    def reports(self) -> AsyncIterator[MachineReport]:
        """Reports as they come, until `close`."""
        return self._reports.stream()


def _machine(link: HostLink, found: Found) -> Machine:
    return Machine(
        desktop_id=found.tags.desktop_id,
        generation=found.tags.generation,
        running=found.running,
        host_id=link.host.id,
        suspended=found.saved and not found.active,
        users=found.tags.users,
    )


def _at_their_places(listed: Iterable[Machine]) -> list[Machine]:
    """Without the other end of a move under way: there, too, libvirt lists the machine."""
    machines = list(listed)
    up = {(one.desktop_id, one.generation) for one in machines if one.running}
    return [
        one
        for one in machines
        if one.running or one.suspended or (one.desktop_id, one.generation) not in up
    ]
