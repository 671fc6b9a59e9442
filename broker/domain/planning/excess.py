"""Spares beyond what hosts, labels and the site allow since somebody changed these.

Nothing is placed where it does not fit, but a host's capacity, a pool's labels or guarantee and the
site's limits may be changed under what is there. What nobody has goes or moves until they hold;
what people use or own stays until its person logs off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from broker import limits
from broker.domain.model import Desktop, DesktopState, HostState, Pool, Resources
from broker.domain.placement import Room
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import ClearDesktop, Command, MigrateDesktop
from broker.domain.planning.moving import Moves
from broker.domain.planning.needs import Need
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import RUNS, View
from broker.domain.settings import Share

_NOTHING = Resources(cpus=0.0, memory_mib=0)
_SPARE = frozenset({DesktopState.READY, DesktopState.SUSPENDED})
_ASLEEP = frozenset({DesktopState.SUSPENDED})


def lacking(room: Room) -> bool:
    """Whether more is there than the host may hold."""
    return room.lacks(_NOTHING, Share()) is not None


def overfull(rooms: Rooms) -> Iterator[str]:
    """Hosts that hold more than they may."""
    for host_id, room in rooms.by_id.items():
        if room.host.state is HostState.UP and lacking(room):
            yield host_id


def missing_label(pool: Pool, room_labels: Iterable[str]) -> str | None:
    """The first label of the pool that a host with these lacks."""
    return next((label for label in pool.settings.labels if label not in room_labels), None)


def misplaced_on(view: View) -> Iterator[str]:
    """Hosts that have desktops of a pool whose labels they lack."""
    labelled = [pool for pool in view.pools if pool.settings.labels]
    for load in view.hosts:
        if load.host.state is HostState.UP and any(
            load.desktops_by_pool.get(pool.id, 0) and missing_label(pool, load.host.settings.labels)
            for pool in labelled
        ):
            yield load.host.id


def excess(
    view: View,
    needs: Sequence[Need],
    rooms: Rooms,
    budget: Budget,
    moves: Moves,
    busy: AbstractSet[str],
) -> list[Command]:
    commands: list[Command] = []
    for host_id in tuple(overfull(rooms)):
        commands += _relieve(view, rooms.by_id[host_id], moves, busy)
    taken = {*busy, *_ids(commands)}
    for need in needs:
        if need.pool.settings.labels:
            commands += _replace(view, need, rooms, moves, taken)
    commands += _shrink(view, needs, budget, {*busy, *_ids(commands)})
    return commands


def _ids(commands: Iterable[Command]) -> Iterator[str]:
    for one in commands:
        if isinstance(one, ClearDesktop | MigrateDesktop):
            yield one.desktop.id


def _spares(rows: Iterable[Desktop], busy: AbstractSet[str]) -> list[Desktop]:
    return [
        row
        for row in rows
        if row.state in _SPARE
        and row.owner_id is None
        and row.moving_to is None
        and row.id not in busy
    ]


def _takes(row: Desktop) -> Resources:
    if row.state in _ASLEEP:
        return replace(row.resources, cpus=0.0, memory_mib=0, disk_iops=0, network_mbit=0)
    return row.resources


def _relieve(view: View, room: Room, moves: Moves, busy: AbstractSet[str]) -> Iterator[Command]:
    """Spares leave until the rest fits; what leaves already counts."""
    host_id, after = room.host.id, room.copy()
    rows = [row for row in view.rows.on_host.get(host_id, ()) if row.host_id == host_id]

    def release(row: Desktop) -> None:
        pool = moves.pools.get(row.pool_id)
        after.release(_takes(row), pool.settings.guarantee if pool is not None else Share())

    for row in rows:
        if row.moving_to is not None or row.state is DesktopState.DELETING or row.id in busy:
            release(row)
    for row in _spares(rows, busy)[: limits.REMOVED_PER_LOOK_MAX]:
        if not lacking(after):
            return
        why = f"{room.host.name} holds more than it may"
        release(row)
        yield _moved(row, room, moves, why) or ClearDesktop(desktop=row, why=why)


def _moved(row: Desktop, room: Room, moves: Moves, why: str) -> MigrateDesktop | None:
    if row.state is not DesktopState.READY or not moves.may_leave(room):
        return None
    choice = moves.choose(row, room)
    if choice.host_id is None:
        return None
    return MigrateDesktop(
        desktop=row,
        to_host_id=choice.host_id,
        why=f"{why}; {choice.why}",
        reasons=choice.reasons,
    )


def _replace(
    view: View, need: Need, rooms: Rooms, moves: Moves, busy: AbstractSet[str]
) -> Iterator[Command]:
    """Spares on hosts that lack the pool's labels move, or go one after another while the pool
    lacks none and another host has room."""
    replaceable = need.now.makes and not (need.short or need.coming)
    for host_id in misplaced_on(view):
        room = rooms.by_id[host_id]
        label = missing_label(need.pool, room.host.settings.labels)
        if label is None:
            continue
        rows = [row for row in view.rows.on_host.get(host_id, ()) if row.host_id == host_id]
        for row in _spares(rows, busy):
            if row.pool_id != need.pool.id:
                continue
            why = f"{room.host.name} has no label {label}"
            moved = _moved(row, room, moves, why)
            if moved is not None:
                yield moved
            elif replaceable and rooms.fit(need.pool) is not None:
                replaceable = False
                yield ClearDesktop(desktop=row, why=why)


def _shrink(
    view: View, needs: Sequence[Need], budget: Budget, busy: AbstractSet[str]
) -> Iterator[Command]:
    """Spares go while the site has more than it may; of the pool that has most first."""
    desktops, memory_mib = budget.over_desktops, budget.over_memory_mib
    running = {load.host.id for load in view.hosts if load.host.state in RUNS}
    rows = {
        need.pool.id: [
            row
            for row in _spares(
                (
                    *view.rows.suspended.get(need.pool.id, ()),
                    *view.rows.ready.get(need.pool.id, ()),
                ),
                busy,
            )
            if row.host_id in running
        ]
        for need in needs
    }
    for _ in range(limits.REMOVED_PER_LOOK_MAX):
        left = [
            found
            for found in rows.values()
            if any(desktops > 0 or row.state is DesktopState.READY for row in found)
        ]
        if not left or (desktops <= 0 and memory_mib <= 0):
            return
        most = max(left, key=len)
        row = most.pop(0)
        if desktops <= 0 and row.state in _ASLEEP:
            # its memory is saved on disk: that it goes frees none
            continue
        desktops -= 1
        memory_mib -= _takes(row).memory_mib
        yield ClearDesktop(desktop=row, why=budget.over())
