"""What can this person do now? For the person, and for whoever helps: each pool, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.architectures import rules_of
from broker.domain.errors import (
    ElsewhereError,
    NotEntitledError,
    NotSignedInError,
    OverQuotaError,
    QueueFullError,
    TriviumError,
)
from broker.domain.keeping import keeps_work
from broker.domain.model import (
    Desktop,
    DesktopState,
    Endpoint,
    Instant,
    Pool,
    PoolKind,
    Session,
    SessionState,
    User,
)
from broker.domain.policy.entitlement import Asking, Decision, Policy, evaluate
from broker.domain.policy.rules import Quota, QuotaScope
from broker.domain.queueing import Waiting, places
from broker.domain.settings import TakeOver
from broker.limits import PAGE_LIMIT_MAX, POOL_QUEUE_MAX
from broker.ports import PageQuery
from broker.services.kit import Kit
from broker.services.policies import Policies, asking_for
from broker.services.pools import Pools
from broker.services.queues import Queues

_ME = "~"
"""an id that sorts behind every session's: who asked now would come last"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUse:
    """A quota that would count one more session, and how many it counts now."""

    quota: Quota
    used: int

    @property
    def full(self) -> bool:
        return self.used >= self.quota.sessions_max


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPreview:
    """One pool for one person. `refusal` is None if a desktop, or a place, would be given.

    ready: desktops that are free for the person now. place: in the queue, if the person asked
    now; None when a desktop would be given at once or nothing at all. wait_s: about how many
    seconds that would take; None when nobody can say. session: the one that is live already.
    """

    pool: Pool
    decision: Decision
    refusal: TriviumError | None
    why: str
    ready: int
    place: int | None
    wait_s: int | None
    session: Session | None
    quotas: tuple[QuotaUse, ...]

    @property
    def may(self) -> bool:
        return self.refusal is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`at` is the instant that rules and schedules were asked for; places are those of now."""

    user: User
    at: Instant
    address: str | None
    endpoint: Endpoint | None
    pools: tuple[PoolPreview, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What is read once for all pools."""

    policy: Policy
    sessions: Mapping[str, Session]
    live: Sequence[Session]
    ready: Mapping[str, int]
    """pool -> ready desktops that nobody owns"""
    disabled: bool
    browser: str | None


