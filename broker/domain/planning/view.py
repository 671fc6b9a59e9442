"""What the planner sees: counts and sums for everything, rows only for what may be acted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.domain.features import Feature
from broker.domain.keeping import Recovery
from broker.domain.model import Desktop, DesktopState, HostState, Instant, Job, Pool, Session
from broker.domain.placement import Demand, HostLoad
from broker.domain.planning.breaker import Breaker
from broker.domain.settings import SiteSettings

ON_HOST_STATES = (
    DesktopState.READY,
    DesktopState.ASSIGNED,
    DesktopState.SUSPENDED,
    DesktopState.SUSPENDING,
    DesktopState.DELETING,
)
"""states in which rows of a host are read"""
RUNS = frozenset({HostState.UP, HostState.DRAINING, HostState.MAINTENANCE})
"""states of a host whose own machines may run"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surplus:
    """A pool had at least `least` machines too many at every look since `since`."""

    since: Instant
    least: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """A desktop was asked `tries` times to leave its host; the next time is not before
    `next_at`."""

    tries: int
    next_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one look tells the next. Lost, it is gathered anew: everything waits a little longer.

    surplus: pool id -> its surplus of machines; running: of running ones that nobody has.
    idle_since: host id -> nobody used anything on it since then.
    rebalancing: ids of hosts that were too full and are not yet as empty as they should be.
    emptying: ids of hosts whose spares leave, so that they can be switched off.
    read_after: why hosts' desktops are read -> the host that was read last for it.
    recoveries: id of a desktop that failed and holds its owner's work -> how often it was started.
    moves: desktop and host -> how often it was asked to leave that.
    """

    surplus: Mapping[str, Surplus] = field(default_factory=dict)
    running: Mapping[str, Surplus] = field(default_factory=dict)
    idle_since: Mapping[str, Instant] = field(default_factory=dict)
    rebalancing: frozenset[str] = frozenset()
    emptying: frozenset[str] = frozenset()
    read_after: Mapping[str, str] = field(default_factory=dict)
    recoveries: Mapping[str, Recovery] = field(default_factory=dict)
    moves: Mapping[str, Try] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Desktops that the plan may act on, as `rows_needed` asked.

    ready, suspended: pool id -> such desktops without an owner, longest unchanged first.
    unlike: pool id -> ready and assigned desktops with other resources than the pool's.
    on_host: host id -> its desktops in ON_HOST_STATES, and those moving to it.
    outdated: pool id -> spares of another image than the pool's, at most OUTDATED_ROWS_MAX; they
    are read without being asked for, longest unchanged first.
    """

    ready: Mapping[str, tuple[Desktop, ...]] = field(default_factory=dict)
    suspended: Mapping[str, tuple[Desktop, ...]] = field(default_factory=dict)
    unlike: Mapping[str, tuple[Desktop, ...]] = field(default_factory=dict)
    on_host: Mapping[str, tuple[Desktop, ...]] = field(default_factory=dict)
    outdated: Mapping[str, tuple[Desktop, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsNeeded:
    """How many rows of each kind to read: pool id (for `on_host` host id) -> at most so many."""

    ready: Mapping[str, int] = field(default_factory=dict)
    suspended: Mapping[str, int] = field(default_factory=dict)
    unlike: Mapping[str, int] = field(default_factory=dict)
    on_host: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One snapshot. `counts`: (pool id, desktop state) -> how many; `owned`: of them, those that
    have an owner. `waiting`: pool id -> people in its queue. `features`: host id -> what its
    engine can do there. `breakers`: (pool id, host id) -> its breaker, if it has one.

    awaited: parked desktops of sessions that are being delivered, and suspended and failed ones
    whose owner queues for their pool. resizing: host id -> what each unfinished RESIZE job may
    still take there, so that nobody else is given it. resets: machines that wait to be made
    fresh, those on full hosts left out.
    """

    now: Instant
    pools: tuple[Pool, ...]
    counts: Mapping[tuple[str, str], int]
    waiting: Mapping[str, int]
    hosts: tuple[HostLoad, ...]
    site: SiteSettings = field(default_factory=SiteSettings)
    owned: Mapping[tuple[str, str], int] = field(default_factory=dict)
    features: Mapping[str, frozenset[Feature]] = field(default_factory=dict)
    breakers: Mapping[tuple[str, str], Breaker] = field(default_factory=dict)
    awaited: tuple[Desktop, ...] = ()
    resizing: Mapping[str, tuple[Demand, ...]] = field(default_factory=dict)
    resets: tuple[Desktop, ...] = ()
    rows: Rows = field(default_factory=Rows)
    memory: Memory = field(default_factory=Memory)
    expired_sessions: tuple[Session, ...] = ()
    expired_desktops: tuple[Desktop, ...] = ()
    expired_jobs: tuple[Job, ...] = ()
    failed_desktops: tuple[Desktop, ...] = ()

    def can(self, host_id: str | None, feature: Feature) -> bool:
        """Whether the engine of this host has the feature there."""
        return feature in self.features.get(host_id or "", frozenset())
