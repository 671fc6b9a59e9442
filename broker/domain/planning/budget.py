"""What all pools together may begin in one look: the tenant's limits and the look's own."""

from __future__ import annotations

from collections.abc import Collection

from broker import limits
from broker.domain.model import Architecture, DesktopState, Pool
from broker.domain.planning.view import View

_GONE = {DesktopState.DELETED, DesktopState.UNAVAILABLE}
_GOING = {DesktopState.DELETING, DesktopState.FAILED}


def _count(view: View, *, but: Collection[str]) -> int:
    """The site's machines, those in these states left out."""
    ours = {pool.id for pool in view.pools if pool.architecture is Architecture.VDI}
    return sum(
        count
        for (pool_id, state), count in view.counts.items()
        if pool_id in ours and state not in but
    )


def _going_mib(view: View) -> int:
    """Memory of machines that are being removed or suspended."""
    going = (DesktopState.DELETING, DesktopState.SUSPENDING, DesktopState.PARKING)
    return sum(
        pool.resources.memory_mib * view.counts.get((pool.id, state), 0)
        for pool in view.pools
        if pool.architecture is Architecture.VDI
        for state in going
    )


class Budget:
    """`desktops` and `memory_mib` are what may still be added; None: as much as one likes."""

    def __init__(self, view: View) -> None:
        site = view.site
        self.begun = 0
        self.desktops: int | None = None
        self.memory_mib: int | None = None
        self.over_desktops = 0
        """machines that the site has beyond its limit, without those that go"""
        self.over_memory_mib = 0
        self._site = site
        if site.desktops_max:
            there, going = _count(view, but=_GONE), _count(view, but=_GONE | _GOING)
            self.desktops = max(0, site.desktops_max - there)
            self.over_desktops = max(0, going - site.desktops_max)
        if site.memory_mib_max:
            used = sum(load.used.memory_mib for load in view.hosts)
            self.memory_mib = max(0, site.memory_mib_max - used)
            self.over_memory_mib = max(0, used - _going_mib(view) - site.memory_mib_max)

    @property
    def paced(self) -> bool:
        """One look begins no more than this; the next one goes on."""
        return self.begun >= limits.BEGUN_PER_LOOK_MAX

    def over(self) -> str:
        """Why spares go, where there are more than the site may have."""
        site, found = self._site, []
        if self.over_desktops:
            found.append(f"{site.desktops_max} desktops")
        if self.over_memory_mib:
            found.append(f"{site.memory_mib_max} MiB of memory")
        return f"the site may have {' and '.join(found)}, and has more"

    def refusal(self, pool: Pool, *, new: bool) -> str | None:
        """Why one more machine of this pool may not run; `new`: it does not exist yet."""
        if self.paced:
            return f"{limits.BEGUN_PER_LOOK_MAX} desktops are begun at once; the rest follows"
        if new and self.desktops is not None and self.desktops < 1:
            return f"the site's limit of {self._site.desktops_max} desktops is reached"
        if self.memory_mib is not None and self.memory_mib < pool.resources.memory_mib:
            return f"the site's limit of {self._site.memory_mib_max} MiB of memory is reached"
        return None

    def take(self, pool: Pool, *, new: bool) -> None:
        self.begun += 1
        if new and self.desktops is not None:
            self.desktops -= 1
        if self.memory_mib is not None:
            self.memory_mib -= pool.resources.memory_mib

    def grow_refusal(self, memory_mib: int) -> str | None:
        """Why a running machine may not have so much more memory."""
        if self.memory_mib is not None and memory_mib > self.memory_mib:
            return f"the site's limit of {self._site.memory_mib_max} MiB of memory is reached"
        return None

    def grow(self, memory_mib: int) -> None:
        if self.memory_mib is not None:
            self.memory_mib -= memory_mib
