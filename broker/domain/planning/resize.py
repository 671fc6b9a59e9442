"""Desktops whose size is not their pool's any more.

Where the host's engine can change a running machine, it does, one at a time on a host; elsewhere
a spare is replaced, one at a time in a pool that lacks none and where the new size fits, and a
desktop that somebody has gets its size when it is made anew. Where there is no room it is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from broker.domain.features import Feature
from broker.domain.model import Architecture, Desktop, DesktopState, HostState, Pool, Resources
from broker.domain.placement import Amounts, Demand, Room, amounts, plus, refusal
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import ClearDesktop, Command, NoRoom, ResizeDesktop
from broker.domain.planning.needs import Need
from broker.domain.planning.rooms import Rooms, demand_of
from broker.domain.planning.view import View

_ASLEEP = {DesktopState.SUSPENDED, DesktopState.PARKED}
_GONE = {DesktopState.FAILED, DesktopState.DELETED, DesktopState.UNAVAILABLE}
_MEMORY, _DISK = 1, 2
_NOTHING: Amounts = (0.0, 0.0, 0.0, 0.0, 0.0)
_SLACK = 1e-6
"""CPUs are sums of fractions"""


def unlike(view: View) -> tuple[str, ...]:
    """Ids of VDI pools some of whose running desktops have another size: told from sums alone.

    A desktop that migrates counts twice, so a sum may be that of up to so many more. Suspended
    ones take their disk, so theirs may be told, too.
    """
    taken: dict[str, Amounts] = {}
    for load in view.hosts:
        for pool_id, resources in load.by_pool.items():
            taken[pool_id] = plus(taken.get(pool_id, _NOTHING), amounts(resources))
    moving = sum(load.moving for load in view.hosts)
    running: Counter[str] = Counter()
    asleep: Counter[str] = Counter()
    for (pool_id, state), count in view.counts.items():
        if state in _ASLEEP:
            asleep[pool_id] += count
        elif state not in _GONE:
            running[pool_id] += count
    return tuple(
        pool.id
        for pool in view.pools
        if pool.architecture is Architecture.VDI
        and not _alike(
            pool, taken.get(pool.id, _NOTHING), running[pool.id], asleep[pool.id], moving
        )
    )


def _alike(pool: Pool, taken: Amounts, running: int, asleep: int, moving: int) -> bool:
    """Whether one number of desktops of the pool's size takes all of this."""
    each = amounts(pool.resources)
    more = round(taken[_MEMORY] / each[_MEMORY]) - running if each[_MEMORY] else 0
    if not 0 <= more <= moving:
        return False
    count = running + more
    return all(
        abs(taken[index] - each[index] * (count + asleep * (index == _DISK))) < _SLACK
        for index in range(len(each))
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
    told: AbstractSet[str] = frozenset(),
) -> list[Command]:
    """`told`: ids of pools of which it is said already that they lack room."""
    commands: list[Command] = []
    changing = set(view.resizing)
    for need in needs:
        pool, waits = need.pool, ""
        replaceable = need.now.makes and not (need.short or need.coming)
        for row in view.rows.unlike.get(pool.id, ()):
            room = rooms.by_id.get(row.host_id or "")
            if room is None or row.id in busy or row.moving_to is not None:
                continue
            if view.can(row.host_id, Feature.RESIZE):
                if room.host.id in changing or room.host.state is not HostState.UP:
                    continue
                refused = _refusal(row, pool, room, budget)
                if refused is None:
                    _grow(row, pool, room, rooms, budget)
                    changing.add(room.host.id)
                    commands.append(_resized(row, pool))
                    continue
            elif replaceable and row.state is DesktopState.READY and row.owner_id is None:
                refused = _no_place(row, pool, room, rooms, budget)
                if refused is None:
                    replaceable = False
                    commands.append(ClearDesktop(desktop=row, why=_why(pool)))
                    continue
            else:
                continue
            waits = waits or f"{row.name} keeps its size: {refused}"
        if waits and pool.id not in told:
            commands.append(NoRoom(pool=pool, missing=1, why=waits, reasons=(waits,)))
    return commands


def _refusal(row: Desktop, pool: Pool, room: Room, budget: Budget) -> str | None:
    """Why its host cannot give it what is more."""
    more = growth(row.resources, pool.resources)
    return room.lacks(more, pool.settings.guarantee) or budget.grow_refusal(more.memory_mib)


def _grow(row: Desktop, pool: Pool, room: Room, rooms: Rooms, budget: Budget) -> None:
    more = growth(row.resources, pool.resources)
    budget.grow(more.memory_mib)
    demand = Demand(need=more, guarantee=pool.settings.guarantee, starts=False)
    rooms.take(room.host.id, demand)


def _no_place(row: Desktop, pool: Pool, room: Room, rooms: Rooms, budget: Budget) -> str | None:
    """Why one of the new size would not fit in its place: nothing is removed for nothing."""
    more = growth(row.resources, pool.resources)
    refused = budget.grow_refusal(more.memory_mib)
    if refused is not None:
        return refused
    demand = replace(demand_of(pool), starts=False)
    after = room.copy()
    after.release(row.resources, pool.settings.guarantee)
    here = refusal(after, demand)
    if here is None or any(refusal(other, demand) is None for other in rooms.by_id.values()):
        return None
    return here


def _resized(row: Desktop, pool: Pool) -> ResizeDesktop:
    return ResizeDesktop(desktop=row, to=pool.resources, why=_why(pool))


def _why(pool: Pool) -> str:
    each = pool.resources
    sizes = [f"{each.cpus:g} CPUs", f"{each.memory_mib} MiB"]
    sizes += [f"{each.disk_mib} MiB of disk"] * bool(each.disk_mib)
    sizes += [f"{each.disk_iops} disk operations a second"] * bool(each.disk_iops)
    sizes += [f"{each.network_mbit} Mbit/s"] * bool(each.network_mbit)
    return f"{pool.name} has desktops of {' and '.join((', '.join(sizes[:-1]), sizes[-1]))} now"
