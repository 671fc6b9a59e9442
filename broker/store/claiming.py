"""Who gets which desktop: pure decisions over a snapshot that a store has read.

A store reads what `Snapshot` holds, asks `wants` which ready desktops it must fetch (and lock:
no more than will be used, so that others are not kept from them), lets `decide` or `serve`
choose, and writes what they answer in the same transaction.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.architectures import rules_of
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
)
from broker.domain.queueing import Waiting, places
from broker.ports import ClaimOutcome, ClaimRequest

_ASSIGNED = DESKTOP.advance(DesktopState.READY, DesktopEvent.CLAIMED)
_WHY_CLAIMED = SESSION.table[SessionState.QUEUED, SessionEvent.CLAIMED].why
_WHY_BACK = SESSION.table[SessionState.DISCONNECTED, SessionEvent.RECONNECTED].why
_WHY_QUEUED = "no desktop is ready yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedKey:
    """An idempotency key and what it led to."""

    user_id: str
    key: str
    request_hash: bytes
    session_id: str


class Ready:
    """Ready desktops that no live session holds, each given once, lowest name first."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], Desktop] = {}
        self._owned: defaultdict[tuple[str, str], deque[Desktop]] = defaultdict(deque)
        self._free: defaultdict[str, deque[Desktop]] = defaultdict(deque)
        self._given: set[str] = set()
        self.ids: set[str] = set()

    def add(self, desktops: Iterable[Desktop]) -> None:
        """Take desktops in, those of one pool ordered by name."""
        for desktop in desktops:
            self.ids.add(desktop.id)
            if desktop.endpoint_id is not None:
                self._at[desktop.pool_id, desktop.endpoint_id] = desktop
            if desktop.owner_id is not None:
                self._owned[desktop.pool_id, desktop.owner_id].append(desktop)
            else:
                self._free[desktop.pool_id].append(desktop)

    def has_own(self, pool_id: str, user_id: str) -> bool:
        return bool(self._owned.get((pool_id, user_id)))

    def take(self, pool: Pool, user_id: str, endpoint_id: str | None) -> Desktop | None:
        """The desktop that fits best, or None. `endpoint_id`: it must be that endpoint's."""
        if endpoint_id is not None:
            found = self._at.get((pool.id, endpoint_id))
            if found is None or found.owner_id not in {None, user_id}:
                return None
            return self._give(found)
        rows = [self._free[pool.id]]
        if pool.kind is PoolKind.DEDICATED:
            rows.insert(0, self._owned[pool.id, user_id])
        for row in rows:
            while row:
                found = row.popleft()
                if found.id not in self._given:
                    return self._give(found)
        return None

    def _give(self, desktop: Desktop) -> Desktop | None:
        if desktop.id in self._given:
            return None
        self._given.add(desktop.id)
        return desktop


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """What is known before a batch is decided. `decide` keeps it up to date as it goes."""

    keys: dict[tuple[str, str | None], UsedKey] = field(default_factory=dict)
    """(user, key); a request without a key has None, which is never here"""
    sessions: dict[str, Session] = field(default_factory=dict)
    """those that hold a place for a user of the batch, and those that the keys name"""
    live: dict[tuple[str, str], str] = field(default_factory=dict)
    """(user, pool) -> the session that holds the place"""
    waiting: defaultdict[str, list[Waiting]] = field(default_factory=lambda: defaultdict(list))
    desktops: dict[str, Desktop] = field(default_factory=dict)
    """those of `sessions`"""
    ready: Ready = field(default_factory=Ready)

    def add_sessions(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            self.sessions[session.id] = session
            if session.state in SESSION_HOLDS_PLACE:
                self.live[session.user_id, session.pool_id] = session.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """The ready desktops that a batch may use."""

    at: frozenset[tuple[str, str]]
    """(pool, endpoint)"""
    own: frozenset[tuple[str, str]]
    """(pool, user), of dedicated pools"""
    free: Mapping[str, tuple[str, ...]]
    """pool -> the users who take any of its unowned desktops, once for each desktop"""


@dataclass(slots=True, kw_only=True)
class Decision:
    """What a batch comes to. Records stand here as they shall be stored."""

    outcomes: list[ClaimOutcome] = field(default_factory=list)
    new: list[Session] = field(default_factory=list)
    reconnected: list[Session] = field(default_factory=list)
    claimed: list[Desktop] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    keys: list[UsedKey] = field(default_factory=list)


def _bound_to(request: ClaimRequest) -> str | None:
    return request.endpoint_id if request.runs_on_endpoint else None


def wants(requests: Sequence[ClaimRequest], snapshot: Snapshot) -> Wants:
    """Which ready desktops `decide` may ask for, given the same requests and snapshot."""
    at: set[tuple[str, str]] = set()
    own: set[tuple[str, str]] = set()
    free: defaultdict[str, list[str]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for request in requests:
        place = (request.user_id, request.pool.id)
        key = (request.user_id, request.idempotency_key)
        if place in seen or place in snapshot.live or key in snapshot.keys:
            continue
        seen.add(place)
        bound = _bound_to(request)
        if bound is not None:
            at.add((request.pool.id, bound))
        elif not snapshot.waiting.get(request.pool.id):
            free[request.pool.id].append(request.user_id)
            if request.pool.kind is PoolKind.DEDICATED:
                own.add((request.pool.id, request.user_id))
    return Wants(
        at=frozenset(at),
        own=frozenset(own),
        free={pool_id: tuple(users) for pool_id, users in free.items()},
    )


def unowned_needed(wanted: Wants, ready: Ready) -> Counter[str]:
    """Pool -> how many unowned desktops to fetch, once the users' own ones are in `ready`."""
    return Counter(
        pool_id
        for pool_id, users in wanted.free.items()
        for user_id in users
        if not ready.has_own(pool_id, user_id)
    )


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


def _outcome(
    request: ClaimRequest, snapshot: Snapshot, now: Instant, out: Decision
) -> ClaimOutcome:
    used = snapshot.keys.get((request.user_id, request.idempotency_key))
    if used is not None and used.request_hash != request.request_hash:
        return ClaimOutcome(mismatch=True)
    session_id = (
        used.session_id
        if used is not None
        else snapshot.live.get((request.user_id, request.pool.id))
    )
    if session_id is not None:
        return _again(request, snapshot, snapshot.sessions[session_id], out)
    return _new(request, snapshot, now, out)


def _again(
    request: ClaimRequest, snapshot: Snapshot, session: Session, out: Decision
) -> ClaimOutcome:
    desktop = snapshot.desktops.get(session.desktop_id or "")
    if session.state is SessionState.DISCONNECTED:
        on_endpoint = desktop.endpoint_id if desktop is not None else None
        session = replace(
            session,
            state=SESSION.advance(session.state, SessionEvent.RECONNECTED),
            endpoint_id=on_endpoint if request.runs_on_endpoint else request.endpoint_id,
            deadline_at=request.deliver_deadline_at,
            revision=session.revision + 1,
            why=_WHY_BACK,
        )
        out.reconnected.append(session)
        snapshot.sessions[session.id] = session
    if session.state not in SESSION_HOLDS_PLACE:
        desktop = None
    return ClaimOutcome(session=session, desktop=desktop, ticket_stored=desktop is not None)


def _new(request: ClaimRequest, snapshot: Snapshot, now: Instant, out: Decision) -> ClaimOutcome:
    pool, bound, queue = request.pool, _bound_to(request), snapshot.waiting[request.pool.id]
    desktop = None
    if bound is not None or not queue:
        desktop = snapshot.ready.take(pool, request.user_id, bound)
    if desktop is None and len(queue) >= request.queue_limit:
        return ClaimOutcome(queue_full=True)
    if desktop is not None:
        desktop = claimed_desktop(desktop, pool, request.user_id, now)
        snapshot.desktops[desktop.id] = desktop
        out.claimed.append(desktop)
    session = _new_session(request, desktop, now)
    out.new.append(session)
    snapshot.sessions[session.id] = session
    snapshot.live[request.user_id, pool.id] = session.id
    if desktop is None:
        queue.append(Waiting(session_id=session.id, group_id=session.group_id, requested_at=now))
    return ClaimOutcome(
        session=session, desktop=desktop, new=True, ticket_stored=desktop is not None
    )


def _new_session(request: ClaimRequest, desktop: Desktop | None, now: Instant) -> Session:
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
        why=_WHY_CLAIMED if desktop is not None else _WHY_QUEUED,
        requested_at=now,
        assigned_at=now if desktop is not None else None,
        live_at=None,
        ended_at=None,
        lease_until=None,
    )


def decide(requests: Sequence[ClaimRequest], snapshot: Snapshot, now: Instant) -> Decision:
    """Decide a batch in the order given; see SessionStore.claim."""
    out = Decision()
    for request in requests:
        outcome = _outcome(request, snapshot, now, out)
        out.outcomes.append(outcome)
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


def queue_bound_to(session: Session, pool: Pool) -> str | None:
    """The endpoint whose desktop a waiting session needs, if it needs a certain one."""
    return session.endpoint_id if rules_of(pool.architecture).runs_on_endpoint else None


def serve(
    pool: Pool, queued: Sequence[Session], ready: Ready, deadline_at: Instant, now: Instant
) -> list[tuple[Session, Desktop]]:
    """Give ready desktops to the queued sessions, in their order; see SessionStore.serve_queue."""
    served: list[tuple[Session, Desktop]] = []
    for session in queued:
        found = ready.take(pool, session.user_id, queue_bound_to(session, pool))
        if found is None:
            continue
        desktop = claimed_desktop(found, pool, session.user_id, now)
        moved = replace(
            session,
            state=SESSION.advance(session.state, SessionEvent.CLAIMED),
            desktop_id=desktop.id,
            endpoint_id=desktop.endpoint_id or session.endpoint_id,
            deadline_at=deadline_at,
            generation=desktop.generation,
            revision=session.revision + 1,
            why=_WHY_CLAIMED,
            assigned_at=now,
        )
        served.append((moved, desktop))
    return served
