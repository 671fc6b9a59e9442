"""The way of one request: admit, claim, deliver, ticket.

Claims that arrive together share one commit: each waits in a bounded queue, and one loop takes
as many as there are (CLAIM_BATCH_MAX), decides them in one transaction and answers each. Under
load this costs one disk flush for many claims; alone, a claim waits for nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace

from broker import limits
from broker.architectures import rules_of
from broker.domain.errors import (
    BusyError,
    ElsewhereError,
    IdempotencyMismatchError,
    NotFoundError,
    OverQuotaError,
    QueueFullError,
    TriviumError,
)
from broker.domain.lifecycle import SESSION_HOLDS_DESKTOP
from broker.domain.model import Desktop, Endpoint, Identity, Instant, Pool, Session, SessionState
from broker.domain.policy.entitlement import Decision
from broker.domain.queueing import places
from broker.domain.settings import TakeOver
from broker.ports import ClaimOutcome, ClaimRequest
from broker.services.delivery import Delivery
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.parking import Parking
from broker.services.policies import Policies
from broker.services.pools import Pools
from broker.services.queues import Queues
from broker.services.readmission import Readmission
from broker.services.tally import Tally
from broker.services.tickets import secret_hash, ticket_for

_QUEUE_FULL_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The answer to a connect. `ticket` opens the display in the browser that asked; it is None
    at an endpoint, and while the person waits.

    `desktop` and `endpoint` are set where they were at hand, for their names.
    """

    session: Session
    pool: Pool
    desktop: Desktop | None
    endpoint: Endpoint | None
    new: bool
    place: int | None
    ticket: str | None
    ticket_expires_at: Instant | None


_Waiting = tuple[ClaimRequest, "asyncio.Future[ClaimOutcome]"]


