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
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.knobs import Place, Storage, parse_profile
from broker.engines.libvirt.machines import Machines
from broker.engines.libvirt.route import Route
from broker.ports import Chance, Clock

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
    task: asyncio.Task[None] | None = None

    @property
    def features(self) -> frozenset[Feature]:
        """Machines move only where their disks are the same files at the other end. What the
        host was not found to have is not claimed."""
        found = self.place.kind.features - self.lacks
        seen = self.connection.capabilities
        if seen is not None:
            found -= seen.lacks(self.place).keys()
        return found if self.place.storage is Storage.SHARED else found - {Feature.MIGRATE}

    @property
    def is_away(self) -> bool:
        """Whether its record says that it does not answer."""
        return self.host.state in _AWAY

    def machines(self, connection: object, installation_id: str) -> Machines:
        return Machines(connection, self.host.name, self.place, installation_id)


Happened = Callable[[HostLink, str], object]
"""called with a machine's UUID when it started or stopped"""
Survey = Callable[[HostLink], Awaitable[None]]
"""called after each connection: what is there?"""


class Hosts:
    def __init__(
        self, *, clock: Clock, chance: Chance, happened: Happened, survey: Survey,
        data: Path | None = None,
    ) -> None:  # fmt: skip
        self._data = data
        self._clock = clock
        self._chance = chance
        self._happened = happened
        self._survey = survey
        self._links: dict[str, HostLink] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[HostLink]:
        return iter(tuple(self._links.values()))

    def get(self, host_id: str) -> HostLink | None:
        return self._links.get(host_id)

    def know(self, host: Host) -> HostLink:
        """The host's link, of its record as it is now. Raises EngineError for a profile that
        nobody understands, UnsupportedError for a kind on which no desktops are made."""
        link = self._links.get(host.id)
        if link is not None and link.host.profile == host.profile:
            link.host = host
            return link
        place = parse_profile(host.profile)
        if place.kind.refuses:
            raise UnsupportedError(
                f"no desktops are made on {place.kind.title}: {place.kind.refuses}"
            )
        if link is not None:
            self._drop(link)
        link = self._links[host.id] = self._linked(host, place)
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
            if link.task is not None:
                link.task.cancel()

    async def close(self) -> None:
        for link in self:
            await link.connection.close()

    # ------------------------------------------------------------------------ parts

    def _linked(self, host: Host, place: Place) -> HostLink:
        def happened(uuid: str) -> None:
            self._happened(link, uuid)

        connection = HostConnection(
            name=host.name, place=place, route=Route(host.name, place, self._data),
            clock=self._clock, chance=self._chance, happened=happened,
        )  # fmt: skip
        link = HostLink(host, place, connection)
        return link

    def _tend(self, link: HostLink) -> None:
        if self._tasks is not None and link.task is None:
            name = f"host {link.host.name}"
            link.task = self._tasks.create_task(self._keep_up(link), name=name)

    def _drop(self, link: HostLink) -> None:
        if link.task is not None:
            link.task.cancel()
        if self._tasks is not None:
            self._tasks.create_task(link.connection.close(), name=f"leave {link.host.name}")

    async def _keep_up(self, link: HostLink) -> None:
        """Connect, look at what is there, and again when the connection was lost."""
        while True:
            try:
                await link.connection.open()
                await self._survey(link)
            except EngineError as error:
                _log.warning("%s is not connected: %s", link.host.name, error)
                continue  # the next attempt waits by itself
            await link.connection.lost.wait()
