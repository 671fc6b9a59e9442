"""Shared work: what only one of any number of broker processes may do at a time.

Each kind of it has a lease in the store. A process that finds the lease free takes it, and renews
it at a third of its life for as long as it does the work; others try at the same pace. One that
stopped renewing is succeeded after LEASE_S and LEASE_SKEW_S and a try. Whoever may have lost a
lease finds out before it writes: by its own clock, which gives the lease up LEASE_MARGIN_S early,
and, where two writers could do harm, by the fence that the store checks in the write itself.

What needs no lease is whatever is conditional in one statement: claims, serving queues, expiring,
taking jobs. Every process does that.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker import limits
from broker.domain.errors import TriviumError
from broker.domain.model import WorkLease
from broker.services.kit import Kit

_log = logging.getLogger("trivium.shared")

LEASE_RENEW_S: Final = limits.LEASE_S / 3
"""between two renewals of a lease that is held, and two tries for one that is not"""
LEASE_MARGIN_S: Final = 2.0
"""a holder counts its lease as over this long before it is"""


class Work(StrEnum):
    """The kinds of work that one process at a time does."""

    PLANNER = "planner"
    STRAYS = "strays"
    SEALER = "sealer"
    SWEEPER = "sweeper"
    PURGE = "purge"


@dataclass(slots=True)
class _Tried:
    """`lease` is None while another holds it. Times are this process's monotonic seconds."""

    at_s: float
    lease: WorkLease | None


class SharedWork:
    """The leases of this process. `holder` names its start: a restarted process is another."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.holder = kit.ids.new("brk")
        self._tried: dict[str, _Tried] = {}
        self._stopped = False

    async def hold(self, work: Work) -> WorkLease | None:
        """The lease of this work if it is, or can be made, this process's; None otherwise.

        Asks the store only when a renewal or a try is due. Raises UnavailableError, BusyError
        when it does not answer and the lease cannot be relied on any more.
        """
        if self._stopped:
            return None
        tried, now_s = self._tried.get(work), self._kit.clock.monotonic()
        if tried is not None and now_s - tried.at_s < LEASE_RENEW_S:
            return tried.lease
        try:
            return await self._acquire(work)
        except TriviumError:
            if self.mine(work) and tried is not None:
                return tried.lease
            raise

    async def keep(self, lease: WorkLease) -> bool:
        """Whether the lease with this fence is still this process's; renews it when due. To be
        asked before each write that is done under it. Raises as `hold` does."""
        held = await self.hold(Work(lease.name))
        return held is not None and held.fence == lease.fence

    async def renew(self) -> None:
        """Renew what this process holds and is due. For work that is done more seldom than a
        lease lives: else it would go from process to process, and nobody would remember what he
        saw. Raises as `hold` does."""
        for name in tuple(self.held):
            await self.hold(Work(name))

    async def _acquire(self, work: Work) -> WorkLease | None:
        # both clocks are read before the call: a slow answer shortens the lease, never the wait
        clock = self._kit.clock
        at_s, now = clock.monotonic(), clock.now()
        had = self.mine(work)
        lease = await self._kit.store.leases.acquire(
            work, self.holder, now, now + limits.LEASE_S * 1000
        )
        self._tried[work] = _Tried(at_s=at_s, lease=lease)
        if lease is not None and not had:
            _log.info("this process does the work of the %s (fence %d)", work, lease.fence)
        elif lease is None and had:
            _log.warning("this process lost the work of the %s", work)
        if not self.mine(work):  # the answer took longer than the lease lives
            return None
        return lease

    def mine(self, work: Work) -> bool:
        """Whether this process holds the lease, by its own clock and without asking anybody."""
        tried = self._tried.get(work)
        if tried is None or tried.lease is None:
            return False
        age_s = self._kit.clock.monotonic() - tried.at_s
        return age_s < limits.LEASE_S - LEASE_MARGIN_S

    def lost(self, lease: WorkLease) -> None:
        """The store refused a write under this lease: it is another's until it is taken anew."""
        tried = self._tried.get(lease.name)
        if tried is not None and tried.lease is not None and tried.lease.fence == lease.fence:
            _log.warning("this process lost the work of the %s", lease.name)
            tried.lease = None

    async def confirm(self, lease: WorkLease) -> bool:
        """As `keep`, but asks the store at once: it refused a write that names this lease."""
        if self._stopped:
            return False
        held = await self._acquire(Work(lease.name))
        return held is not None and held.fence == lease.fence

    @property
    def held(self) -> Mapping[str, int]:
        """work -> fence, of what this process holds now."""
        return {
            work.value: tried.lease.fence
            for work in Work
            if self.mine(work) and (tried := self._tried[work]).lease is not None
        }

    async def inherit(self) -> None:
        """Give back what a process before this one left held. Only where no other can be
        running, as on SQLite, whose data directory is locked: there nobody has to be waited for.
        """
        for lease in await self._kit.store.leases.leases():
            await self._kit.store.leases.release(lease)

    async def stop(self) -> None:
        """Give all leases back, so that others need not wait; nothing is held after."""
        self._stopped = True
        for tried in self._tried.values():
            lease, tried.lease = tried.lease, None
            if lease is None:
                continue
            try:
                await self._kit.store.leases.release(lease)
            except TriviumError as error:
                # others take it over when it ends
                _log.warning("the lease %s was not given back: %s", lease.name, error.detail)
