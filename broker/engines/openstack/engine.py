"""The OpenStack engine: the Engine port over clouds, of which a host is one place.

What there is, is what the clouds say: servers carry the broker's tags and metadata (servers.py),
so a broker that starts anew finds everything again. Only who waits for which report, and which
operations were carried out lately, is kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from broker.domain.drift import Difference
from broker.domain.errors import EngineError, StaleGenerationError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.inspection import Abilities, Condition, Step
from broker.domain.model import Desktop, DesktopState, Host, Resources
from broker.engines.linked_guests import LinkedGuests
from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.displays import Displays
from broker.engines.openstack.guest_speaking import GuestSpeaking
from broker.engines.openstack.inspector import Inspector
from broker.engines.openstack.knobs import PROFILE, VNC, Place, parse_profile
from broker.engines.openstack.servers import Found, Servers
from broker.engines.openstack.turns import Turn, Turns
from broker.engines.openstack.verbs import CloudLink, Desk, HostLink, Verbs
from broker.engines.openstack.watch import Watch
from broker.engines.reports import Reports
from broker.engines.unread import Unread
from broker.limits import (
    LIST_HOST_S,
    OPENSTACK_CONSOLE_S,
    OPENSTACK_DISCARD_S,
    OPENSTACK_GLANCE_S,
)
from broker.ports import (
    Chance,
    Clock,
    Console,
    GuestLinks,
    Machine,
    MachineReport,
    Operation,
    PartialListError,
)

_COMING_STATES = frozenset(
    {
        DesktopState.STARTING,
        DesktopState.RESETTING,
        DesktopState.RESUMING,
        DesktopState.UNPARKING,
    }
)

_Work = Callable[[Desk], Awaitable[None]]


class OpenStackEngine(GuestSpeaking):
    """See the module. `installation_id` marks its servers; it touches no others. `clouds`: the
    clouds.yaml that says where clouds are and as whom to speak to them. `guest_links`: see
    EngineContext.guests."""

    name = "openstack"
    profiles: tuple[str, ...] = (PROFILE,)

    def __init__(
        self, *, clock: Clock, chance: Chance, installation_id: str, clouds: Path,
        guest_links: GuestLinks | None = None,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._chance = chance
        self._installation_id = installation_id
        self._file = clouds
        self._reports = Reports()
        self._turns = Turns(installation_id)
        self._displays = Displays()
        self._verbs = Verbs(clock, self._displays.end, guest_links)
        self._guests = LinkedGuests(
            clock=clock, chance=chance, reports=self._reports, links=guest_links
        )
        self._hosts: dict[str, HostLink] = {}
        self._unread = Unread()
        self._clouds: dict[tuple[str, str], CloudLink] = {}
        self._inspector = Inspector(self._know, clouds=clouds)
        self._tasks: asyncio.TaskGroup | None = None

    def check_profile(self, profile: str) -> None:
        """See the port."""
        parse_profile(profile)

    def home(self, profile: str) -> Mapping[str, str]:
        """See broker.ports.ProfileReader."""
        return parse_profile(profile).home

    def features(self, host: Host) -> frozenset[Feature]:
        """See the port; none for a profile that nobody understands."""
        try:
            return self._know(host).place.features
        except EngineError:
            return frozenset()

    def displays(self, host: Host) -> frozenset[str]:
        """See the port: what the profile says; whether the cloud has it is seen with the first."""
        try:
            return self._know(host).place.displays
        except EngineError:
            return frozenset()

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
        """See broker.ports.DriftInspector: as far as Nova tells. Nothing while somebody works on
        the machine."""
        home, desktop = self._know(operation.host), operation.desktop
        if self._turns.is_busy(desktop.id):
            return ()
        compared = home.link.cloud.call(
            lambda one: Servers(one, self._installation_id).drift(home.place, operation)
        )
        try:
            async with asyncio.timeout(operation.deadline_s):
                return await asyncio.shield(compared)
        except TimeoutError:
            raise EngineError(f"{home.host.name} did not answer in time") from None

    async def open(self) -> None:
        """Clouds are looked at in the background: one that is away keeps nobody waiting."""
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._guests.begin(self._tasks)
        for link in self._clouds.values():
            self._tend(link)

    async def close(self) -> None:
        """End `reports` and displays, and hang up. Servers run on."""
        self._reports.close()
        await self._displays.close()
        tasks, self._tasks = self._tasks, None
        self._guests.end()
        for link in self._clouds.values():
            if link.task is not None:
                link.task.cancel()
        if tasks is not None:
            await tasks.__aexit__(None, None, None)
        for link in self._clouds.values():
            await link.cloud.close()

    # ------------------------------------------------------------------------- verbs

    async def create(self, operation: Operation) -> None:
        """See the port: Nova has placed it, and builds. A server of this generation that runs, or
        is suspended, is success; one that is off is started as it is."""
        home = self._know(operation.host)
        await self._once(operation, self._verbs.create(operation, home), reports=True)

    async def reset(self, operation: Operation) -> None:
        """See the port: a rebuild where it is, or a new server where that cannot be."""
        home = self._know(operation.host)
        await self._once(operation, self._verbs.reset(operation, home), reports=True)

    async def destroy(self, operation: Operation) -> None:
        await self._once(operation, self._verbs.destroy())

    async def suspend(self, operation: Operation) -> None:
        self._need(operation.host, Feature.SUSPEND)
        await self._once(operation, self._verbs.suspend(operation), exists=True)

    async def resume(self, operation: Operation) -> None:
        await self._once(operation, self._verbs.resume(operation), reports=True, exists=True)

    async def migrate(self, operation: Operation, to: Host) -> None:
        """See the port: Nova's live migration, which administrators may ask for."""
        self._need(operation.host, Feature.MIGRATE)
        ends = self._know(operation.host), self._know(to)
        if ends[0].link is not ends[1].link or not ends[1].place.host:
            raise UnsupportedError(f"{to.name} is not a compute host of the same cloud")
        known = {one.place.host: one.host.id for one in self._hosts.values() if one.place.host}
        work = self._verbs.migrate(operation, to, ends[1].place, known)
        await self._once(operation, work, exists=True)

    async def resize(self, operation: Operation, to: Resources) -> None:
        """See the port: never, for Nova's resize restarts the server."""
        del to
        self._need(operation.host, Feature.RESIZE)

    async def snapshot(self, operation: Operation, snapshot_id: str) -> int | None:
        """See the port: never, for Nova's snapshot is an image, and a server cannot go back."""
        del snapshot_id
        self._need(operation.host, Feature.SNAPSHOT)
        return None

    async def revert(self, operation: Operation, snapshot_id: str) -> None:
        """See the port: never, as `snapshot`."""
        del snapshot_id
        self._need(operation.host, Feature.SNAPSHOT)

    async def drop_snapshot(self, operation: Operation, snapshot_id: str) -> None:
        """See the port: never, as `snapshot`."""
        del snapshot_id
        self._need(operation.host, Feature.SNAPSHOT)

    async def power(self, operation_id: str, host: Host, *, on: bool, deadline_s: float) -> None:
        """See the port: never, for Nova does not switch hosts on and off."""
        del operation_id, on, deadline_s
        self._need(host, Feature.HOST_POWER)

    async def discard(self, machine: Machine) -> None:
        """See the port: in the cloud of its host, or wherever it is. A cloud that is away keeps
        it in no other; one that is of another generation there is not the one that was meant."""
        home = self._hosts.get(machine.host_id)
        links = [*self._clouds.values()]
        if home is not None:
            links.sort(key=lambda link: link is not home.link)
        silent: list[EngineError] = []
        async with self._turns.next(machine.desktop_id, OPENSTACK_DISCARD_S) as turn:
            for link in links:
                try:
                    desk = await self._desk(turn, link, machine.desktop_id)
                    _fence(desk.best, machine.generation)
                    at_home = home is not None and link is home.link
                    meant = [
                        one for one in desk.found if at_home or one.generation == machine.generation
                    ]
                    await self._verbs.remove(desk, meant)
                except StaleGenerationError:
                    raise
                except EngineError as error:
                    silent.append(error)
                    continue
                if meant and at_home:
                    return
        if silent:
            raise silent[0]

    def _need(self, host: Host, feature: Feature) -> None:
        if feature not in self._know(host).place.features:
            raise UnsupportedError(f"{host.name} has no {feature}")

    async def _once(
        self, operation: Operation, work: _Work, *, reports: bool = False, exists: bool = False
    ) -> None:
        """The desktop's next turn; an operation that was done is not done again, but whoever
        waits for its report gets another, unless the cloud did not do it after all. `exists`: the
        server is there."""
        desktop, home = operation.desktop, self._know(operation.host)
        async with self._turns.next(desktop.id, operation.deadline_s) as turn:
            desk = await self._find(turn, home.link, desktop.id)
            _fence(desk.best, desktop.generation)
            unmade = desk.best is not None and desk.best.unmade
            if self._turns.is_finished(operation.id) and not (reports and unmade):
                if reports and desk.best is not None and desk.best.running:
                    desk.expect(operation)
                return
            if exists and desk.best is None:
                raise EngineError(f"there is no machine of {desktop.name}")
            await work(desk)
            self._turns.remember(operation.id)

    async def _find(self, turn: Turn, home: CloudLink, desktop_id: str) -> Desk:
        """At home, or wherever else it is; another cloud that is away has none."""
        desk = await self._desk(turn, home, desktop_id)
        for link in tuple(self._clouds.values()):
            if desk.found:
                break
            if link is not home:
                with contextlib.suppress(EngineError, TimeoutError):
                    async with asyncio.timeout(OPENSTACK_GLANCE_S):
                        other = await self._desk(turn, link, desktop_id)
                    desk = other if other.found else desk
        return desk

    async def _desk(self, turn: Turn, link: CloudLink, desktop_id: str) -> Desk:
        found = await turn.do(link.cloud, lambda servers: servers.of(desktop_id))
        return Desk(turn=turn, link=link, found=found, desktop_id=desktop_id)

    # ------------------------------------------------------------- after a restart

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """See the port. The next look at its cloud finds it, or does not."""
        link = self._know(host).link
        if desktop.state in _COMING_STATES:
            link.watch.expect(desktop.id, desktop.generation, "")

    async def machines(self) -> tuple[Machine, ...]:
        """All of them by desktop id; see the port for clouds that do not answer, of which a place
        whose profile is not understood may be one."""
        listed: list[Machine] = []
        silent = self._unread.silent()

        async def ask(link: CloudLink) -> None:
            try:
                async with asyncio.timeout(LIST_HOST_S):
                    found = await asyncio.shield(link.cloud.call(link.watch.look))
            except (EngineError, TimeoutError) as error:
                late = f"no answer within {LIST_HOST_S:g} s"
                why = error.detail if isinstance(error, EngineError) else late
                hosts = [one.host.id for one in self._hosts.values() if one.link is link]
                silent.update(dict.fromkeys(hosts, why))
                return
            places = {
                one.place.host: one.host.id
                for one in self._hosts.values()
                if one.link is link and one.place.host
            }
            listed.extend([_machine(one, places) for one in found])

        await asyncio.gather(*map(ask, tuple(self._clouds.values())))
        listed.sort(key=lambda one: one.desktop_id)
        if silent:
            raise PartialListError(listed, silent)
        return tuple(listed)

    # --------------------------------------------------------------------- displays

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        """See the port: Nova hands out the address of its console proxy with a token, and the
        broker is what connects there. The oldest goes when a machine has too many. Raises
        ConsoleProxyError when the proxy shows nothing."""
        home = self._hosts.get(desktop.host_id or "")
        if home is None:
            raise EngineError(f"{desktop.name} does not run")
        protocol = protocol or VNC
        if protocol not in home.place.displays:
            raise UnsupportedError(f"{home.host.name} shows no {protocol.upper()} displays")
        async with self._turns.next(desktop.id, OPENSTACK_CONSOLE_S) as turn:
            desk = await self._find(turn, home.link, desktop.id)
            there = desk.best
            if there is None or not there.ready:
                raise EngineError(f"{desktop.name} does not run")
            if there.generation != desktop.generation:
                raise EngineError(f"{desktop.name} has been made fresh since")
            handed = await desk.do(lambda servers: servers.show(there, session_id))
            return await self._displays.open(desktop.id, handed)

    def reports(self) -> AsyncIterator[MachineReport]:
        """Reports as they come, until `close`."""
        return self._reports.stream()

    # ------------------------------------------------------------------------ parts

    def _know(self, host: Host) -> HostLink:
        """The host as the newest record that was shown says: whoever comes with an older one read
        it before it was changed. Raises NotHereError where its profile is not understood."""
        with self._unread.reading(host):
            return self._known(host)

    def _known(self, host: Host) -> HostLink:
        known = self._hosts.get(host.id)
        if known is not None and host.revision < known.host.revision:
            return known
        if known is None or known.host.profile != host.profile:
            place = parse_profile(host.profile)
            known = HostLink(host, place, self._linked(place))
        elif known.host is not host:
            known = HostLink(host, known.place, known.link)
        self._hosts[host.id] = known
        self._leave_unused()
        return known

    def _leave_unused(self) -> None:
        """Look no more at a cloud that no host is in: the last one got another profile."""
        used = {id(one.link) for one in self._hosts.values()}
        for key, link in tuple(self._clouds.items()):
            if id(link) not in used:
                del self._clouds[key]
                if link.task is not None:
                    link.task.cancel()
                link.cloud.leave()

    def _linked(self, place: Place) -> CloudLink:
        key = (place.cloud, place.region)
        link = self._clouds.get(key)
        if link is None:
            cloud = Cloud(name=place.cloud, region=place.region, clouds=self._file)
            watch = Watch(
                cloud, installation_id=self._installation_id, clock=self._clock,
                chance=self._chance, reports=self._reports, is_busy=self._turns.is_busy,
                left=self._displays.end, guests=self._guests,
            )  # fmt: skip
            link = self._clouds[key] = CloudLink(cloud, watch)
            self._tend(link)
        return link

    def _tend(self, link: CloudLink) -> None:
        if self._tasks is not None and link.task is None:
            name = f"cloud {link.cloud.name}"
            link.task = self._tasks.create_task(link.watch.run(), name=name)


def _fence(found: Found | None, generation: int) -> None:
    if found is not None and found.generation > generation:
        raise StaleGenerationError


def _machine(found: Found, places: dict[str, str]) -> Machine:
    return Machine(
        desktop_id=found.desktop_id,
        generation=found.generation,
        running=found.running,
        host_id=places.get(found.compute, found.host_id),
        suspended=found.suspended,
        users=found.users,
    )
