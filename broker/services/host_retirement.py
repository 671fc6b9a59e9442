"""Hosts that do not come back give up their machines.

A host is retired when it is down or off for good, or empty under maintenance. What is stored of
its machines ends without an engine: nobody can be asked to remove them. If it ever answers again,
its machines are strays and are discarded. The work goes on after a restart: every SILENCE_S what a
retired host still has is given up.
"""

from __future__ import annotations

import logging
from typing import Final

from broker import limits
from broker.domain.errors import (
    ConflictError,
    HostHoldsWorkError,
    IllegalTransitionError,
    NotFoundError,
)
from broker.domain.keeping import keeps_work
from broker.domain.lifecycle import DESKTOP, HOST, DesktopEvent, HostEvent
from broker.domain.model import Desktop, DesktopState, Host, HostState, WorkLease
from broker.services.decisions import asked, decision
from broker.services.engine_work import EngineWork
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools
from broker.services.shared_work import SharedWork
from broker.services.site import Site

_log = logging.getLogger("trivium.hosts")

_THERE: Final = tuple(state for state in DesktopState if state is not DesktopState.DELETED)


class HostRetirement:
    def __init__(
        self, kit: Kit, shared: SharedWork, pools: Pools, site: Site, works: EngineWork
    ) -> None:
        self._kit = kit
        self._shared = shared
        self._pools = pools
        self._site = site
        self._works = works

    async def retire(
        self, ref: str, *, give_up: bool, actor: str, origin: Origin = NOWHERE
    ) -> Host:
        """Retire a host, by id or name. `give_up`: also the work that lies in its desktops.

        Raises:
            NotFoundError. IllegalTransitionError: it serves; declare it lost, or put it under
            maintenance. ConflictError: under maintenance, and not empty yet. HostHoldsWorkError:
            people's work lies there and `give_up` is False.
        """
        host = await self._site.host(ref)
        if host.state is HostState.RETIRED:
            raise IllegalTransitionError(f"{host.name} is retired already")
        if not HOST.allows(host.state, HostEvent.RETIRED):
            text = f"{host.name} is {host.state}: declare it lost, or put it under maintenance"
            raise IllegalTransitionError(f"{text}, and retire it when it is empty")
        there = await self._there(host)
        if there and host.state is HostState.MAINTENANCE:
            text = f"{len(there)} desktops are on {host.name}; wait until it is empty"
            raise ConflictError(text)
        kept = [one for one in there if await self._kept(one)]
        if kept and not give_up:
            text = f"{len(kept)} desktops on {host.name} hold their owners' work"
            raise HostHoldsWorkError(text, fields={"desktops": len(kept)})
        kit, why = self._kit, "an administrator retired it"
        details = {"before": host.state.value, "desktops": len(there), "given_up": len(kept)}
        entry = decision(
            kit, "host.retire", why, about={"host_id": host.id}, actor=actor, details=details,
            origin=origin,
        )  # fmt: skip
        async with asked(kit, entry):
            retired = await kit.store.directory.move_host(
                host.id, HostEvent.RETIRED, kit.clock.now(), note=why
            )
        await self._give_up(retired, there)
        kit.events.publish("host", id=host.id)
        kit.events.publish("work", host_id=host.id)
        return retired

    async def sweep(self, lease: WorkLease | None) -> None:
        """What retired hosts still have, RECONCILE_BATCH_MAX desktops of each at most."""
        for load in await self._kit.store.directory.host_loads():
            if load.host.state is not HostState.RETIRED:
                continue
            if lease is None or not await self._shared.keep(lease):
                return
            await self._give_up(load.host, await self._there(load.host))

    async def _there(self, host: Host) -> list[Desktop]:
        rows = await self._kit.store.desktops.on_host(host.id, _THERE, limits.DESKTOPS_PER_HOST_MAX)
        return [one for one in rows if one.host_id == host.id]

    async def _kept(self, desktop: Desktop) -> bool:
        return keeps_work(await self._pools.find(desktop.pool_id), desktop.owner_id)

    async def _give_up(self, host: Host, desktops: list[Desktop]) -> None:
        for desktop in desktops:
            try:
                await self._end(desktop, f"{host.name} was retired")
            except (IllegalTransitionError, NotFoundError) as error:
                # it went another way: the next sweep sees it as it is
                _log.debug("%s: %s", desktop.name, error.detail)

    async def _end(self, desktop: Desktop, why: str) -> None:
        """Through its lifecycle to its end, its session first."""
        store, now = self._kit.store.desktops, self._kit.clock.now()
        if not DESKTOP.allows(desktop.state, DesktopEvent.DELETE_ASKED) and (
            desktop.state is not DesktopState.DELETING
        ):
            await self._works.lost(desktop, why)
        if desktop.state is not DesktopState.DELETING:
            about = {
                "desktop_id": desktop.id,
                "pool_id": desktop.pool_id,
                "host_id": desktop.host_id or "",
            }
            await store.advance(
                desktop.id,
                DesktopEvent.DELETE_ASKED,
                now,
                generation=desktop.generation,
                deadline_at=now + limits.DELETE_S * 1000,
                note=why,
                entry=decision(self._kit, "desktop.clear", why, about=about),
            )
        await store.advance(desktop.id, DesktopEvent.DELETED, now, generation=desktop.generation)
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)
