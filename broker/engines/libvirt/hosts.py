"""The hosts that the engine knows, each with its connection, kept up while the engine is open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.model import Host, HostState
from broker.domain.storage import SAME, StorageClass
from broker.engines.libvirt.classes import classes
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.groups import HostGroups
from broker.engines.libvirt.knobs import Place, Storage, parse_profile
from broker.engines.libvirt.machines import Machines
from broker.engines.libvirt.route import Route
from broker.engines.unread import Unread
from broker.limits import (
    LIBVIRT_SURVEY_PAUSE_S_MAX,
    LIBVIRT_SURVEY_PAUSE_S_MIN,
    STORAGE_LOOK_S,
)
from broker.ports import Chance, Clock, GuestLinks

_log = logging.getLogger("trivium.libvirt")
_AWAY = frozenset(
    {
        HostState.OFF,
        HostState.DOWN,
        HostState.POWERING_ON,
        HostState.POWERING_OFF,
        HostState.RETIRED,
    }
)


@dataclass(slots=True, eq=False)
class HostLink:
    """A host as its record says. `lacks`: what it was found unable to do."""

    host: Host
    place: Place
    connection: HostConnection
    lacks: set[Feature] = field(default_factory=set)
    groups: HostGroups = field(default_factory=HostGroups)
    guest_links: GuestLinks | None = None
    tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def features(self) -> frozenset[Feature]:
        """Machines move only where their disks are the same files at the other end. What the
        host was not found to have is not claimed."""
        found = self.place.features - self.lacks
        seen = self.connection.capabilities
        if seen is not None:
            found -= seen.lacks(self.place).keys()
        if self.place.storage is Storage.SHARED or any(one.shared for one in self.storage.values()):
            return found
        return found - {Feature.MIGRATE}

    @property
    def storage(self) -> dict[str, StorageClass]:
        """Its classes, as they were seen last."""
        return classes(self.place, self.connection.capabilities)

    def shares(self, other: HostLink, pool: str) -> bool:
        """Whether the disks in that storage pool are the other host's, too."""
        return bool(_shared(self, pool) & _shared(other, pool))

    def leave(self) -> None:
        """Keep it up no more."""
        tasks, self.tasks = self.tasks, ()
        for task in tasks:
            task.cancel()

    @property
    def is_away(self) -> bool:
        """Whether its record says that it does not answer."""
        return self.host.state in _AWAY

    def machines(self, connection: object, installation_id: str) -> Machines:
        silent = self.connection.pools.silent
        return Machines(
            connection, self.host.name, self.place, installation_id, silent, self.guest_links,
            self.groups,
        )  # fmt: skip


def _shared(link: HostLink, pool: str) -> set[str]:
    found = {one.shared for one in link.storage.values() if one.place == pool and one.shared}
    if pool == link.place.pool and link.place.storage is Storage.SHARED:
        found.add(SAME)
    return found


Happened = Callable[[HostLink, str], object]
"""called with a machine's UUID when it started or stopped"""
Survey = Callable[[HostLink], Awaitable[None]]
"""called after each connection: what is there?"""


Renewed = Callable[[HostLink], object]
"""called when a host has another connection, which nothing was asked over yet"""


def readable(profile: str) -> Place:
    """What the profile says. Raises EngineError for one that nobody understands, UnsupportedError
    for a kind on which no desktops are made."""
    place = parse_profile(profile)
    if place.kind.refuses:
        raise UnsupportedError(f"no desktops are made on {place.kind.title}: {place.kind.refuses}")
    return place


