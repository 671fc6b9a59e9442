"""What each pool lacks and what it has too many of, from counts alone.

With `free` for what nobody owns or uses:
  wanted running   = people who wait for a new one + spares
  wanted suspended = second-level spares (where a host can suspend)
  short            = wanted running - (free ready + free on their way)
                     (for people who wait: without those on hosts that drain)
  to make          = max(wanted - free in all, size_min - existing), within size_max
  surplus          = free in all - wanted, never below size_min
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from broker.domain.features import Feature
from broker.domain.keeping import keeps_work
from broker.domain.model import Architecture, DesktopState, HostState, Pool
from broker.domain.planning.effective import Effective, effective
from broker.domain.planning.view import RUNS, View

COMING = (
    DesktopState.PLANNED,
    DesktopState.CREATING,
    DesktopState.STARTING,
    DesktopState.RESETTING,
    DesktopState.RESUMING,
)
ASLEEP = (DesktopState.SUSPENDED, DesktopState.SUSPENDING)
_HERE = tuple(
    state for state in DesktopState if state not in {DesktopState.DELETED, DesktopState.UNAVAILABLE}
)
_OWN = frozenset({DesktopState.SUSPENDED, DesktopState.FAILED})
"""states in which an awaited desktop is its owner's"""
_GOING = (DesktopState.FAILED, DesktopState.DELETING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One VDI pool's figures, all of them counts of machines.

    waiting: people who need a machine that is not theirs yet. ready, coming, asleep: those that
    nobody owns; `ready` may be given, `leaving` are ready on hosts that drain or are under
    maintenance, from where they move or go; those on hosts that do not run count for nothing;
    `resumable`: of those asleep, suspended already. existing: all that take a place of size_max,
    so without those that cannot be removed for their host does not run; `lasting`: without those
    that go or whose host does not run.
    """

    pool: Pool
    now: Effective
    waiting: int
    ready: int
    leaving: int
    coming: int
    asleep: int
    resumable: int
    existing: int
    lasting: int
    wanted_running: int
    wanted_asleep: int

    @property
    def short(self) -> int:
        """Running machines that are missing."""
        spares = self.wanted_running - self.ready - self.leaving - self.coming
        people = (self.waiting if self.now.open else 0) - self.ready - self.coming
        return max(0, spares, people)

    @property
    def short_for_people(self) -> int:
        """Of them, those for people who wait."""
        if not (self.now.makes and self.now.open):
            return 0
        return max(0, self.waiting - self.ready - self.coming)

    @property
    def to_resume(self) -> int:
        if not self.now.makes:
            return 0
        return min(self.short, self.resumable, self.pool.settings.refill_batch)

    def to_make(self, resumed: int) -> int:
        """New machines, once `resumed` are resumed."""
        if not self.now.makes:
            return 0
        free = self.ready + self.leaving + self.coming + self.asleep
        lacking = max(
            self.wanted_running + self.wanted_asleep - free,
            self.short - resumed,
            self.now.size_min - self.lasting,
        )
        room = self.pool.size_max - self.existing
        return max(0, min(lacking, room, self.pool.settings.refill_batch - resumed))

    @property
    def surplus_running(self) -> int:
        running = self.ready + self.leaving + self.coming
        return max(0, min(self.ready, running - self.wanted_running))

    @property
    def surplus(self) -> int:
        """Machines too many, that may go."""
        if not self.now.trims:
            return 0
        free = self.ready + self.leaving + self.coming + self.asleep
        many = max(
            free - self.wanted_running - self.wanted_asleep,
            self.lasting - self.pool.size_max,
        )
        return max(0, min(many, self.lasting - self.now.size_min, self.ready + self.resumable))

    @property
    def to_suspend(self) -> int:
        """Second-level spares that are missing and could come from running surplus."""
        if not self.now.trims:
            return 0
        return min(self.surplus_running, max(0, self.wanted_asleep - self.asleep))


def can_suspend(view: View) -> bool:
    """Whether second-level spares are possible at all."""
    return any(view.can(load.host.id, Feature.SUSPEND) for load in view.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedSpares:
    """pool id -> its spares that are given to nobody, for their hosts are not up: `leaving` hosts
    that drain or are under maintenance, `away` on hosts that do not run. `stuck`: machines that
    are to be removed from hosts that do not run. They cannot go now, and block nothing."""

    leaving: Mapping[str, int]
    away: Mapping[str, int]
    stuck: Mapping[str, int]

    def of(self, pool_id: str) -> int:
        return self.leaving.get(pool_id, 0) + self.away.get(pool_id, 0)


def closed_spares(view: View) -> ClosedSpares:
    leaving: Counter[str] = Counter()
    away: Counter[str] = Counter()
    stuck: Counter[str] = Counter()
    for load in view.hosts:
        if load.host.state is not HostState.UP:
            (leaving if load.host.state in RUNS else away).update(load.spares_by_pool)
        if load.host.state not in RUNS:
            stuck.update(load.deleting_by_pool)
    return ClosedSpares(leaving=leaving, away=away, stuck=stuck)


def assess(view: View) -> tuple[Need, ...]:
    """Every VDI pool's need, in the view's order."""
    sleeps = can_suspend(view)
    closed = closed_spares(view)
    owners = Counter(one.pool_id for one in view.awaited if one.state in _OWN)
    return tuple(
        _assess(view, pool, owners[pool.id], closed, sleeps=sleeps)
        for pool in view.pools
        if pool.architecture is Architecture.VDI
    )


def _assess(view: View, pool: Pool, owners: int, closed: ClosedSpares, *, sleeps: bool) -> Need:
    counts, owned = view.counts, view.owned

    def free(*states: DesktopState) -> int:
        return sum(
            counts.get((pool.id, state), 0) - owned.get((pool.id, state), 0) for state in states
        )

    now = effective(pool, view.site, view.now)
    if not (now.power or sleeps):
        # what should exist would have to run
        now = replace(now, size_min=0)
    # an owner is served by the desktop that is his, once it runs again
    own = owners + owned.get((pool.id, DesktopState.RESUMING), 0)
    waiting = max(0, view.waiting.get(pool.id, 0) - own)
    existing = sum(counts.get((pool.id, state), 0) for state in _HERE)
    going = sum(counts.get((pool.id, state), 0) for state in _GOING)
    if keeps_work(pool, ""):
        # these stay until they run again
        going -= owned.get((pool.id, DesktopState.FAILED), 0)
    return Need(
        pool=pool,
        now=now,
        waiting=waiting,
        ready=max(0, free(DesktopState.READY) - closed.of(pool.id)),
        leaving=closed.leaving.get(pool.id, 0),
        coming=free(*COMING),
        asleep=free(*ASLEEP),
        resumable=free(DesktopState.SUSPENDED),
        existing=max(0, existing - closed.stuck.get(pool.id, 0)),
        lasting=max(0, existing - going - closed.away.get(pool.id, 0)),
        wanted_running=now.spares + (waiting if now.open else 0),
        wanted_asleep=now.spares_suspended if sleeps else 0,
    )
