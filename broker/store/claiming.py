"""Who gets which desktop: pure decisions over a snapshot that a store has read.

A store reads what `Snapshot` holds, asks `wants` which ready desktops it must fetch (and lock:
no more than will be used, so that others are not kept from them), lets `decide` or `serve`
choose, and writes what they answer in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from broker.domain.audit import AuditEntry
from broker.domain.lifecycle import (
    DESKTOP,
    SESSION,
    SESSION_HOLDS_PLACE,
    DesktopEvent,
    SessionEvent,
)
from broker.domain.model import (
    Desktop,
    DesktopState,
    Instant,
    Pool,
    PoolKind,
    Session,
    SessionState,
    Ticket,
    Wish,
)
from broker.domain.policy.opening import closed_because
from broker.domain.policy.rules import Quota, QuotaScope
from broker.domain.queueing import Waiting, places
from broker.domain.settings import TakeOver
from broker.ports import ClaimOutcome, ClaimRequest
from broker.store import quotas, reasons
from broker.store.reasons import Reason
from broker.store.snapshot import Snapshot, UsedKey, bound_to

_ASSIGNED = DESKTOP.advance(DesktopState.READY, DesktopEvent.CLAIMED)


@dataclass(slots=True, kw_only=True)
class Decision:
    """What a batch comes to. Records stand here as they shall be stored, `new` ones first."""

    outcomes: list[ClaimOutcome] = field(default_factory=list)
    entries: list[AuditEntry] = field(default_factory=list)
    new: list[Session] = field(default_factory=list)
    moved: list[Session] = field(default_factory=list)
    """reconnected, taken over, or wished for"""
    waiting: list[Session] = field(default_factory=list)
    """queued before; their clients called again"""
    claimed: list[Desktop] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    keys: list[UsedKey] = field(default_factory=list)


_Answer = tuple[ClaimOutcome, Reason]


def claimed_desktop(desktop: Desktop, pool: Pool, user_id: str, now: Instant) -> Desktop:
    """The desktop once it is the user's. In a dedicated pool it stays the user's."""
    return replace(
        desktop,
        state=_ASSIGNED,
        target=None,
        deadline_at=None,
        owner_id=user_id if pool.kind is PoolKind.DEDICATED else desktop.owner_id,
        changed_at=now,
    )


def _answer(request: ClaimRequest, snapshot: Snapshot, now: Instant, out: Decision) -> _Answer:
    used = snapshot.keys.get((request.user_id, request.idempotency_key))
    if used is not None and used.request_hash != request.request_hash:
        return ClaimOutcome(mismatch=True), reasons.MISMATCH
    session_id = (
        used.session_id
        if used is not None
        else snapshot.live.get((request.user_id, request.pool.id))
    )
    if session_id is None:
        return _new(request, snapshot, now, out)
    session = snapshot.sessions[session_id]
    return _again(request, snapshot, session, now, out, repeated=used is not None)


def _again(
    request: ClaimRequest,
    snapshot: Snapshot,
    session: Session,
    now: Instant,
    out: Decision,
    *,
    repeated: bool,
) -> _Answer:
    """The person has this session. `repeated`: the very request that led to it came again."""
    desktop = snapshot.desktops.get(session.desktop_id or "")
    if session.state not in SESSION_HOLDS_PLACE:
        return ClaimOutcome(session=session), reasons.live_already(session, None)
    if session.state is SessionState.QUEUED:
        return _still_waiting(request, snapshot, session, now, out, repeated=repeated)
    if session.state is SessionState.DISCONNECTED:
        return _back(request, snapshot, session, desktop, out)
    here = (request.endpoint_id, request.browser)
    roams = not request.runs_on_endpoint and here != (session.endpoint_id, session.browser)
    if roams and repeated:
        return _elsewhere(session, desktop, reasons.REPEATED)
    if roams:
        return _roam(request, snapshot, session, desktop, now, out)
    opens = _opens(session, desktop)
    outcome = ClaimOutcome(session=session, desktop=desktop, ticket_stored=opens)
    return outcome, reasons.live_already(session, desktop)


def _opens(session: Session, desktop: Desktop | None) -> bool:
    """Whether whoever asked opens the display with a ticket: an endpoint gets its own."""
    return desktop is not None and session.endpoint_id is None


def _still_waiting(
    request: ClaimRequest,
    snapshot: Snapshot,
    session: Session,
    now: Instant,
    out: Decision,
    *,
    repeated: bool,
) -> _Answer:
    """The client called again; who came to another endpoint meanwhile is served there."""
    bound = request.runs_on_endpoint
    stays = bound or repeated
    comes_from = session.endpoint_id if stays else request.endpoint_id
    browser = session.browser if stays else request.browser
    place_changes = (comes_from, browser) != (session.endpoint_id, session.browser)
    session = replace(
        session,
        active_at=now if session.active_at is None else max(now, session.active_at),
        endpoint_id=comes_from,
        browser=browser,
        source=session.source if repeated else request.source or None,
        revision=session.revision + place_changes,
    )
    out.waiting.append(session)
    snapshot.sessions[session.id] = session
    cause = reasons.waits(request.pool, bound=bound and comes_from is not None, others=False)
    return ClaimOutcome(session=session), cause


def _back(
    request: ClaimRequest,
    snapshot: Snapshot,
    session: Session,
    desktop: Desktop | None,
    out: Decision,
) -> _Answer:
    reason = reasons.back(desktop)
    on_endpoint = desktop.endpoint_id if desktop is not None else None
    session = _moved(
        request,
        session,
        SessionEvent.RECONNECTED,
        reason,
        endpoint_id=on_endpoint if request.runs_on_endpoint else request.endpoint_id,
    )
    out.moved.append(session)
    snapshot.sessions[session.id] = session
    opens = _opens(session, desktop)
    return ClaimOutcome(session=session, desktop=desktop, ticket_stored=opens), reason


def _moved(
    request: ClaimRequest,
    session: Session,
    event: SessionEvent,
    reason: Reason,
    *,
    endpoint_id: str | None,
) -> Session:
    """Delivered anew at this endpoint; whatever move was asked for before is settled by it."""
    return replace(
        session,
        state=SESSION.advance(session.state, event),
        endpoint_id=endpoint_id,
        browser=request.browser if endpoint_id is None else None,
        display=None,
        deadline_at=request.deliver_deadline_at,
        revision=session.revision + 1,
        why=reason.told,
        wish=None,
    )


def _elsewhere(session: Session, desktop: Desktop | None, reason: Reason) -> _Answer:
    return ClaimOutcome(session=session, desktop=desktop, elsewhere=True), reason


def _roam(
    request: ClaimRequest,
    snapshot: Snapshot,
    session: Session,
    desktop: Desktop | None,
    now: Instant,
    out: Decision,
) -> _Answer:
    """The session is live at one place and its person asks from another."""
    nowhere = session.endpoint_id is None and session.browser is None
    match TakeOver.MOVE if nowhere else request.take_over:
        case TakeOver.REFUSE:
            return _elsewhere(session, desktop, reasons.STAYS)
        case TakeOver.ASK:
            return _ask(request, snapshot, session, desktop, now, out)
        case TakeOver.MOVE:
            reason, left = reasons.moves(desktop), session.endpoint_id
            session = _moved(
                request,
                session,
                SessionEvent.TAKEN_OVER,
                reason,
                endpoint_id=request.endpoint_id,
            )
            out.moved.append(session)
            snapshot.sessions[session.id] = session
            outcome = ClaimOutcome(
                session=session,
                desktop=desktop,
                ticket_stored=_opens(session, desktop),
                left_endpoint=left,
            )
            return outcome, reason


def _ask(
    request: ClaimRequest,
    snapshot: Snapshot,
    session: Session,
    desktop: Desktop | None,
    now: Instant,
    out: Decision,
) -> _Answer:
    """Keep the wish for the person at the first place to answer; a pending one stands."""
    pending = session.wish
    stands = (
        pending is not None
        and pending.endpoint_id == request.endpoint_id
        and pending.browser == request.browser
        and pending.until > now
    )
    if not stands:
        session = replace(
            session,
            state=SESSION.advance(session.state, SessionEvent.NOTED),
            revision=session.revision + 1,
            why=reasons.NEEDS_CONSENT.told,
            wish=Wish(
                id=request.wish_id,
                endpoint_id=request.endpoint_id,
                until=request.wish_until,
                browser=request.browser,
            ),
        )
        out.moved.append(session)
        snapshot.sessions[session.id] = session
    return ClaimOutcome(session=session, desktop=desktop), reasons.NEEDS_CONSENT


def _full_quota(request: ClaimRequest, snapshot: Snapshot) -> Quota | None:
    """The first of the request's quotas that leaves no room for one more session."""
    for quota in request.quotas:
        if not quota.enabled or not quotas.counts(quota, request.group_id, request.pool.id):
            continue
        if quota.scope is QuotaScope.USER:
            pools = snapshot.held.get(request.user_id, ())
            live = sum(not quota.pool_ids or pool_id in quota.pool_ids for pool_id in pools)
        else:
            live = snapshot.counted[quota.id]
        if live >= quota.sessions_max:
            return quota
    return None


