"""Desktops whose size is not their pool's any more.

Where the host's engine can change a running machine, it does, one at a time on a host; elsewhere
a spare is replaced, one at a time in a pool that lacks none, and a desktop that somebody has gets
its size when it is made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from broker.domain.features import Feature
from broker.domain.model import Architecture, Desktop, DesktopState, HostState, Pool, Resources
from broker.domain.placement import Demand, Room
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import ClearDesktop, Command, ResizeDesktop
from broker.domain.planning.needs import Need
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View

_NOT_RUNNING = {
    DesktopState.FAILED,
    DesktopState.DELETED,
    DesktopState.SUSPENDED,
    DesktopState.PARKED,
    DesktopState.UNAVAILABLE,
}


def unlike(view: View) -> tuple[str, ...]:
    """Ids of VDI pools some of whose running desktops have another size: told from sums alone.

    A desktop that migrates counts twice, so a sum may be that of up to so many more.
    """
    cpus: dict[str, float] = {}
    memory: dict[str, int] = {}
    for load in view.hosts:
        for pool_id, taken in load.by_pool.items():
            cpus[pool_id] = cpus.get(pool_id, 0.0) + taken.cpus
            memory[pool_id] = memory.get(pool_id, 0) + taken.memory_mib
    moving = sum(load.moving for load in view.hosts)
    running: dict[str, int] = {}
    for (pool_id, state), count in view.counts.items():
        if state not in _NOT_RUNNING:
            running[pool_id] = running.get(pool_id, 0) + count
    return tuple(
        pool.id
        for pool in view.pools
        if pool.architecture is Architecture.VDI
        and not _alike(
            pool, running.get(pool.id, 0), moving, cpus.get(pool.id, 0), memory.get(pool.id, 0)
        )
    )


def _alike(pool: Pool, running: int, moving: int, cpus: float, memory: int) -> bool:
    each = pool.resources
    count = round(memory / each.memory_mib) if each.memory_mib else running
    return (
        running <= count <= running + moving
        and memory == count * each.memory_mib
        and abs(cpus - count * each.cpus) < 1e-6  # noqa: PLR2004 - CPUs are fractions
    )


def growth(old: Resources, new: Resources) -> Resources:
    """What more it takes; less of a thing is not counted against the host."""
    return Resources(
        cpus=max(0.0, new.cpus - old.cpus),
        memory_mib=max(0, new.memory_mib - old.memory_mib),
        disk_mib=max(0, new.disk_mib - old.disk_mib),
        disk_iops=max(0, new.disk_iops - old.disk_iops),
        network_mbit=max(0, new.network_mbit - old.network_mbit),
    )


def resize(
    view: View,
    needs: Sequence[Need],
    rooms: Rooms,
    budget: Budget,
    busy: AbstractSet[str],
) -> list[Command]:
    commands: list[Command] = []
    changing = set(view.resizing)
    for need in needs:
        replaceable = need.now.makes and not (need.short or need.coming)
        for row in view.rows.unlike.get(need.pool.id, ()):
            room = rooms.by_id.get(row.host_id or "")
            if room is None or row.id in busy or row.moving_to is not None:
                continue
            if view.can(row.host_id, Feature.RESIZE):
                if room.host.id not in changing and _grows(row, need.pool, room, rooms, budget):
                    changing.add(room.host.id)
                    commands.append(_resized(row, need.pool))
            elif replaceable and row.state is DesktopState.READY and row.owner_id is None:
                replaceable = False
                commands.append(ClearDesktop(desktop=row, why=_why(need.pool)))
    return commands


def _grows(row: Desktop, pool: Pool, room: Room, rooms: Rooms, budget: Budget) -> bool:
    """Whether its host has room for what is more, which is taken."""
    more = growth(row.resources, pool.resources)
    guarantee = pool.settings.guarantee
    if room.host.state is not HostState.UP or room.lacks(more, guarantee) is not None:
        return False
    if budget.grow_refusal(more.memory_mib) is not None:
        return False
    budget.grow(more.memory_mib)
    rooms.take(room.host.id, Demand(need=more, guarantee=guarantee, starts=False))
    return True


def _resized(row: Desktop, pool: Pool) -> ResizeDesktop:
    return ResizeDesktop(desktop=row, to=pool.resources, why=_why(pool))


def _why(pool: Pool) -> str:
    each = pool.resources
    return f"{pool.name} has desktops of {each.cpus:g} CPUs and {each.memory_mib} MiB now"
