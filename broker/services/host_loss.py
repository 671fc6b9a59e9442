"""What an administrator calls lost is lost: the desktops that ran on a host that is down.

Their sessions end, with why, and those desktops fail, to be cleared away and made anew on other
hosts. What lies on the host's disk waits for it: suspended machines, and desktops that keep their
owners' work, of which only the sessions end.
"""

from __future__ import annotations

import logging
from typing import Final

from broker import limits
from broker.domain.errors import IllegalTransitionError, NotFoundError
from broker.domain.keeping import keeps_work
from broker.domain.lifecycle import SESSION, SessionEvent
from broker.domain.model import Desktop, DesktopState, Host, HostState, WorkLease
from broker.ports import PageQuery
from broker.services.decisions import asked, decision
from broker.services.engine_work import EngineWork
from broker.services.host_power import RUNS_STATES
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.sessions import Sessions
from broker.services.shared_work import SharedWork

_log = logging.getLogger("trivium.hosts")

_KEPT_STATES: Final = frozenset({DesktopState.READY, DesktopState.SUSPENDING})
"""states in which a desktop that keeps its owner's work needs nothing done"""


class HostLoss:
    def __init__(
        self, kit: Kit, shared: SharedWork, pools: Pools, works: EngineWork, sessions: Sessions
    ) -> None:
        self._kit = kit
        self._shared = shared
        self._pools = pools
        self._works = works
        self._sessions = sessions

    async def sweep(self, lease: WorkLease | None) -> None:
        """Settle what ran on hosts that are down, RECONCILE_BATCH_MAX desktops of each at most."""
        for load in await self._kit.store.directory.host_loads():
            if load.host.state is not HostState.DOWN:
                continue
            there = await self._kit.store.desktops.on_host(
                load.host.id, RUNS_STATES, limits.RECONCILE_BATCH_MAX
            )
            for desktop in there:
                if desktop.host_id != load.host.id:
                    continue
                if lease is None or not await self._shared.keep(lease):
                    return
                try:
                    await self._lose(desktop, load.host)
                except (IllegalTransitionError, NotFoundError) as error:
                    _log.debug("%s went another way: %s", desktop.name, error.detail)

    async def _lose(self, desktop: Desktop, host: Host) -> None:
        why = f"{host.name} is down"
        if host.note:
            why = f"{why} ({host.note})"
        if keeps_work(await self._pools.find(desktop.pool_id), desktop.owner_id):
            if desktop.state not in _KEPT_STATES:
                await self._end_sessions(desktop, why)
            return
        about = {"desktop_id": desktop.id, "pool_id": desktop.pool_id, "host_id": host.id}
        entry = decision(self._kit, "machine.lost", why, about=about)
        async with asked(self._kit, entry):
            await self._works.lost(desktop, why)

    async def _end_sessions(self, desktop: Desktop, why: str) -> None:
        query = PageQuery(filters={"desktop_id": desktop.id, "live": "true"})
        for session in (await self._kit.store.sessions.sessions(query)).items:
            if SESSION.allows(session.state, SessionEvent.LOG_OFF):
                await self._sessions.end(session, SessionEvent.LOG_OFF, why)