def _new(request: ClaimRequest, snapshot: Snapshot, now: Instant, out: Decision) -> _Answer:
    pool, bound, queue = request.pool, bound_to(request), snapshot.waiting[request.pool.id]
    closed = closed_because(snapshot.pools.get(pool.id, pool), snapshot.site, now)
    if closed is not None:
        return ClaimOutcome(closed=closed), reasons.closed(closed)
    quota = _full_quota(request, snapshot)
    if quota is not None:
        return ClaimOutcome(over_quota=quota.name), reasons.over(quota)
    # a person's own desktop serves nobody else who waits
    others = bound is None and bool(queue)
    desktop = snapshot.ready.take(pool, request.user_id, bound, owned=others)
    if desktop is None and len(queue) >= request.queue_limit:
        return ClaimOutcome(queue_full=True), reasons.queue_full(request)
    if desktop is None:
        reason = reasons.waits(pool, bound=bound is not None, others=bool(queue))
    else:
        reason = reasons.given(desktop, pool, request.user_id, bound)
        desktop = claimed_desktop(desktop, pool, request.user_id, now)
        snapshot.desktops[desktop.id] = desktop
        out.claimed.append(desktop)
    session = _new_session(request, desktop, reason, now)
    out.new.append(session)
    snapshot.add_sessions([session])
    for quota_id, shared in snapshot.shared.items():
        snapshot.counted[quota_id] += quotas.counts(shared, request.group_id, pool.id)
    if desktop is None:
        start = next((one.start for one in queue if one.group_id == session.group_id), 0)
        queue.append(
            Waiting(session_id=session.id, group_id=session.group_id, requested_at=now, start=start)
        )
    outcome = ClaimOutcome(
        session=session, desktop=desktop, new=True, ticket_stored=_opens(session, desktop)
    )
    return outcome, reason


