"""What is done now and then beside the plan: orders pushed, silent endpoints and clients that
went away noticed, expired credentials removed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from broker import limits
from broker.domain.errors import IllegalTransitionError, NotFoundError, TriviumError
from broker.domain.model import WorkLease
from broker.services.delivery import SWEEP_S, Delivery
from broker.services.endpoints import SEEN_FLUSH_S, Endpoints
from broker.services.host_loss import HostLoss
from broker.services.host_retirement import HostRetirement
from broker.services.host_silence import HostSilence
from broker.services.kit import Kit
from broker.services.pool_shares import EVERY_S, PoolShares
from broker.services.sessions import Sessions
from broker.services.shared_work import SharedWork, Work
from broker.services.showing import Showing

_log = logging.getLogger("trivium.reconciler")

SILENCE_S: Final = 10.0
"""between two looks for silent endpoints, clients that left a queue, and hosts that are down"""
SWEEP_ROUNDS_MAX: Final = 25
"""batches of RECONCILE_BATCH_MAX that one such look handles"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """`work`: whose lease it needs; None: every process does it for itself."""

    name: str
    every_s: float
    do: Callable[[WorkLease | None], Awaitable[object]]
    work: Work | None = None


class Chores:
    def __init__(
        self,
        kit: Kit,
        shared: SharedWork,
        sessions: Sessions,
        delivery: Delivery,
        endpoints: Endpoints,
        losses: HostLoss,
        silences: HostSilence,
        retirement: HostRetirement,
        shares: PoolShares,
        showing: Showing,
    ) -> None:
        self._kit = kit
        self._shared = shared
        self._sessions = sessions
        self._delivery = delivery
        self._endpoints = endpoints
        self._last: dict[str, float] = {}
        self.failures: Counter[str] = Counter()
        """chore -> how often it failed, since the start of this process"""
        self.on_bug: Callable[[BaseException], None] = lambda _: None
        self._chores = (
            Chore(name="sweep", every_s=SWEEP_S, do=lambda _: delivery.sweep()),
            Chore(name="seen", every_s=SEEN_FLUSH_S, do=lambda _: endpoints.flush()),
            Chore(name="silent", every_s=SILENCE_S, do=self._lose_silent, work=Work.SWEEPER),
            Chore(
                name="retired endpoints",
                every_s=SILENCE_S,
                do=lambda _: endpoints.sweep_retired(),
            ),
            Chore(
                name="sign of life",
                every_s=limits.SHOWING_RENEW_S,
                do=lambda _: showing.renew(),
            ),
            Chore(name="dark", every_s=SILENCE_S, do=showing.sweep, work=Work.SWEEPER),
            Chore(name="abandoned", every_s=SILENCE_S, do=self._drop_waiters, work=Work.SWEEPER),
            Chore(name="down hosts", every_s=SILENCE_S, do=losses.sweep, work=Work.SWEEPER),
            Chore(name="silent hosts", every_s=SILENCE_S, do=silences.sweep, work=Work.SWEEPER),
            Chore(name="shares", every_s=EVERY_S, do=shares.sweep, work=Work.PLANNER),
            Chore(name="retired", every_s=SILENCE_S, do=retirement.sweep, work=Work.SWEEPER),
            Chore(name="purge", every_s=limits.PURGE_S, do=self._purge, work=Work.PURGE),
        )

    async def run_due(self) -> None:
        """Do those whose time has come. One that fails does not stop the others."""
        for chore in self._chores:
            now_s = self._kit.clock.monotonic()
            if now_s - self._last.get(chore.name, -chore.every_s) < chore.every_s:
                continue
            try:
                lease = None if chore.work is None else await self._shared.hold(chore.work)
                if chore.work is None or lease is not None:
                    self._last[chore.name] = now_s
                    await chore.do(lease)
            except TriviumError as error:
                self.failures[chore.name] += 1
                _log.warning("%s: %s", chore.name, error.detail)
            except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
                self.failures[chore.name] += 1
                _log.exception("%s failed by a fault of the broker", chore.name)
                self.on_bug(error)

    async def _lose_silent(self, lease: WorkLease | None) -> None:
        """Endpoints that gave no sign of life to any process are lost."""
        store, batch = self._kit.store.endpoints, limits.RECONCILE_BATCH_MAX
        before = self._kit.clock.now() - int(limits.SILENT_S * 1000)
        for _ in range(SWEEP_ROUNDS_MAX):
            silent = await store.silent(before, batch)
            lost = 0
            for endpoint in silent:
                if self._delivery.connected(endpoint.id):
                    continue
                if lease is None or not await self._shared.keep(lease):
                    return
                try:
                    await self._endpoints.gone(endpoint.id)
                except (IllegalTransitionError, NotFoundError):
                    continue  # it went another way meanwhile
                lost += 1
            if len(silent) < batch or not lost:
                return

    async def _drop_waiters(self, lease: WorkLease | None) -> None:
        """Clients that wait in a queue and were not heard of are taken out of it."""
        store, batch = self._kit.store.sessions, limits.RECONCILE_BATCH_MAX
        before = self._kit.clock.now() - limits.CLIENT_SILENT_S * 1000
        for _ in range(SWEEP_ROUNDS_MAX):
            abandoned = await store.abandoned(before, batch)
            dropped = 0
            for session in abandoned:
                if lease is None or not await self._shared.keep(lease):
                    return
                dropped += await self._sessions.abandon(session)
            if len(abandoned) < batch or not dropped:
                return

    async def _purge(self, lease: WorkLease | None) -> None:
        del lease
        await self._kit.store.credentials.purge(self._kit.clock.now())
