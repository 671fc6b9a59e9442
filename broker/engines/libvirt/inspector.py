"""What the libvirt engine tells of hosts: of those that it knows, and of one before it is added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.inspection import Abilities, Condition, Step
from broker.domain.model import Host
from broker.engines.libvirt.abilities import abilities
from broker.engines.libvirt.capabilities import Capabilities, read
from broker.engines.libvirt.condition import condition
from broker.engines.libvirt.hosts import HostLink, Hosts
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.probe import Probe
from broker.limits import PROBE_STEP_S
from broker.ports import Clock, Ids


class Inspector:
    """See broker.ports.HostInspector."""

    def __init__(self, hosts: Hosts, *, clock: Clock, ids: Ids, data: Path | None) -> None:
        self._hosts = hosts
        self._clock = clock
        self._ids = ids
        self._data = data

    async def abilities(self, host: Host) -> Abilities:
        """As the host says at this moment; a kind on which no desktops are made is not asked."""
        place = parse_profile(host.profile)
        if place.kind.refuses:
            return abilities(place, Capabilities(hypervisor="not asked"))
        link = self._hosts.know(host)
        found = await self._read(link)
        lacks = dict.fromkeys(link.lacks, "the host refused it when it was asked for")
        return abilities(link.place, found, lacks)

    async def condition(self, host: Host) -> Condition:
        """As the host is at this moment."""
        link = self._hosts.know(host)
        name, place = link.host.name, link.place
        try:
            async with asyncio.timeout(PROBE_STEP_S):
                return await link.connection.call(lambda one: condition(one, name, place))
        except TimeoutError:
            raise EngineError(f"{name} did not answer in time") from None

    async def _read(self, link: HostLink) -> Capabilities:
        name, place, connection = link.host.name, link.place, link.connection
        try:
            async with asyncio.timeout(PROBE_STEP_S):
                return await connection.call(lambda one: read(one, name, place))
        except TimeoutError:
            raise EngineError(f"{name} did not answer in time") from None
        except UnsupportedError:
            # it was reached, and does not fit: what it said tells why
            if connection.capabilities is None:
                raise
            return connection.capabilities

    async def probe(self, host: Host) -> AsyncIterator[Step]:
        """Nothing of it is kept: the connection is the probe's own."""
        async for step in Probe(host, time=self._clock, ids=self._ids, data=self._data).steps():
            yield step
