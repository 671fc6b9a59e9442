"""What the libvirt engine tells of hosts: of those that it knows, and of one before it is added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from broker.domain.errors import EngineError, HostUnreachableError, UnsupportedError
from broker.domain.inspection import Abilities, Condition, Step
from broker.domain.model import Host
from broker.engines.libvirt.abilities import abilities
from broker.engines.libvirt.address import Transport
from broker.engines.libvirt.capabilities import Capabilities, PoolRoom, read
from broker.engines.libvirt.condition import Seen, condition, seen_here, seen_there
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.hosts import HostLink, Hosts
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.probe import Probe
from broker.engines.reach.commands import Command
from broker.engines.reach.ssh import DOOR, Refused
from broker.limits import PROBE_STEP_S
from broker.ports import Clock, Ids

_CLOSED: Final = f"the host lets the broker run nothing ({DOOR})"


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
        return abilities(link.place, found, lacks, await _groups(link))

    async def condition(self, host: Host) -> Condition:
        """As the host is at this moment."""
        link = self._hosts.know(host)
        name, place = link.host.name, link.place
        try:
            async with asyncio.timeout(PROBE_STEP_S):
                seen = await _seen(link)
                pools = await _pools(link)
                return await link.connection.call(
                    lambda one: condition(one, name, place, seen, pools)
                )
        except TimeoutError:
            raise EngineError(f"{name} did not answer in time") from None

    async def _read(self, link: HostLink) -> Capabilities:
        name, place, connection = link.host.name, link.place, link.connection
        try:
            async with asyncio.timeout(PROBE_STEP_S):
                pools = await _pools(link)
                found = await connection.call(lambda one: read(one, name, place))
                return replace(found, pools=pools)
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


async def _pools(link: HostLink) -> tuple[PoolRoom, ...]:
    """The profile's, as the host says at this moment. Raises EngineError when it is not reached."""
    await link.connection.open()
    await link.connection.pools.glance()
    return link.connection.pools.rooms()


async def _groups(link: HostLink) -> Groups | None:
    """What is known of its control groups, for one that was reached just now."""
    try:
        async with asyncio.timeout(PROBE_STEP_S):
            return await link.connection.call(lambda one: link.groups.of(one, link.place))
    except (EngineError, TimeoutError):
        return link.groups.found


async def _seen(link: HostLink) -> Seen:
    """The kernel's files at the host. Raises EngineError when it does not answer."""
    if link.place.is_local:
        return await asyncio.to_thread(seen_here)
    if link.place.address.transport is not Transport.SSH:
        return Seen(why_not="libvirt does not tell it, and the host is not reached over SSH")
    try:
        said = await link.connection.run(Command.LOOK)
    except HostUnreachableError as error:
        if error.fields.get("refused") != Refused.COMMAND:
            raise
        return Seen(why_not=_CLOSED)
    return seen_there(said.text) if said.text else Seen(why_not=_CLOSED)
