"""Hosts that are too full give desktops away by live migration.

Begins when a host is fuller than SiteSettings.rebalance_above, ends when it is `rebalance_by`
below that. No host takes a desktop that would make it fuller than where others stop, so what
moved once is not moved back.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from broker.domain.model import Desktop, DesktopState, HostState
from broker.domain.placement import Room
from broker.domain.planning.commands import Command, MigrateDesktop
from broker.domain.planning.moving import MOVABLE, Moves
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View
from broker.domain.settings import Share


def too_full(view: View, rooms: Rooms) -> frozenset[str]:
    """Hosts that are above the limit, or were and are not yet far enough below."""
    above = view.site.rebalance_above
    if above <= 0:
        return frozenset()
    until = above - view.site.rebalance_by
    return frozenset(
        host_id
        for host_id, room in rooms.by_id.items()
        if room.host.state is HostState.UP
        and room.fullness() > (until if host_id in view.memory.rebalancing else above)
    )


def rebalance(
    view: View, rooms: Rooms, moves: Moves, full: AbstractSet[str], busy: AbstractSet[str]
) -> list[Command]:
    """Spares move first, then what people use, biggest first within each."""
    commands: list[Command] = []
    until = view.site.rebalance_above - view.site.rebalance_by
    for host_id, room in rooms.by_id.items():
        if host_id not in full:
            continue
        rows = view.rows.on_host.get(host_id, ())
        after = _without_leaving(room, rows)
        candidates = sorted(
            (
                row
                for row in rows
                if row.state in MOVABLE
                and row.host_id == host_id
                and row.moving_to is None
                and row.id not in busy
            ),
            key=lambda row: (row.state is DesktopState.ASSIGNED, -row.resources.memory_mib, row.id),
        )
        for row in candidates:
            if after.fullness() <= until or not moves.may_leave(room):
                break
            before = after.fullness()
            choice = moves.choose(row, room, at_most=until)
            if choice.host_id is None:
                continue
            after.release(row.resources, Share())
            why = f"{room.host.name} is {before:.0%} full; {choice.why}"
            commands.append(
                MigrateDesktop(
                    desktop=row, to_host_id=choice.host_id, why=why, reasons=choice.reasons
                )
            )
    return commands


def _without_leaving(room: Room, rows: tuple[Desktop, ...]) -> Room:
    """The host as it will be when what migrates from it has arrived."""
    after = room.copy()
    for row in rows:
        if row.host_id == room.host.id and row.moving_to is not None:
            after.release(row.resources, Share())
    return after
