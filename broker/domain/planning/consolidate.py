"""Spares leave a host that nobody uses, so that it can be switched off.

Breadth first spreads what a pool keeps ready over all hosts, and none of them would ever be empty.
One host after another is emptied: it takes nothing new while another fits, and what runs there
moves, or goes and is made anew elsewhere, one of a pool at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from broker.domain.model import DesktopState, HostState
from broker.domain.placement import HostLoad, Room
from broker.domain.planning.commands import ClearDesktop, Command, MigrateDesktop
from broker.domain.planning.moving import Moves
from broker.domain.planning.needs import Need
from broker.domain.planning.power import (
    is_empty,
    managed,
    only_spares,
    reserve_fits,
    ripe_hosts,
    serves,
)
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View

_COMES_OR_GOES = frozenset({HostState.POWERING_ON, HostState.POWERING_OFF})


def hosts_to_empty(view: View, needs: Sequence[Need], missing: Mapping[str, int]) -> frozenset[str]:
    """Those that are being emptied or wait to be switched off, and one more when they are empty."""
    loads = {load.host.id: load for load in view.hosts}
    kept = {
        host_id
        for host_id in view.memory.emptying
        if host_id in loads and _still(view, loads[host_id])
    }
    if all(is_empty(loads[host_id]) for host_id in kept):
        kept |= set(_next(view, needs, missing, kept))
    return frozenset(kept)


def _still(view: View, load: HostLoad) -> bool:
    """Whether it is still nobody's: nothing starts there, and nobody was given one of its
    desktops."""
    if load.host.state is not HostState.UP or not managed(view, load) or load.starting:
        return False
    return not any(
        row.state is DesktopState.ASSIGNED and row.host_id == load.host.id
        for row in view.rows.on_host.get(load.host.id, ())
    )


def _next(
    view: View, needs: Sequence[Need], missing: Mapping[str, int], emptying: AbstractSet[str]
) -> Iterator[str]:
    """The host with the fewest spares that the others have room for, if there is one. None while
    another is empty: it goes off, or is what has to be kept, and spares would only change places.
    """
    if any(need.short or need.coming for need in needs):
        return
    if any(
        load.host.state in _COMES_OR_GOES
        or (load.host.state is HostState.UP and is_empty(load) and load.host.id not in emptying)
        for load in view.hosts
    ):
        return
    apart = {need.pool.id for need in needs if need.pool.settings.apart}
    ripe = set(ripe_hosts(view))
    rooms = Rooms(replace(view, breakers={}), starts=False)
    others = [load for load in view.hosts if load.host.id not in emptying]
    for load in sorted(others, key=lambda one: (sum(one.spares_by_pool.values()), one.host.name)):
        host_id = load.host.id
        if host_id not in ripe or not only_spares(load) or apart & load.spares_by_pool.keys():
            continue
        room = _emptied(rooms.by_id[host_id])
        if any(missing.get(need.pool.id) and serves(room, need) for need in needs):
            continue
        rest = [one for one in others if one.host.id != host_id]
        if reserve_fits(view, needs, rest, room, load.spares_by_pool):
            yield host_id
            return


def _emptied(room: Room) -> Room:
    """The host as it will be when its spares have left."""
    empty = room.copy()
    empty.used = empty.reserved = (0.0, 0.0, 0.0, 0.0, 0.0)
    return empty


def consolidate(
    view: View,
    needs: Sequence[Need],
    rooms: Rooms,
    moves: Moves,
    emptying: AbstractSet[str],
    busy: AbstractSet[str],
) -> Iterator[Command]:
    """What leaves the hosts that are being emptied; `emptying` as of the look before, too, for
    only then are their desktops read."""
    calm = {need.pool.id for need in needs if need.now.makes and not (need.short or need.coming)}
    for host_id in sorted(emptying & view.memory.emptying):
        room = rooms.by_id[host_id]
        why = f"{room.host.name} is being emptied, to be switched off"
        for row in view.rows.on_host.get(host_id, ()):
            spare = row.state is DesktopState.READY and row.owner_id is None
            if not spare or row.host_id != host_id or row.moving_to or row.id in busy:
                continue
            choice = moves.choose(row, room) if moves.may_leave(room) else None
            if choice is not None and choice.host_id is not None:
                yield MigrateDesktop(
                    desktop=row,
                    to_host_id=choice.host_id,
                    why=f"{why}; {choice.why}",
                    reasons=choice.reasons,
                )
            elif not moves.possible(room, row) and row.pool_id in calm:
                calm.discard(row.pool_id)
                yield ClearDesktop(desktop=row, why=why)