class Hosts:
    def __init__(
        self, *, clock: Clock, chance: Chance, happened: Happened, survey: Survey,
        renewed: Renewed = lambda _: None, data: Path | None = None,
        guest_links: GuestLinks | None = None,
    ) -> None:  # fmt: skip
        self._data = data
        self._guest_links = guest_links
        self._clock = clock
        self._chance = chance
        self._happened = happened
        self._survey = survey
        self._renewed = renewed
        self._left: set[HostConnection] = set()
        self._links: dict[str, HostLink] = {}
        self.unread = Unread()
        self._tasks: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[HostLink]:
        return iter(tuple(self._links.values()))

    def get(self, host_id: str) -> HostLink | None:
        return self._links.get(host_id)

    def know(self, host: Host) -> HostLink:
        """The host's link, of the newest record that was shown: whoever comes with an older one
        read it before it was changed. Raises NotHereError for a profile that is not understood
        here, or of a kind on which no desktops are made."""
        with self.unread.reading(host):
            return self._known(host)

    def _known(self, host: Host) -> HostLink:
        link = self._links.get(host.id)
        if link is not None and host.revision < link.host.revision:
            return link
        if link is not None and link.host.profile == host.profile:
            link.host = host
            return link
        place = readable(host.profile)
        if link is None:
            link = self._links[host.id] = self._linked(host, place)
        else:
            self._renew(link, host, place)
        self._tend(link)
        return link

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Keep the connections of all known hosts, and of those to come."""
        self._tasks = tasks
        for link in self:
            self._tend(link)

    def end(self) -> None:
        """Keep up no connection any more."""
        self._tasks = None
        for link in self:
            link.leave()

    async def close(self) -> None:
        for connection in (*(link.connection for link in self), *self._left):
            await connection.close()

    # ------------------------------------------------------------------------ parts

    def _linked(self, host: Host, place: Place) -> HostLink:
        def happened(uuid: str) -> None:
            self._happened(link, uuid)

        connection = self._connection(host, place, happened)
        link = HostLink(host, place, connection, guest_links=self._guest_links)
        return link

    def _connection(
        self, host: Host, place: Place, happened: Callable[[str], object]
    ) -> HostConnection:
        return HostConnection(
            name=host.name, place=place, route=Route(host.name, place, self._data),
            clock=self._clock, chance=self._chance, happened=happened,
        )  # fmt: skip

    def _renew(self, link: HostLink, host: Host, place: Place) -> None:
        """Reach it as its record says from now on. The link stays: work that is under way with its
        machines takes its next step over the new connection."""
        link.leave()
        before = link.connection
        link.host, link.place, link.groups = host, place, HostGroups()
        link.lacks = set()
        link.connection = self._connection(host, place, lambda uuid: self._happened(link, uuid))
        self._renewed(link)
        self._left.add(before)
        if self._tasks is not None:
            self._tasks.create_task(self._hang_up(before), name=f"leave {host.name}")

    async def _hang_up(self, connection: HostConnection) -> None:
        await connection.close()
        self._left.discard(connection)

    def _tend(self, link: HostLink) -> None:
        if self._tasks is None or link.tasks:
            return
        name = f"host {link.host.name}"
        link.tasks = (self._tasks.create_task(self._keep_up(link), name=name),)
        if link.place.classes:
            watch = self._tasks.create_task(self._watch(link), name=f"storage of {name}")
            link.tasks += (watch,)

    async def _keep_up(self, link: HostLink) -> None:
        """Connect, look at what is there, and again when the connection was lost."""
        while True:
            try:
                await link.connection.open()
                await self._survey(link)
            except EngineError as error:
                _log.warning("%s is not connected: %s", link.host.name, error)
                if not link.connection.failing:  # otherwise the next attempt waits by itself
                    pause = LIBVIRT_SURVEY_PAUSE_S_MIN, LIBVIRT_SURVEY_PAUSE_S_MAX
                    await self._clock.sleep(self._chance.uniform(*pause))
                continue
            await link.connection.lost.wait()
            link.groups.forget()

    async def _watch(self, link: HostLink) -> None:
        """How full its classes of storage are."""
        while True:
            await self._clock.sleep(STORAGE_LOOK_S)
            if not link.connection.lost.is_set():
                await link.connection.pools.look()
