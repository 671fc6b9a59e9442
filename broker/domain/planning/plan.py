"""The whole plan: deadlines, those who wait, clearing, refilling, scaling, moving, renewing, power.

Two steps, so that counts are enough for nearly everything: `rows_needed` answers which rows to
read, and `plan` decides from the view with them. Both are pure; the same view gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker import limits
from broker.domain.keeping import keeps_work
from broker.domain.model import DesktopState, HostState, Pool, PoolKind
from broker.domain.planning.awaited import resume_awaited
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import (
    ClearDesktop,
    Command,
    ExpireDesktop,
    ExpireHost,
    ExpireJob,
    ExpireSession,
    FreshenDesktop,
    MigrateDesktop,
    Plan,
    ResumeDesktop,
    ServeQueue,
    SuspendDesktop,
)
from broker.domain.planning.consolidate import consolidate, hosts_to_empty
from broker.domain.planning.effective import effective
from broker.domain.planning.evacuate import evacuate
from broker.domain.planning.excess import excess
from broker.domain.planning.moving import Moves, asked
from broker.domain.planning.needs import ClosedSpares, assess, closed_spares
from broker.domain.planning.power import idle_hosts, power
from broker.domain.planning.reading import hosts_to_read
from broker.domain.planning.rebalance import rebalance, too_full
from broker.domain.planning.recover import is_kept, recover, remembered
from broker.domain.planning.refill import refill
from broker.domain.planning.renew import renew
from broker.domain.planning.resets import begin_resets
from broker.domain.planning.resize import resize, unlike
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.scale import look, scale_in
from broker.domain.planning.view import Memory, RowsNeeded, View
from broker.domain.settings import ServiceState


def rows_needed(view: View) -> RowsNeeded:
    """Which rows `plan` may act on, told from the view without rows."""
    ready: dict[str, int] = {}
    suspended: dict[str, int] = {}
    needs, budget = assess(view), Budget(view)
    trims, _, _ = look(view, needs)
    over = min(max(budget.over_desktops, budget.over_memory_mib), limits.REMOVED_PER_LOOK_MAX)
    closed = closed_spares(view)
    for need in needs:
        pool_id = need.pool.id
        found = trims.get(pool_id)
        asleep = need.to_resume
        if found is not None:
            asleep += found.remove_asleep
            if found.suspend or found.remove_ready:
                # some stand on hosts that cannot suspend, or move just now, or whose host is lost
                most = 2 * (found.suspend + found.remove_ready)
                ready[pool_id] = most + closed.of(pool_id)
        if over:
            ready[pool_id] = ready.get(pool_id, closed.of(pool_id)) + 2 * over
            asleep += over
        if asleep:
            suspended[pool_id] = 2 * asleep
    return RowsNeeded(
        ready=ready,
        suspended=suspended,
        unlike=dict.fromkeys(unlike(view), limits.UNLIKE_PER_LOOK_MAX),
        on_host=hosts_to_read(view)[0],
    )


def plan(view: View) -> Plan:
    """Everything to do now, in this order, and what the next look must remember."""
    commands: list[Command] = [*_expired(view)]
    rooms, budget = Rooms(view), Budget(view)
    needs = assess(view)
    commands += resume_awaited(view, rooms, budget)
    commands += recover(view, rooms, budget, _busy(commands))
    commands += begin_resets(view, rooms)
    commands += _queues(view)
    commands += _clear(view)
    busy = _busy(commands)
    full = too_full(view, rooms)
    moves = Moves(view, rooms, {pool.id: pool for pool in view.pools})
    commands += evacuate(view, rooms, moves, busy)
    commands += excess(view, needs, rooms, budget, moves, _busy(commands))
    filled = refill(view, needs, rooms, budget)
    commands += filled.commands
    trims, surplus, running = look(view, needs)
    commands += scale_in(view, needs, trims, _busy(commands))
    commands += resize(view, needs, rooms, budget, _busy(commands), filled.refused)
    commands += rebalance(view, rooms, moves, full, _busy(commands))
    emptying = hosts_to_empty(view, needs, filled.missing)
    commands += consolidate(view, needs, rooms, moves, emptying, _busy(commands))
    commands += renew(view, needs, rooms, budget, filled.refused, commands)
    commands += power(view, needs, filled.missing, commands)
    memory = Memory(
        surplus=surplus,
        running=running,
        idle_since=idle_hosts(view),
        rebalancing=full,
        emptying=emptying,
        read_after=hosts_to_read(view)[1],
        recoveries=remembered(view, commands),
        moves=asked(
            view.memory.moves,
            (one for one in commands if isinstance(one, MigrateDesktop)),
            view.now,
        ),
    )
    return Plan(commands=tuple(commands), memory=memory)


def _busy(commands: Iterable[Command]) -> frozenset[str]:
    """Ids of desktops with which something is done already."""
    acts = (ResumeDesktop, SuspendDesktop, ClearDesktop, MigrateDesktop, FreshenDesktop)
    return frozenset(one.desktop.id for one in commands if isinstance(one, acts))


def _expired(view: View) -> Iterable[Command]:
    for job in view.expired_jobs:
        yield ExpireJob(job=job)
    for load in view.hosts:
        deadline = load.host.deadline_at
        passing = load.host.state in {HostState.POWERING_ON, HostState.POWERING_OFF}
        if passing and deadline is not None and deadline <= view.now:
            yield ExpireHost(host=load.host)
    for desktop in view.expired_desktops:
        yield ExpireDesktop(desktop=desktop)
    for session in view.expired_sessions:
        yield ExpireSession(session=session)


def _queues(view: View) -> Iterable[Command]:
    closed = closed_spares(view)
    for pool in view.pools:
        if view.waiting.get(pool.id, 0) and _serves(view, pool, closed):
            yield ServeQueue(pool=pool)


def _serves(view: View, pool: Pool, closed: ClosedSpares) -> bool:
    """Whether something is ready that people who wait may have. Where nobody new gets one, owners
    do, as long as nothing else is ready."""
    ready = view.counts.get((pool.id, DesktopState.READY), 0) - closed.of(pool.id)
    if ready <= 0 or effective(pool, view.site, view.now).open:
        return ready > 0
    maintained = ServiceState.MAINTENANCE in {pool.settings.state, view.site.state}
    owned = view.owned.get((pool.id, DesktopState.READY), 0)
    return pool.kind is PoolKind.DEDICATED and not maintained and ready == owned


def _clear(view: View) -> Iterable[Command]:
    pools = {pool.id: pool for pool in view.pools}
    for desktop in view.failed_desktops:
        pool = pools.get(desktop.pool_id)
        if is_kept(desktop, pool):
            continue
        if desktop.endpoint_id is not None:
            kept = pool is not None and keeps_work(pool, desktop.owner_id)
            yield FreshenDesktop(desktop=desktop, why=f"it failed: {desktop.note}", kept=kept)
        else:
            yield ClearDesktop(desktop=desktop, why=f"it failed: {desktop.note}")
