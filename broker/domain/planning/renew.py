"""Spares whose disk is not of their pool's image any more are made fresh, a few at a time.

What nobody has is renewed by the way of every reset, under a new generation; what somebody uses or
owns is left alone: it gets the image when it is made fresh for the next.

A pool never has fewer machines ready for it than it wants: suspended spares go first, then those
ready beyond what is wanted. Where there are none of these, as many more are made to stand in for
them as are renewed at once; they are surplus afterwards. Where a stand-in has no room, one spare
after the other is renewed, and the pool lacks one for so long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from broker import limits
from broker.domain.model import Desktop, DesktopState, HostState
from broker.domain.placement import Demand, Room, over_starts
from broker.domain.planning.awaited import resumption
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import (
    ClearDesktop,
    Command,
    MakeDesktop,
    MigrateDesktop,
    RenewDesktop,
    ResumeDesktop,
    SuspendDesktop,
)
from broker.domain.planning.needs import Need
from broker.domain.planning.resets import START
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View

_TAKES = (ClearDesktop, MigrateDesktop, ResumeDesktop, SuspendDesktop)


def renew(
    view: View,
    needs: Sequence[Need],
    rooms: Rooms,
    budget: Budget,
    refused: AbstractSet[str],
    commands: Iterable[Command],
) -> list[Command]:
    """`refused`: ids of pools that get no more machines in this look; `commands`: what the look
    decided already."""
    if not view.rows.outdated:
        return []
    decided = list(commands)
    taken = [one.desktop for one in decided if isinstance(one, _TAKES)]
    comes = {one.pool.id for one in decided if isinstance(one, MakeDesktop)}
    comes |= {one.pool_id for one in taken if one.state is DesktopState.SUSPENDED}
    ready_gone = Counter(one.pool_id for one in taken if one.state is DesktopState.READY)
    busy = {one.id for one in taken}
    found: list[Command] = []
    for need in needs:
        rows = [row for row in view.rows.outdated.get(need.pool.id, ()) if row.id not in busy]
        if rows and need.now.makes and not need.waiting:
            found += _Renewal(view, need, rooms, budget).begin(
                rows,
                ready_gone=ready_gone[need.pool.id],
                more_comes=need.pool.id in comes,
                refused=need.pool.id in refused,
            )
    return found


class _Renewal:
    """One pool's spares in one look."""

    def __init__(self, view: View, need: Need, rooms: Rooms, budget: Budget) -> None:
        self._view = view
        self._need = need
        self._rooms = rooms
        self._budget = budget
        key = (need.pool.id, DesktopState.RESETTING)
        under_way = view.counts.get(key, 0) - view.owned.get(key, 0)
        self._left = max(0, limits.RENEWED_AT_ONCE_MAX - under_way)

    def begin(
        self, rows: Sequence[Desktop], *, ready_gone: int, more_comes: bool, refused: bool
    ) -> list[Command]:
        need = self._need
        asleep = [row for row in rows if row.state is DesktopState.SUSPENDED]
        ready = [row for row in rows if row.state is DesktopState.READY]
        found: list[Command] = []
        for row in asleep:
            found += self._one(row)
        beyond = need.ready - ready_gone - need.wanted_running
        for row in ready[: max(0, beyond)]:
            found += self._one(row)
        if beyond > 0 or not ready or more_comes or beyond + need.coming > 0:
            # what stands in for them may be on its way
            return found
        stand_ins = [] if refused else self._stand_ins(len(ready))
        if not stand_ins and not need.coming:
            return [*found, *self._first(ready)]
        return [*found, *stand_ins]

    def _first(self, rows: Sequence[Desktop]) -> list[Command]:
        for row in rows:
            found = self._one(row)
            if found:
                return found
        return []

    def _one(self, row: Desktop) -> list[Command]:
        """Its renewal, if there may be one more now and its host has what it takes."""
        room = self._rooms.by_id.get(row.host_id or "")
        if not self._left or room is None or row.moving_to is not None:
            return []
        if not self._takes(row, room):
            return []
        self._left -= 1
        why = f"it is not of the image that {self._need.pool.name} has now"
        return [RenewDesktop(desktop=row, why=why)]

    def _takes(self, row: Desktop, room: Room) -> bool:
        if room.host.state is not HostState.UP or room.host.id in self._view.memory.emptying:
            return False
        pool, asleep = self._need.pool, row.state is DesktopState.SUSPENDED
        demand: Demand = resumption(row, pool) if asleep else START
        if over_starts(room, demand):
            return False
        if asleep:
            # it will run once it is fresh
            no_room = room.lacks(demand.need, demand.guarantee)
            if no_room or self._budget.refusal(pool, new=False):
                return False
            self._budget.take(pool, new=False)
        self._rooms.take(room.host.id, demand)
        return True

    def _stand_ins(self, wanted: int) -> list[Command]:
        need, found = self._need, list[Command]()
        most = min(wanted, self._left, need.pool.size_max - need.existing)
        for _ in range(most):
            if self._budget.refusal(need.pool, new=True) is not None:
                break
            choice = self._rooms.choose(need.pool)
            if choice.host_id is None:
                break
            self._budget.take(need.pool, new=True)
            why = f"it stands in while spares get the image of now; {choice.why}"
            found.append(
                MakeDesktop(pool=need.pool, host_id=choice.host_id, why=why, reasons=choice.reasons)
            )
        return found
