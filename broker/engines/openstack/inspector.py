"""What the OpenStack engine tells of places: of those that it knows, and of one before it is
added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from broker.domain.errors import EngineError
from broker.domain.inspection import Abilities, Condition, Step
from broker.domain.model import Host
from broker.engines.openstack.abilities import abilities, condition
from broker.engines.openstack.computes import computes
from broker.engines.openstack.looks import see
from broker.engines.openstack.probe import Probe
from broker.engines.openstack.verbs import HostLink
from broker.limits import PROBE_STEP_S

_T = TypeVar("_T")


class Inspector:
    """See broker.ports.HostInspector and HostWatcher. `know`: what is known of a host."""

    def __init__(self, know: Callable[[Host], HostLink], *, clouds: Path) -> None:
        self._know = know
        self._file = clouds

    async def abilities(self, host: Host) -> Abilities:
        link = self._know(host)
        seen = await self._ask(link, lambda connection: see(connection, link.place))
        return abilities(link.place, seen)

    async def condition(self, host: Host) -> Condition:
        link = self._know(host)
        return condition(await self._ask(link, lambda one: computes(one, link.place)))

    async def _ask(self, link: HostLink, work: Callable[[Any], _T]) -> _T:
        try:
            async with asyncio.timeout(PROBE_STEP_S):
                # it runs on when nobody waits any more, and counts until it is done
                return await asyncio.shield(link.link.cloud.call(work))
        except TimeoutError:
            raise EngineError(f"{link.host.name} did not answer in time") from None

    async def probe(self, host: Host) -> AsyncIterator[Step]:
        """Nothing of it is kept: the connection is the probe's own."""
        async for step in Probe(host, clouds=self._file).steps():
            yield step
