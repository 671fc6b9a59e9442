"""Failed desktops in which a person's work lies are started again, for ever, ever more seldom.

They are never cleared: only an administrator removes them or gives them up. One that an owner
waits for is among the awaited (awaited.py) and goes before everything else; here are the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from broker.domain.keeping import Recovery, is_due, keeps_work, tried
from broker.domain.model import Desktop, DesktopState, Pool
from broker.domain.planning.awaited import cannot_resume, resumption, take_to_resume
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import Command, ResumeDesktop
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View


def is_kept(desktop: Desktop, pool: Pool | None) -> bool:
    """Whether its machine, failed or not, must stay. Where nobody knows the pool, any owner's."""
    if desktop.host_id is None or desktop.owner_id is None:
        return False
    return pool is None or keeps_work(pool, desktop.owner_id)


def recover(view: View, rooms: Rooms, budget: Budget, busy: AbstractSet[str]) -> list[Command]:
    """Start those again that can run now and whose pause is over."""
    commands: list[Command] = []
    pools = {pool.id: pool for pool in view.pools}
    for desktop in view.failed_desktops:
        pool = pools.get(desktop.pool_id)
        if pool is None or desktop.id in busy or not is_kept(desktop, pool):
            continue
        if not is_due(view.memory.recoveries, desktop.id, view.now):
            continue
        demand = resumption(desktop, pool)
        if cannot_resume(rooms, desktop, demand) or budget.refusal(pool, new=False):
            continue
        take_to_resume(rooms, desktop, demand)
        budget.take(pool, new=False)
        commands.append(
            ResumeDesktop(
                desktop=desktop,
                why=f"it failed: {desktop.note}",
                restart=desktop.id in view.memory.recoveries,
            )
        )
    return commands


def remembered(view: View, commands: Iterable[Command]) -> dict[str, Recovery]:
    """Which failed desktops were started when, these commands included."""
    started = (
        one.desktop.id
        for one in commands
        if isinstance(one, ResumeDesktop) and one.desktop.state is DesktopState.FAILED
    )
    return tried(view.memory.recoveries, started, view.now)
