"""The rows in memory, and the constraints that hold between them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from broker.domain.errors import AlreadyExistsError, ConflictError
from broker.domain.lifecycle import JOB, SESSION_HOLDS_DESKTOP, SESSION_HOLDS_PLACE
from broker.domain.model import (
    Campaign,
    Desktop,
    DesktopState,
    Endpoint,
    Group,
    Host,
    Image,
    Instant,
    Job,
    Pool,
    Session,
    SessionState,
    Ticket,
    User,
    WorkLease,
)
from broker.domain.policy.rules import EntitlementRule, Quota
from broker.domain.snapshots import Snapshot
from broker.ports import AuthToken, Document, OneUseSecret, Page, PageQuery
from broker.store.memory.audit import AuditRows
from broker.store.snapshot import UsedKey

Item = TypeVar("Item")


class _HasDeadline(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def deadline_at(self) -> Instant | None: ...


Late = TypeVar("Late", bound=_HasDeadline)


@dataclass(slots=True, kw_only=True)
class State:
    """Every row. `put_…` are the only ways in for rows that constraints bind together."""

    users: dict[str, User] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    desktops: dict[str, Desktop] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    campaigns: dict[str, Campaign] = field(default_factory=dict)
    tokens: dict[bytes, AuthToken] = field(default_factory=dict)
    tickets: dict[bytes, Ticket] = field(default_factory=dict)
    secrets: dict[bytes, OneUseSecret] = field(default_factory=dict)
    spent: set[bytes] = field(default_factory=set)
    """hashes of tickets and secrets that were used"""
    keys: dict[tuple[str, str], tuple[UsedKey, Instant]] = field(default_factory=dict)
    """idempotency keys and when they were first seen"""
    installation: dict[str, bytes] = field(default_factory=dict)
    rules: dict[str, EntitlementRule] = field(default_factory=dict)
    quotas: dict[str, Quota] = field(default_factory=dict)
    audit: AuditRows = field(default_factory=AuditRows)
    leases: dict[str, WorkLease] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)
    held_places: dict[tuple[str, str], str] = field(default_factory=dict)
    """(user, pool) -> session"""
    user_places: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """user -> sessions that hold a place"""
    held_desktops: dict[str, str] = field(default_factory=dict)
    """desktop -> session"""
    queues: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """pool -> sessions that wait"""
    session_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(architecture, state) -> how many sessions"""
    timed_sessions: set[str] = field(default_factory=set)
    """sessions that have a deadline"""
    names: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """kind -> name -> id, of the kinds in DirectoryStore.all_names, of rules and of quotas"""
    named: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind, id) -> the name it has in `names`"""
    desktop_names: dict[str, str] = field(default_factory=dict)
    """name -> desktop that is not deleted"""
    spots: dict[tuple[str, str], str] = field(default_factory=dict)
    """(pool, endpoint, or the desktop itself) -> desktop that is not deleted"""
    pool_desktops: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """pool -> desktops that are not deleted"""
    endpoint_desktops: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """endpoint -> desktops that are not deleted"""
    host_desktops: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """host -> desktops that are not deleted, on it or on their way to it"""
    open_jobs: dict[str, Job] = field(default_factory=dict)
    """jobs that are not over"""

    def put_session(self, session: Session) -> None:
        """Store a session.

        Raises:
            AlreadyExistsError: another one holds the user's place in the pool, or the desktop.
        """
        place = (session.user_id, session.pool_id)
        holds_place = session.state in SESSION_HOLDS_PLACE
        desktop_id = session.desktop_id if session.state in SESSION_HOLDS_DESKTOP else None
        if holds_place and self.held_places.get(place, session.id) != session.id:
            raise AlreadyExistsError("the user has a session of that pool")
        if desktop_id and self.held_desktops.get(desktop_id, session.id) != session.id:
            raise AlreadyExistsError("the desktop has a session")
        old = self.sessions.get(session.id)
        if old is not None:
            self._forget_holds(old)
        self.sessions[session.id] = session
        self.session_counts[session.architecture.value, session.state.value] += 1
        if holds_place:
            self.held_places[place] = session.id
            self.user_places[session.user_id].add(session.id)
        if desktop_id:
            self.held_desktops[desktop_id] = session.id
        if session.state is SessionState.QUEUED:
            self.queues[session.pool_id].add(session.id)
        if session.deadline_at is not None:
            self.timed_sessions.add(session.id)

    def _forget_holds(self, old: Session) -> None:
        self.session_counts[old.architecture.value, old.state.value] -= 1
        place = (old.user_id, old.pool_id)
        if self.held_places.get(place) == old.id:
            del self.held_places[place]
            self.user_places[old.user_id].discard(old.id)
        if old.desktop_id is not None and self.held_desktops.get(old.desktop_id) == old.id:
            del self.held_desktops[old.desktop_id]
        self.queues[old.pool_id].discard(old.id)
        self.timed_sessions.discard(old.id)

    def put_desktop(self, desktop: Desktop) -> None:
        """Store a desktop.

        Raises:
            AlreadyExistsError: another one that is not deleted has its name, or its endpoint's
                place in the pool.
        """
        alive = desktop.state is not DesktopState.DELETED
        spot = (desktop.pool_id, desktop.endpoint_id or desktop.id)
        if alive and (
            self.desktop_names.get(desktop.name, desktop.id) != desktop.id
            or self.spots.get(spot, desktop.id) != desktop.id
        ):
            raise AlreadyExistsError(f"there is a desktop {desktop.name!r}")
        old = self.desktops.get(desktop.id)
        for host_id in (old.host_id, old.moving_to) if old is not None else ():
            self.host_desktops[host_id or ""].discard(desktop.id)
        for host_id in (desktop.host_id, desktop.moving_to):
            if alive and host_id is not None:
                self.host_desktops[host_id].add(desktop.id)
        self.desktops[desktop.id] = desktop
        if alive:
            self.desktop_names[desktop.name] = desktop.id
            self.spots[spot] = desktop.id
            self.pool_desktops[desktop.pool_id].add(desktop.id)
            if desktop.endpoint_id is not None:
                self.endpoint_desktops[desktop.endpoint_id].add(desktop.id)
        elif self.desktop_names.get(desktop.name) == desktop.id:
            del self.desktop_names[desktop.name]
            del self.spots[spot]
            self.pool_desktops[desktop.pool_id].discard(desktop.id)
            if desktop.endpoint_id is not None:
                self.endpoint_desktops[desktop.endpoint_id].discard(desktop.id)

    def add_desktops(self, desktops: Sequence[Desktop]) -> None:
        """New desktops, all or none.

        Raises:
            AlreadyExistsError: an id, a name or an endpoint's place is taken.
            ConflictError: one refers to what does not exist, or is in two places.
        """
        added: list[Desktop] = []
        try:
            for desktop in desktops:
                self._check_parts(desktop)
                self.put_desktop(desktop)
                added.append(desktop)
        except (AlreadyExistsError, ConflictError):
            for desktop in added:
                self.put_desktop(replace(desktop, state=DesktopState.DELETED))
                del self.desktops[desktop.id]
            raise

    def _check_parts(self, desktop: Desktop) -> None:
        self.must_know(self.pools, desktop.pool_id)
        self.must_know(self.hosts, desktop.host_id)
        self.must_know(self.endpoints, desktop.endpoint_id)
        self.must_know(self.users, desktop.owner_id)
        self.must_know(self.images, desktop.image_id)
        if desktop.host_id is not None and desktop.endpoint_id is not None:
            raise ConflictError("a desktop is on a host or on an endpoint")
        if desktop.id in self.desktops:
            raise AlreadyExistsError(f"there is a desktop {desktop.id!r}")

    def add_job(self, job: Job) -> None:
        """Store a new job; raises AlreadyExistsError or ConflictError."""
        self.check_job(job, self.desktops)
        self.put_job(job)

    def check_job(self, job: Job, desktops: Mapping[str, object]) -> None:
        """Raises AlreadyExistsError or ConflictError: a new job that cannot be stored."""
        self.must_know(desktops, job.desktop_id or None)
        self.must_know(self.hosts, job.host_id)
        if job.id in self.jobs:
            raise AlreadyExistsError(f"there is a job {job.id!r}")

    def put_job(self, job: Job) -> None:
        self.jobs[job.id] = job
        if job.state in JOB.terminal:
            self.open_jobs.pop(job.id, None)
        else:
            self.open_jobs[job.id] = job

    def must_know(self, rows: Mapping[str, object], row_id: str | None) -> None:
        """Raises ConflictError: a row refers to one that is not there."""
        if row_id is not None and row_id not in rows:
            raise ConflictError("it refers to something that does not exist")

    def put_named(
        self, kind: str, rows: dict[str, Item], row_id: str, name: str, row: Item
    ) -> None:
        """Insert or replace a row whose name is unique among its kind.

        Raises:
            AlreadyExistsError: another row has that name.
        """
        taken = self.names[kind]
        if taken.get(name, row_id) != row_id:
            raise AlreadyExistsError
        old_name = self.named.pop((kind, row_id), None)
        if old_name is not None:
            del taken[old_name]
        self.named[kind, row_id] = name
        taken[name] = row_id
        rows[row_id] = row

    def drop_named(self, kind: str, rows: dict[str, Item], row_id: str) -> None:
        """Remove a row that `put_named` stored."""
        del self.names[kind][self.named.pop((kind, row_id))]
        del rows[row_id]


def page(
    rows: Iterable[Item],
    query: PageQuery,
    key: Callable[[Item], str],
    *,
    descending: bool = False,
) -> Page[Item]:
    """One page of rows that passed the filters."""
    after = query.after
    if descending:
        left = [row for row in rows if after is None or key(row) < after]
    else:
        left = [row for row in rows if after is None or key(row) > after]
    left.sort(key=key, reverse=descending)
    items = tuple(left[: query.limit])
    more = len(left) > query.limit
    return Page(items=items, next_after=key(items[-1]) if more else None)


def overdue(rows: Iterable[Late], now: Instant, limit: int) -> tuple[Late, ...]:
    """Rows whose deadline has passed, oldest deadline first."""
    late = [(row.deadline_at, row.id, row) for row in rows if row.deadline_at is not None]
    due = sorted((at, row_id) for at, row_id, _ in late if at <= now)[:limit]
    by_id = {row_id: row for _, row_id, row in late}
    return tuple(by_id[row_id] for _, row_id in due)