class Connect:
    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        policies: Policies,
        delivery: Delivery,
        parking: Parking,
        queues: Queues,
        tally: Tally,
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._policies = policies
        self._delivery = delivery
        self._parking = parking
        self._queues = queues
        self._tally = tally
        self._readmission = Readmission(kit, policies, queues, tally)
        self._claims: asyncio.Queue[_Waiting] = asyncio.Queue(limits.CLAIM_QUEUE_MAX)

    @property
    def waiting(self) -> int:
        """Claims that wait for a commit."""
        return self._claims.qsize()

    async def run(self) -> None:
        """Decide claims for ever, batch after batch."""
        while True:
            batch = [await self._claims.get()]
            while len(batch) < limits.CLAIM_BATCH_MAX and not self._claims.empty():
                batch.append(self._claims.get_nowait())
            await self._decide(batch)

    async def _decide(self, batch: list[_Waiting]) -> None:
        # a caller that was cancelled meanwhile gets nothing: no desktop is claimed for nobody
        alive = [(request, future) for request, future in batch if not future.done()]
        if not alive:
            return
        try:
            outcomes = await self._kit.store.sessions.claim(
                [request for request, _ in alive], self._kit.clock.now()
            )
        except Exception as error:  # noqa: BLE001 - each waiter gets it and answers for itself
            for _, future in alive:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), outcome in zip(alive, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    async def _claim(self, request: ClaimRequest) -> ClaimOutcome:
        future: asyncio.Future[ClaimOutcome] = asyncio.get_running_loop().create_future()
        try:
            self._claims.put_nowait((request, future))
        except asyncio.QueueFull as error:
            self._tally.count("claims_refused", request.pool.architecture)
            text = "too many people connect at once"
            raise BusyError(text, retry_after_s=self._kit.chance.uniform(1, 3)) from error
        return await future

    async def connect(
        self,
        identity: Identity,
        pool_ref: str,
        endpoint_ref: str | None = None,
        idempotency_key: str | None = None,
        origin: Origin = NOWHERE,
        *,
        move: bool = True,
    ) -> Connected:
        """Give this person a desktop of this pool, or a place in its queue.

        A session that is live at another place moves here, or its person there is asked first
        (`session.wish` is set then, and there is no ticket), as the pool's settings say; without
        `move` it stays there. A browser
        is a place of its own, known by its sign-in; an endpoint gets its ticket with its order.

        Raises:
            NotFoundError, NotEntitledError, DeniedByRuleError, PoolClosedError, SiteClosedError,
            WrongEndpointError: not admitted. OverQuotaError: too many sessions are live.
            ElsewhereError: the session is live at another place and does not move.
            IdempotencyMismatchError: the key was used for something else.
            QueueFullError, BusyError: no room to wait; `retry_after_s` says when to come back.
        """
        started = self._kit.clock.monotonic()
        pool = await self._pools.find(pool_ref)
        endpoint = await self._endpoint(endpoint_ref)
        decision = await self._admit(identity, pool, endpoint, origin)
        endpoint_id = endpoint.id if endpoint is not None else None
        ticket = ticket_for(None, self._kit.ids.secret())
        request = self._request(
            identity, pool, endpoint_id, decision, ticket, idempotency_key, origin
        )
        if not move:
            request = replace(request, take_over=TakeOver.REFUSE)
        outcome = await self._claim(request)
        session = await self._accepted(outcome, request)
        await self._push(outcome, session)
        self._tally.count("connects" if outcome.new else "connects_again", pool.architecture)
        if outcome.place is not None and outcome.new:
            self._tally.count("queued", pool.architecture)
        self._tally.took("assign", pool.architecture, self._kit.clock.monotonic() - started)
        return Connected(
            session=session,
            pool=pool,
            desktop=outcome.desktop,
            endpoint=endpoint,
            new=outcome.new,
            place=outcome.place,
            ticket=ticket if outcome.ticket_stored else None,
            ticket_expires_at=request.ticket_expires_at if outcome.ticket_stored else None,
        )

    async def _push(self, outcome: ClaimOutcome, session: Session) -> None:
        """Tell everybody whom the claim concerns: the endpoint left, the new one, who is asked."""
        self._kit.events.publish(
            "session",
            id=session.id,
            user_id=session.user_id,
            state=session.state,
            endpoint_id=session.endpoint_id,
            display=session.display,
        )
        if outcome.left_endpoint is not None:
            self._delivery.leave(outcome.left_endpoint, session)
        if session.state is SessionState.DELIVERING:
            if outcome.desktop is not None:
                # a person who comes back to a suspended desktop waits for it from now on
                self._parking.awake(outcome.desktop)
            await self._delivery.owe(session, outcome.desktop)
        if session.wish is not None:
            await self._delivery.attend(session)

    async def _endpoint(self, ref: str | None) -> Endpoint | None:
        if ref is None:
            return None
        endpoints = self._kit.store.endpoints
        endpoint = await endpoints.endpoint_by_name(ref)
        if endpoint is None and ref.startswith("ept_"):
            endpoint = await endpoints.endpoint(ref)
        if endpoint is None:
            raise NotFoundError(f"there is no endpoint {ref!r}")
        return endpoint

    async def _admit(
        self, identity: Identity, pool: Pool, endpoint: Endpoint | None, origin: Origin
    ) -> Decision:
        now = self._kit.clock.now()
        try:
            return await self._policies.admit(identity, pool, endpoint, origin, now)
        except TriviumError:
            self._tally.count("refused", pool.architecture)
            raise

    def _request(
        self,
        identity: Identity,
        pool: Pool,
        endpoint_id: str | None,
        decision: Decision,
        ticket: str,
        idempotency_key: str | None,
        origin: Origin,
    ) -> ClaimRequest:
        now = self._kit.clock.now()
        return ClaimRequest(
            session_id=self._kit.ids.new("ses"),
            user_id=identity.user_id,
            group_id=decision.group_id,
            pool=pool,
            endpoint_id=endpoint_id,
            runs_on_endpoint=rules_of(pool.architecture).runs_on_endpoint,
            ticket_id=self._kit.ids.new("tkt"),
            ticket_secret_hash=secret_hash(ticket),
            ticket_expires_at=now + limits.TICKET_S * 1000,
            deliver_deadline_at=now + limits.DELIVER_S * 1000,
            queue_deadline_at=now + limits.QUEUE_S * 1000,
            queue_limit=limits.POOL_QUEUE_MAX,
            idempotency_key=idempotency_key,
            request_hash=hashlib.sha256(f"{pool.id} {endpoint_id}".encode()).digest(),
            quotas=decision.quotas,
            take_over=pool.settings.take_over,
            wish_id=self._kit.ids.new("wsh"),
            wish_until=now + pool.settings.consent_s * 1000,
            actor=identity.user_id,
            request_id=origin.request_id,
            source=origin.source,
            browser=identity.token_id if endpoint_id is None else None,
        )

    async def _accepted(self, outcome: ClaimOutcome, request: ClaimRequest) -> Session:
        pool, session = request.pool, outcome.session
        if outcome.mismatch:
            raise IdempotencyMismatchError
        if outcome.closed is not None:
            self._tally.count("refused", pool.architecture)
            raise outcome.closed
        if outcome.over_quota:
            self._tally.count("over_quota", pool.architecture)
            text = f"the quota “{outcome.over_quota}” leaves no room for one more session"
            raise OverQuotaError(text, fields={"quota": outcome.over_quota})
        if outcome.queue_full or session is None:
            self._tally.count("queue_full", pool.architecture)
            text = f"{limits.POOL_QUEUE_MAX} people wait for {pool.name} already"
            pause_s = self._kit.chance.uniform(_QUEUE_FULL_PAUSE_S, 3 * _QUEUE_FULL_PAUSE_S)
            raise QueueFullError(text, retry_after_s=pause_s)
        if outcome.elsewhere:
            stays = pool.settings.take_over is TakeOver.REFUSE
            why = "its pool does not let it move" if stays else "it was not to be moved"
            raise await self._elsewhere(session, why)
        if (
            request.runs_on_endpoint
            and request.endpoint_id is not None
            and session.state in SESSION_HOLDS_DESKTOP
            and session.endpoint_id != request.endpoint_id
        ):
            why = f"a desktop under {session.architecture} runs on its endpoint and cannot move"
            raise await self._elsewhere(session, why)
        return session

    async def _elsewhere(self, session: Session, why: str) -> ElsewhereError:
        where = "another browser"
        if session.endpoint_id is not None:
            found = await self._kit.store.endpoints.endpoint(session.endpoint_id)
            where = found.name if found is not None else session.endpoint_id
        text = f"your session is in use at {where}; {why}"
        return ElsewhereError(text, fields={"session_id": session.id, "endpoint": where})

    async def serve_queue(self, pool: Pool) -> tuple[Session, ...]:
        """Give ready desktops of this pool to those who wait and are still admitted, in the fair
        order."""
        kit = self._kit
        waiting = await kit.store.sessions.waiting(pool.id)
        if not waiting:
            return ()
        order = sorted(places(waiting).items(), key=lambda item: item[1])
        admitted = await self._readmission.still_admitted(pool, [one for one, _ in order])
        if not admitted:
            return ()
        now = kit.clock.now()
        served = await kit.store.sessions.serve_queue(
            pool,
            admitted,
            now + limits.DELIVER_S * 1000,
            now,
        )
        for session in served:
            kit.events.publish(
                "session",
                id=session.id,
                user_id=session.user_id,
                state=session.state,
                endpoint_id=session.endpoint_id,
            )
            self._tally.took("queue", pool.architecture, (now - session.requested_at) / 1000)
            await self._delivery.owe(session)
        if served:
            await self._queues.served(pool, len(served))
        return served

    async def place(self, session: Session) -> int | None:
        """The session's place in its queue, 1 being next; None if it does not wait."""
        return await self._queues.place(session)
