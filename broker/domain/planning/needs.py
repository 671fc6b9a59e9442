"""What each pool lacks and what it has too many of, from counts alone.

With `free` for what nobody owns or uses:
  wanted running   = people who wait for a new one + spares
  wanted suspended = second-level spares (where a host can suspend)
  short            = wanted running - (free ready + free on their way)
  to make          = max(wanted - free in all, size_min - existing), within size_max
  surplus          = free in all - wanted, never below size_min
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from broker.domain.features import Feature
from broker.domain.model import Architecture, DesktopState, Pool
from broker.domain.planning.effective import Effective, effective
from broker.domain.planning.view import View

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
_GOING = (DesktopState.FAILED, DesktopState.DELETING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One VDI pool's figures, all of them counts of machines.

    waiting: people who need a machine that is not theirs yet. ready, coming, asleep: those that
    nobody owns; `resumable`: of those asleep, suspended already. existing: all that take a place
    of size_max; `lasting`: without those that go.
    """

    pool: Pool
    now: Effective
    waiting: int
    ready: int
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
        return max(0, self.wanted_running - self.ready - self.coming)

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
        free = self.ready + self.coming + self.asleep
        lacking = max(
            self.wanted_running + self.wanted_asleep - free,
            self.short - resumed,
            self.now.size_min - self.lasting,
        )
        room = self.pool.size_max - self.existing
        return max(0, min(lacking, room, self.pool.settings.refill_batch - resumed))

    @property
    def surplus_running(self) -> int:
        return max(0, min(self.ready, self.ready + self.coming - self.wanted_running))

    @property
    def surplus(self) -> int:
        """Machines too many, that may go."""
        if not self.now.trims:
            return 0
        free = self.ready + self.coming + self.asleep
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


def assess(view: View) -> tuple[Need, ...]:
    """Every VDI pool's need, in the view's order."""
    sleeps = can_suspend(view)
    owners = Counter(one.pool_id for one in view.awaited if one.state is DesktopState.SUSPENDED)
    return tuple(
        _assess(view, pool, owners[pool.id], sleeps=sleeps)
        for pool in view.pools
        if pool.architecture is Architecture.VDI
    )


def _assess(view: View, pool: Pool, owners: int, *, sleeps: bool) -> Need:
    counts, owned = view.counts, view.owned

    def free(*states: DesktopState) -> int:
        return sum(
            counts.get((pool.id, state), 0) - owned.get((pool.id, state), 0) for state in states
        )

    now = effective(pool, view.site, view.now)
    # an owner is served by the desktop that is his, once it runs again
    own = owners + owned.get((pool.id, DesktopState.RESUMING), 0)
    waiting = max(0, view.waiting.get(pool.id, 0) - own)
    existing = sum(counts.get((pool.id, state), 0) for state in _HERE)
    going = sum(counts.get((pool.id, state), 0) for state in _GOING)
    return Need(
        pool=pool,
        now=now,
        waiting=waiting,
        ready=free(DesktopState.READY),
        coming=free(*COMING),
        asleep=free(*ASLEEP),
        resumable=free(DesktopState.SUSPENDED),
        existing=existing,
        lasting=existing - going,
        wanted_running=now.spares + (waiting if now.open else 0),
        wanted_asleep=now.spares_suspended if sleeps else 0,
    )
