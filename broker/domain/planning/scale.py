"""Surplus machines: suspended as second-level spares, or removed, once they stayed surplus.

Hysteresis: what goes is the least surplus that was there at every look for long enough, so that
people who log off and on again do not make machines come and go. A surplus of running machines
fills the second level after SPARE_SETTLE_S (or the pool's scale_in_after_s if that is shorter);
machines are removed after scale_in_after_s, the longest unchanged first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import Desktop, Instant
from broker.domain.planning.commands import ClearDesktop, Command, SuspendDesktop
from broker.domain.planning.needs import Need
from broker.domain.planning.view import RUNS, Surplus, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """How many machines of a pool are suspended and removed now."""

    suspend: int = 0
    remove_ready: int = 0
    remove_asleep: int = 0


def observed(before: Surplus | None, amount: int, now: Instant) -> Surplus | None:
    """The surplus as it is remembered after one more look."""
    if amount <= 0:
        return None
    if before is None:
        return Surplus(since=now, least=amount)
    return Surplus(since=before.since, least=min(before.least, amount))


def ripe(seen: Surplus | None, after_s: int, now: Instant) -> int:
    """How many machines were surplus at every look for `after_s` seconds."""
    if seen is None or now - seen.since < after_s * 1000:
        return 0
    return seen.least


def lowered(seen: Surplus | None, gone: int, amount: int, now: Instant) -> Surplus | None:
    """After `gone` of them went: the rest of the ripe ones stays ripe, others start anew."""
    if seen is None or gone == 0:
        return seen
    if seen.least > gone:
        return Surplus(since=seen.since, least=seen.least - gone)
    return observed(None, amount - gone, now)


def settle_s(need: Need) -> int:
    return min(limits.SPARE_SETTLE_S, need.pool.settings.scale_in_after_s)


def trim(need: Need, running: Surplus | None, surplus: Surplus | None, now: Instant) -> Trim:
    """What goes now, the looks' memory being up to date."""
    most = limits.REMOVED_PER_LOOK_MAX
    suspend = min(ripe(running, settle_s(need), now), most)
    remove = min(ripe(surplus, need.pool.settings.scale_in_after_s, now), most)
    ready = min(remove, need.surplus_running)
    asleep = min(remove - ready, max(0, need.asleep - need.wanted_asleep), need.resumable)
    beyond = min(remove, need.lasting - need.pool.size_max) - ready - asleep
    if beyond > 0:
        # more than size_max: spares that are wanted go, too
        wanted = min(beyond, need.ready - ready)
        ready, asleep = ready + wanted, asleep + beyond - wanted
    suspend = max(0, min(suspend, need.surplus_running - ready))
    return Trim(suspend=suspend, remove_ready=ready, remove_asleep=asleep)


def look(
    view: View, needs: Sequence[Need]
) -> tuple[dict[str, Trim], dict[str, Surplus], dict[str, Surplus]]:
    """(pool id -> what goes now, and the memory of all surplus and of running surplus)."""
    trims: dict[str, Trim] = {}
    totals: dict[str, Surplus] = {}
    runnings: dict[str, Surplus] = {}
    for need in needs:
        pool_id = need.pool.id
        total = observed(view.memory.surplus.get(pool_id), need.surplus, view.now)
        running = observed(view.memory.running.get(pool_id), need.to_suspend, view.now)
        found = trim(need, running, total, view.now)
        if found != _NOTHING:
            trims[pool_id] = found
        total = lowered(total, found.remove_ready + found.remove_asleep, need.surplus, view.now)
        running = lowered(running, found.suspend, need.to_suspend, view.now)
        if total is not None:
            totals[pool_id] = total
        if running is not None:
            runnings[pool_id] = running
    return trims, totals, runnings


_NOTHING = Trim()


def scale_in(
    view: View, needs: Sequence[Need], trims: Mapping[str, Trim], busy: AbstractSet[str]
) -> list[Command]:
    """The commands for these, none for desktops that something else is done with."""
    commands: list[Command] = []
    running = {load.host.id for load in view.hosts if load.host.state in RUNS}
    for need in needs:
        found = trims.get(need.pool.id)
        if found is None:
            continue
        ready = _free(view.rows.ready.get(need.pool.id, ()), busy, running)
        sleepers = [row for row in ready if view.can(row.host_id, Feature.SUSPEND)]
        for row in sleepers[: found.suspend]:
            why = f"{need.pool.name} keeps {need.wanted_asleep} suspended spares"
            commands.append(SuspendDesktop(desktop=row, why=why))
        slept = {row.id for row in sleepers[: found.suspend]}
        left = [row for row in ready if row.id not in slept]
        asleep = _free(view.rows.suspended.get(need.pool.id, ()), busy, running)
        why = _too_many(need)
        gone = left[: found.remove_ready] + asleep[: found.remove_asleep]
        commands += [ClearDesktop(desktop=row, why=why) for row in gone]
    return commands


def _free(
    rows: Sequence[Desktop], busy: AbstractSet[str], running: AbstractSet[str]
) -> list[Desktop]:
    """Those that may go: a host that is off or away cannot remove any."""
    return [
        row
        for row in rows
        if row.id not in busy and row.moving_to is None and row.host_id in running
    ]


def _too_many(need: Need) -> str:
    if need.lasting > need.pool.size_max:
        return f"{need.pool.name} may have {need.pool.size_max} desktops and has {need.lasting}"
    return (
        f"{need.pool.name} had {need.surplus} more than it needs for "
        f"{need.pool.settings.scale_in_after_s} s"
    )
