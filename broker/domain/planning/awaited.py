"""Suspended desktops that somebody waits for run again before anything else is begun.

A person's own work lies in them, so no other machine will do. Where their host has no room left,
spares that nobody has make room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from broker.domain.features import Feature
from broker.domain.keeping import is_due, keeps_work
from broker.domain.model import Desktop, DesktopState, HostState, Pool
from broker.domain.placement import Demand, Room, over_starts
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import (
    ClearDesktop,
    Command,
    NoRoom,
    PowerHost,
    ResumeDesktop,
    SuspendDesktop,
)
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import RUNS, View
from broker.domain.settings import Share


def resumption(desktop: Desktop, pool: Pool) -> Demand:
    """What it takes to let a suspended desktop run: its disk is there already."""
    need = replace(desktop.resources, disk_mib=0)
    return Demand(need=need, pool_id=pool.id, guarantee=pool.settings.guarantee)


def cannot_run(room: Room | None, demand: Demand) -> str | None:
    """Why it cannot run on its own host now, in words."""
    if room is None:
        return "its host is not known"
    host = room.host
    if host.state not in RUNS:
        return f"{host.name} is {host.state.replace('_', ' ')}"
    return over_starts(room, demand) or room.lacks(demand.need, demand.guarantee)


def cannot_resume(rooms: Rooms, desktop: Desktop, demand: Demand) -> str | None:
    """Why it cannot run again now, in words. One that failed while it moved has room at both ends
    again from then on, as long as nobody knows at which it is."""
    refused = cannot_run(rooms.by_id.get(desktop.host_id or ""), demand)
    there = rooms.by_id.get(desktop.moving_to or "")
    if refused is None and there is not None:
        return there.lacks(desktop.resources, demand.guarantee)
    return refused


def take_to_resume(rooms: Rooms, desktop: Desktop, demand: Demand) -> None:
    """Its room, at each place where it counts once it runs."""
    rooms.take(desktop.host_id or "", demand)
    if desktop.moving_to in rooms.by_id:
        rooms.take(desktop.moving_to, replace(demand, need=desktop.resources, starts=False))


def _why(desktop: Desktop) -> str:
    if desktop.state is DesktopState.PARKED:
        return "its person is back"
    return "its owner waits for it"


def _may_run(view: View, desktop: Desktop, pool: Pool) -> bool:
    """A failed one may if its owner's work lies in it, and not at every look."""
    if desktop.state is not DesktopState.FAILED:
        return True
    kept = keeps_work(pool, desktop.owner_id)
    return kept and is_due(view.memory.recoveries, desktop.id, view.now)


def resume_awaited(view: View, rooms: Rooms, budget: Budget) -> list[Command]:
    """Resume them, switch their hosts on, or make room for them."""
    commands: list[Command] = []
    pools = {pool.id: pool for pool in view.pools}
    switched: set[str] = set()
    clearings: dict[str, _Clearing] = {}
    for desktop in view.awaited:
        pool = pools.get(desktop.pool_id)
        if pool is None or desktop.host_id is None or not _may_run(view, desktop, pool):
            continue
        demand = resumption(desktop, pool)
        room = rooms.by_id.get(desktop.host_id)
        refused = cannot_resume(rooms, desktop, demand) or budget.refusal(pool, new=False)
        if refused is None:
            take_to_resume(rooms, desktop, demand)
            budget.take(pool, new=False)
            tried = desktop.id in view.memory.recoveries
            restart = tried and desktop.state is DesktopState.FAILED
            commands.append(ResumeDesktop(desktop=desktop, why=_why(desktop), restart=restart))
            continue
        why = f"{desktop.name} cannot run: {refused}"
        paced = budget.paced or (room is not None and over_starts(room, demand) == refused)
        commands.append(NoRoom(pool=pool, missing=1, why=why, reasons=(refused,), paced=paced))
        if room is None:
            continue
        host = room.host
        if host.state is HostState.OFF and _switchable(view, room) and host.id not in switched:
            switched.add(host.id)
            rests = "has to start" if desktop.state is DesktopState.FAILED else "is suspended"
            text = f"{desktop.name} {rests} there, and {_why(desktop)}"
            commands.append(PowerHost(host=host, on=True, why=text))
        elif host.state in RUNS and room.lacks(demand.need, demand.guarantee):
            clearing = clearings.get(host.id) or _Clearing(view, room, pools)
            clearings[host.id] = clearing
            commands += _make_room(view, clearing, demand, desktop)
    return commands


def _switchable(view: View, room: Room) -> bool:
    return room.host.settings.power_managed and view.can(room.host.id, Feature.HOST_POWER)


class _Clearing:
    """One host on which spares go for those who wait: its room as it will be, and the spares that
    are left."""

    def __init__(self, view: View, room: Room, pools: Mapping[str, Pool]) -> None:
        self.room = room.copy()
        self.pools = pools
        self.spares: list[Desktop] = []
        for row in view.rows.on_host.get(room.host.id, ()):
            if row.state in _GOES:
                self.release(row)
            elif row.state is DesktopState.READY and row.owner_id is None and not row.moving_to:
                self.spares.append(row)

    def release(self, row: Desktop) -> None:
        pool = self.pools.get(row.pool_id)
        self.room.release(row.resources, pool.settings.guarantee if pool is not None else Share())


_GOES = frozenset({DesktopState.DELETING, DesktopState.SUSPENDING})


def _make_room(
    view: View, clearing: _Clearing, demand: Demand, awaited: Desktop
) -> Iterator[Command]:
    """Spares that go, so that the awaited desktop fits; what goes already counts."""
    host = clearing.room.host
    while clearing.spares and clearing.room.lacks(demand.need, demand.guarantee):
        row = clearing.spares.pop(0)
        clearing.release(row)
        why = f"makes room on {host.name} for {awaited.name}, whose person waits"
        if view.can(host.id, Feature.SUSPEND):
            yield SuspendDesktop(desktop=row, why=why)
        else:
            yield ClearDesktop(desktop=row, why=why)
    clearing.room.take(demand)
