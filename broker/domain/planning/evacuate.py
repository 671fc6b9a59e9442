"""Hosts that drain or are under maintenance lose the desktops that can go.

What nobody has moves to another host, or goes and is made anew elsewhere. Under maintenance what
people use or own moves, too, where the engine can; otherwise it stays until its person logs off.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from broker import limits
from broker.domain.model import Desktop, DesktopState, HostState
from broker.domain.placement import Room
from broker.domain.planning.commands import ClearDesktop, Command, MigrateDesktop
from broker.domain.planning.moving import MOVABLE, Moves
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View

LEAVES = frozenset({HostState.DRAINING, HostState.MAINTENANCE})


def evacuate(view: View, rooms: Rooms, moves: Moves, busy: AbstractSet[str]) -> list[Command]:
    """At most REMOVED_PER_LOOK_MAX machines of a host go, and few migrate at once."""
    commands: list[Command] = []
    for room in rooms.by_id.values():
        if room.host.state not in LEAVES:
            continue
        rows = [
            row
            for row in view.rows.on_host.get(room.host.id, ())
            if row.host_id == room.host.id and row.moving_to is None and row.id not in busy
        ]
        commands += _empty(room, rows, moves)
    return commands


def _empty(room: Room, rows: list[Desktop], moves: Moves) -> list[Command]:
    commands: list[Command] = []
    maintained = room.host.state is HostState.MAINTENANCE
    doing = "is under maintenance" if maintained else "drains"
    movable = moves.possible(room)
    removed = 0
    for row in rows:
        spare = row.owner_id is None and row.state is not DesktopState.ASSIGNED
        if row.state in MOVABLE and (spare or maintained) and movable:
            if not moves.may_leave(room):
                continue
            choice = moves.choose(row, room)
            if choice.host_id is not None:
                commands.append(
                    MigrateDesktop(
                        desktop=row,
                        to_host_id=choice.host_id,
                        why=f"{room.host.name} {doing}; {choice.why}",
                        reasons=choice.reasons,
                    )
                )
                continue
        removable = row.state in {DesktopState.READY, DesktopState.SUSPENDED}
        if spare and removable and removed < limits.REMOVED_PER_LOOK_MAX:
            removed += 1
            commands.append(ClearDesktop(desktop=row, why=f"{room.host.name} {doing}"))
    return commands
