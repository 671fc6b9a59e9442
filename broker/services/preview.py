"""What can this person do now? For the person, and for whoever helps: each pool, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.architectures import rules_of
from broker.domain.errors import NotEntitledError, OverQuotaError, TriviumError
from broker.domain.model import DesktopState, Endpoint, Instant, Pool, Session, User
from broker.domain.policy.entitlement import Asking, Decision, Policy, evaluate
from broker.domain.policy.rules import Quota, QuotaScope
from broker.domain.queueing import Waiting, places
from broker.services.kit import Kit
from broker.services.policies import Policies
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

    ready: desktops that are free now. place: in the queue, if the person asked now; None when a
    desktop would be given at once or nothing at all. wait_s: about how many seconds that would
    take; None when nobody can say. session: the one that is live already.
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
    ) -> Preview:
        """Every pool by name for this person, at an endpoint, from an address, at an instant.

        `own`: for the person, who is not told of pools that are for others. Without an address
        no rule about networks applies.
        """
        at = self._kit.clock.now() if at is None else at
        standing = await self._standing(user)
        found = []
        for pool in sorted(await self._pools.all(), key=lambda pool: pool.name):
            asking = Asking(
                user_id=user.id,
                group_ids=user.group_ids,
                pool=pool,
                endpoint=endpoint,
                runs_on_endpoint=rules_of(pool.architecture).runs_on_endpoint,
                address=address,
                now=at,
                holds_session=pool.id in standing.sessions,
            )
            one = await self._of_pool(asking, standing)
            if not (own and isinstance(one.refusal, NotEntitledError) and one.session is None):
                found.append(one)
        return Preview(user=user, at=at, address=address, endpoint=endpoint, pools=tuple(found))

    async def _standing(self, user: User) -> _Standing:
        live = await self._policies.live_sessions(user.id)
        counts = await self._kit.store.desktops.counts()
        ready = {
            pool_id: count
            for (pool_id, state), count in counts.items()
            if state == DesktopState.READY
        }
        return _Standing(
            policy=await self._policies.policy(),
            # newest first: of two in one pool the newer one counts
            sessions={one.pool_id: one for one in reversed(live)},
            live=live,
            ready=ready,
        )

    async def _of_pool(self, asking: Asking, standing: _Standing) -> PoolPreview:
        pool = asking.pool
        decision = evaluate(asking, standing.policy)
        session, ready = standing.sessions.get(pool.id), standing.ready.get(pool.id, 0)
        refusal, why, place = decision.refusal, decision.why, None
        quotas = await self._quotas(decision.quotas, standing.live)
        full = next((use for use in quotas if use.full), None)
        if refusal is None and session is None and full is not None:
            most = full.quota.sessions_max
            why = f"the quota “{full.quota.name}” is full: {full.used} of {most}"
            refusal = OverQuotaError(why)
        elif refusal is None and session is None:
            place = await self._place(asking, decision.group_id, ready)
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

    async def _place(self, asking: Asking, group_id: str | None, ready: int) -> int | None:
        waiting = await self._kit.store.sessions.waiting(asking.pool.id)
        if ready and not waiting:
            return None
        # who waits in vain (for one endpoint's desktop) still waits before the newcomer
        now = self._kit.clock.now()
        mine = Waiting(session_id=_ME, group_id=group_id, requested_at=now)
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