class Previews:
    def __init__(self, kit: Kit, policies: Policies, pools: Pools, queues: Queues) -> None:
        self._kit = kit
        self._policies = policies
        self._pools = pools
        self._queues = queues

    async def preview(
        self,
        user: User,
        *,
        endpoint: Endpoint | None = None,
        address: str | None = None,
        at: Instant | None = None,
        own: bool = False,
        browser: str | None = None,
    ) -> Preview:
        """Every pool by name for this person, at an endpoint, from an address, at an instant.

        `own`: for the person, who is not told of pools that are for others. Without an address
        no rule about networks applies. Without an endpoint it is about a browser: that of this
        sign-in, or where the person's sessions are open.
        """
        at = self._kit.clock.now() if at is None else at
        standing = await self._standing(user, browser)
        found = []
        for pool in sorted(await self._pools.all(), key=lambda pool: pool.name):
            asking = replace(
                asking_for(
                    user.id, user.group_ids, pool, endpoint=endpoint, address=address, now=at
                ),
                holds_session=pool.id in standing.sessions,
            )
            one = await self._of_pool(asking, standing)
            if not (own and isinstance(one.refusal, NotEntitledError) and one.session is None):
                found.append(one)
        return Preview(user=user, at=at, address=address, endpoint=endpoint, pools=tuple(found))

    async def _standing(self, user: User, browser: str | None) -> _Standing:
        live = await self._policies.live_sessions(user.id)
        counts = await self._kit.store.desktops.counts()
        owned = await self._kit.store.desktops.counts(owned=True)
        ready = {
            pool_id: count - owned.get((pool_id, state), 0)
            for (pool_id, state), count in counts.items()
            if state == DesktopState.READY
        }
        return _Standing(
            policy=await self._policies.policy(),
            # newest first: of two in one pool the newer one counts
            sessions={one.pool_id: one for one in reversed(live)},
            live=live,
            ready=ready,
            disabled=not user.enabled,
            browser=browser,
        )

    async def _of_pool(self, asking: Asking, standing: _Standing) -> PoolPreview:
        pool = asking.pool
        decision = evaluate(asking, standing.policy)
        session = standing.sessions.get(pool.id)
        ready, own = await self._ready(asking, standing)
        refusal, why, place = decision.refusal, decision.why, None
        if standing.disabled:
            why = "the account is disabled"
            refusal = NotSignedInError(why)
        quotas = await self._quotas(decision.quotas, standing.live)
        full = next((use for use in quotas if use.full), None)
        if refusal is None and session is None and full is not None:
            most = full.quota.sessions_max
            why = f"the quota “{full.quota.name}” is full: {full.used} of {most}"
            refusal = OverQuotaError(why)
        elif refusal is None and session is None:
            place = await self._place(asking, decision.group_id, ready=ready, own=own)
            if place is not None and place > POOL_QUEUE_MAX:
                why, place = f"{POOL_QUEUE_MAX} people wait for {pool.name} already", None
                refusal = QueueFullError(why)
        elif refusal is None and session is not None:
            refusal = await self._elsewhere(asking, session, standing.browser)
            why = why if refusal is None else refusal.detail
        return PoolPreview(
            pool=pool,
            decision=decision,
            refusal=refusal,
            why=why,
            ready=ready,
            place=place,
            wait_s=await self._queues.wait_s(pool.id, place) if place is not None else None,
            session=session,
            quotas=quotas,
        )

    async def _ready(self, asking: Asking, standing: _Standing) -> tuple[int, bool]:
        """How many ready desktops could be the person's, and whether one of them is the person's
        own, or that of the endpoint: which waits for nobody else."""
        pool, unowned = asking.pool, standing.ready.get(asking.pool.id, 0)
        if asking.runs_on_endpoint:
            if asking.endpoint is None:
                return unowned, False
            there = await self._desktops(pool, endpoint_id=asking.endpoint.id)
            found = any(
                one.state is DesktopState.READY and one.owner_id in {None, asking.user_id}
                for one in there
            )
            return int(found), found
        if pool.kind is PoolKind.FLOATING:
            return unowned, False
        mine = [one for one in await self._desktops(pool) if one.owner_id == asking.user_id]
        ready = sum(one.state is DesktopState.READY for one in mine)
        if mine and not ready and keeps_work(pool, asking.user_id):
            return 0, False
        return unowned + ready, ready > 0

    async def _desktops(self, pool: Pool, **filters: str) -> list[Desktop]:
        found: list[Desktop] = []
        query = PageQuery(limit=PAGE_LIMIT_MAX, filters={"pool_id": pool.id, **filters})
        while True:
            page = await self._kit.store.desktops.desktops(query)
            found += page.items
            if page.next_after is None:
                return found
            query = replace(query, after=page.next_after)

    async def _elsewhere(
        self, asking: Asking, session: Session, browser: str | None
    ) -> TriviumError | None:
        """Why a live session does not come to where it is asked for; None if it does, or its
        person is asked first."""
        if session.state not in {SessionState.DELIVERING, SessionState.ACTIVE}:
            bound = asking.runs_on_endpoint and session.state is SessionState.DISCONNECTED
            if not bound:
                return None
        endpoint_id = asking.endpoint.id if asking.endpoint is not None else None
        other_browser = browser is not None and session.browser not in {None, browser}
        if endpoint_id == session.endpoint_id and not (endpoint_id is None and other_browser):
            return None
        moves = rules_of(asking.pool.architecture).moves
        if moves and asking.pool.settings.take_over is not TakeOver.REFUSE:
            return None
        if endpoint_id is None and session.endpoint_id is None and not other_browser:
            return None
        where = "another browser"
        if session.endpoint_id is not None:
            found = await self._kit.store.endpoints.endpoint(session.endpoint_id)
            where = found.name if found is not None else session.endpoint_id
        return ElsewhereError(f"the session is in use at {where} and does not move from there")

    async def _place(
        self, asking: Asking, group_id: str | None, *, ready: int, own: bool
    ) -> int | None:
        if own:
            return None
        waiting = await self._kit.store.sessions.waiting(asking.pool.id)
        if ready and not waiting and not asking.runs_on_endpoint:
            return None
        # who waits in vain (for one endpoint's desktop) still waits before the newcomer
        now = self._kit.clock.now()
        start = next((one.start for one in waiting if one.group_id == group_id), 0)
        mine = Waiting(session_id=_ME, group_id=group_id, requested_at=now, start=start)
        return places([*waiting, mine])[_ME]

    async def _quotas(
        self, quotas: Iterable[Quota], live: Sequence[Session]
    ) -> tuple[QuotaUse, ...]:
        every = tuple(quotas)
        shared = [one for one in every if one.scope is not QuotaScope.USER]
        counted = await self._kit.store.sessions.counts(shared) if shared else {}
        return tuple(
            QuotaUse(
                quota=quota,
                used=counted.get(quota.id, 0)
                if quota.scope is not QuotaScope.USER
                else sum(not quota.pool_ids or one.pool_id in quota.pool_ids for one in live),
            )
            for quota in every
        )
