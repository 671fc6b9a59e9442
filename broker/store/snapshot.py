"""What must be known before a batch of claims is decided."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.domain.lifecycle import SESSION_HOLDS_PLACE
from broker.domain.model import Desktop, Pool, PoolKind, Session
from broker.domain.policy.rules import Quota
from broker.domain.queueing import Waiting
from broker.domain.settings import SiteSettings
from broker.ports import ClaimRequest
from broker.store.ready import Ready


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedKey:
    """An idempotency key and what it led to."""

    user_id: str
    key: str
    request_hash: bytes
    session_id: str


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """What is known before a batch is decided. `decide` keeps it up to date as it goes."""

    keys: dict[tuple[str, str | None], UsedKey] = field(default_factory=dict)
    """(user, key); a request without a key has None, which is never here"""
    sessions: dict[str, Session] = field(default_factory=dict)
    """those that hold a place for a user of the batch, and those that the keys name"""
    live: dict[tuple[str, str], str] = field(default_factory=dict)
    """(user, pool) -> the session that holds the place"""
    held: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """user -> pools of which the user has a live session"""
    waiting: defaultdict[str, list[Waiting]] = field(default_factory=lambda: defaultdict(list))
    desktops: dict[str, Desktop] = field(default_factory=dict)
    """those of `sessions`"""
    ready: Ready = field(default_factory=Ready)
    shared: Mapping[str, Quota] = field(default_factory=dict)
    """the batch's quotas that count more than one person's sessions, by id"""
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """those of the batch, open or closed as they are stored now"""
    site: SiteSettings = field(default_factory=SiteSettings)
    counted: dict[str, int] = field(default_factory=dict)
    """quota of `shared` -> live sessions that it counts"""

    def add_sessions(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            self.sessions[session.id] = session
            if session.state in SESSION_HOLDS_PLACE:
                self.live[session.user_id, session.pool_id] = session.id
                self.held[session.user_id].add(session.pool_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """The ready desktops that a batch may use."""

    at: frozenset[tuple[str, str]]
    """(pool, endpoint)"""
    own: frozenset[tuple[str, str]]
    """(pool, user), of dedicated pools"""
    free: Mapping[str, tuple[str, ...]]
    """pool -> the users who take any of its unowned desktops, once for each desktop"""


def bound_to(request: ClaimRequest) -> str | None:
    """The endpoint whose desktop the request needs, if it needs a certain one."""
    return request.endpoint_id if request.runs_on_endpoint else None


def wants(requests: Sequence[ClaimRequest], snapshot: Snapshot) -> Wants:
    """Which ready desktops `decide` may ask for, given the same requests and snapshot."""
    at: set[tuple[str, str]] = set()
    own: set[tuple[str, str]] = set()
    free: defaultdict[str, list[str]] = defaultdict(list)
    seen: set[tuple[str, str, str | None]] = set()
    for request in requests:
        bound = bound_to(request)
        # with the endpoint: where the first request finds none, a second elsewhere may
        place = (request.user_id, request.pool.id, bound)
        key = (request.user_id, request.idempotency_key)
        if place in seen or place[:2] in snapshot.live or key in snapshot.keys:
            continue
        seen.add(place)
        if bound is not None:
            at.add((request.pool.id, bound))
        elif request.runs_on_endpoint:
            continue
        else:
            if request.pool.kind is PoolKind.DEDICATED:
                own.add((request.pool.id, request.user_id))
            if not snapshot.waiting.get(request.pool.id):
                free[request.pool.id].append(request.user_id)
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
