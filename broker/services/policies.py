"""Admission: who may have a desktop of which pool, here and now.

Every connect asks, so rules and quotas are kept in memory: at most POLICIES_FRESH_S old, and read
anew at once where they were changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from broker.architectures import rules_of
from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import PoolClosedError, SiteClosedError, TriviumError
from broker.domain.lifecycle import SESSION_HOLDS_PLACE
from broker.domain.model import Endpoint, Identity, Instant, Pool, Session, User
from broker.domain.policy.entitlement import Asking, Decision, Policy, evaluate
from broker.domain.policy.rules import EntitlementRule, Quota
from broker.limits import PAGE_LIMIT_MAX
from broker.ports import PageQuery
from broker.services.kit import Kit
from broker.services.origin import Origin
from broker.services.site import Site

POLICIES_FRESH_S: Final = 2.0
"""age in seconds after which the copy is read again: another process may have changed it"""


def asking_for(
    user_id: str,
    group_ids: tuple[str, ...],
    pool: Pool,
    *,
    endpoint: Endpoint | None,
    address: str | None,
    now: Instant,
) -> Asking:
    """The question as the pool's architecture puts it."""
    rules = rules_of(pool.architecture)
    return Asking(
        user_id=user_id,
        group_ids=group_ids,
        pool=pool,
        endpoint=endpoint,
        endpoint_kind=rules.endpoint_kind,
        runs_on_endpoint=rules.runs_on_endpoint,
        address=address,
        now=now,
    )


class Policies:
    def __init__(self, kit: Kit, site: Site) -> None:
        self._kit = kit
        self._site = site
        self._read_at: float | None = None
        self._rules: tuple[EntitlementRule, ...] = ()
        self._quotas: tuple[Quota, ...] = ()

    def forget(self) -> None:
        """Something changed here: the next look reads the store."""
        self._read_at = None

    async def policy(self) -> Policy:
        """Rules, quotas and the site's settings. Raises UnavailableError, BusyError."""
        now_s = self._kit.clock.monotonic()
        if self._read_at is None or now_s - self._read_at >= POLICIES_FRESH_S:
            directory = self._kit.store.directory
            self._rules = await directory.rules()
            self._quotas = await directory.quotas()
            self._read_at = now_s
        return Policy(rules=self._rules, quotas=self._quotas, site=await self._site.settings())

    async def admit(
        self,
        identity: Identity,
        pool: Pool,
        endpoint: Endpoint | None,
        origin: Origin,
        now: Instant,
    ) -> Decision:
        """The decision that lets this person ask for a desktop of this pool.

        A refusal is written into the audit trail before it is raised; that somebody was admitted
        stands in the entry of the claim.

        Raises:
            NotEntitledError, DeniedByRuleError, SiteClosedError, PoolClosedError,
            WrongEndpointError: not admitted.
        """
        policy = await self.policy()
        asking = asking_for(
            identity.user_id,
            identity.group_ids,
            pool,
            endpoint=endpoint,
            address=origin.source,
            now=now,
        )
        decision = evaluate(asking, policy)
        closed = isinstance(decision.refusal, PoolClosedError | SiteClosedError)
        if closed and await self._holds_session(identity.user_id, pool.id):
            decision = evaluate(replace(asking, holds_session=True), policy)
        if decision.refusal is not None:
            await self._note_refusal(asking, decision, decision.refusal, origin)
            raise decision.refusal
        return decision

    async def usable(
        self, identity: Identity, pools: Iterable[Pool], origin: Origin
    ) -> tuple[Pool, ...]:
        """Those of these pools that are for this person, from where the request comes; also those
        that take nobody new at the moment."""
        policy, now = await self.policy(), self._kit.clock.now()
        return tuple(
            pool
            for pool in pools
            if evaluate(
                replace(
                    asking_for(
                        identity.user_id,
                        identity.group_ids,
                        pool,
                        endpoint=None,
                        address=origin.source,
                        now=now,
                    ),
                    holds_session=True,
                    anywhere=True,
                ),
                policy,
            ).admitted
        )

    async def refused_since(
        self, session: Session, pool: Pool, user: User | None, endpoint: Endpoint | None
    ) -> str:
        """Why a session that waits is not to be served any more, as rules, groups and accounts are
        now; empty if it is. That the pool is closed does not take a place in its queue away."""
        if user is None or not user.enabled:
            return "the account is disabled"
        asking = asking_for(
            user.id,
            user.group_ids,
            pool,
            endpoint=endpoint,
            address=session.source or "",
            now=self._kit.clock.now(),
        )
        refusal = evaluate(replace(asking, holds_session=True), await self.policy()).refusal
        return refusal.detail if refusal is not None else ""

    async def _holds_session(self, user_id: str, pool_id: str) -> bool:
        return bool(await self.live_sessions(user_id, pool_id))

    async def live_sessions(self, user_id: str, pool_id: str | None = None) -> tuple[Session, ...]:
        """The person's sessions that hold a place, newest first."""
        filters = {"user_id": user_id, "live": "true"}
        if pool_id is not None:
            filters["pool_id"] = pool_id
        query = PageQuery(limit=PAGE_LIMIT_MAX, filters=filters)
        page = await self._kit.store.sessions.sessions(query)
        return tuple(one for one in page.items if one.state in SESSION_HOLDS_PLACE)

    async def _note_refusal(
        self, asking: Asking, decision: Decision, refusal: TriviumError, origin: Origin
    ) -> None:
        applied = [reason.text for reason in decision.reasons if reason.applies]
        entry = AuditEntry(
            id=self._kit.ids.new("aud"),
            at=asking.now,
            actor=asking.user_id,
            action="session.connect",
            outcome=Outcome.REFUSED,
            why=f"refused: {decision.why}",
            details={"code": refusal.code, "reasons": applied},
            user_id=asking.user_id,
            pool_id=asking.pool.id,
            endpoint_id=asking.endpoint.id if asking.endpoint is not None else "",
            request_id=origin.request_id,
            source=origin.source,
        )
        await self._kit.store.audit.append([entry])