def _new_session(
    request: ClaimRequest, desktop: Desktop | None, reason: Reason, now: Instant
) -> Session:
    on_endpoint = desktop.endpoint_id if desktop is not None else None
    return Session(
        id=request.session_id,
        user_id=request.user_id,
        pool_id=request.pool.id,
        architecture=request.pool.architecture,
        desktop_id=desktop.id if desktop is not None else None,
        endpoint_id=on_endpoint or request.endpoint_id,
        group_id=request.group_id,
        state=SessionState.DELIVERING if desktop is not None else SessionState.QUEUED,
        deadline_at=(
            request.deliver_deadline_at if desktop is not None else request.queue_deadline_at
        ),
        generation=desktop.generation if desktop is not None else 0,
        revision=1,
        why=reason.told,
        requested_at=now,
        assigned_at=now if desktop is not None else None,
        live_at=None,
        ended_at=None,
        lease_until=None,
        active_at=now if desktop is None else None,
        browser=request.browser,
        source=request.source or None,
    )


def decide(requests: Sequence[ClaimRequest], snapshot: Snapshot, now: Instant) -> Decision:
    """Decide a batch in the order given; see SessionStore.claim."""
    out = Decision()
    causes: list[Reason] = []
    for request in requests:
        outcome, reason = _answer(request, snapshot, now, out)
        out.outcomes.append(outcome)
        causes.append(reason)
        if outcome.session is None:
            continue
        if outcome.ticket_stored:
            out.tickets.append(
                Ticket(
                    id=request.ticket_id,
                    secret_hash=request.ticket_secret_hash,
                    session_id=outcome.session.id,
                    user_id=request.user_id,
                    expires_at=request.ticket_expires_at,
                )
            )
        key = request.idempotency_key
        if key is not None and (request.user_id, key) not in snapshot.keys:
            used = UsedKey(
                user_id=request.user_id,
                key=key,
                request_hash=request.request_hash,
                session_id=outcome.session.id,
            )
            snapshot.keys[request.user_id, key] = used
            out.keys.append(used)
    out.outcomes = _with_places(out.outcomes, snapshot)
    out.entries = [
        reasons.entry(request, outcome, reason.why, now)
        for request, outcome, reason in zip(requests, out.outcomes, causes, strict=True)
    ]
    return out


def _with_places(outcomes: list[ClaimOutcome], snapshot: Snapshot) -> list[ClaimOutcome]:
    """Tell those who wait their place, as it is after the whole batch."""
    tables: dict[str, dict[str, int]] = {}
    told: list[ClaimOutcome] = []
    for outcome in outcomes:
        session = outcome.session
        if session is None or session.state is not SessionState.QUEUED:
            told.append(outcome)
            continue
        table = tables.get(session.pool_id)
        if table is None:
            table = tables[session.pool_id] = places(snapshot.waiting[session.pool_id])
        told.append(replace(outcome, place=table.get(session.id)))
    return told
