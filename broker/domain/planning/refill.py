"""Machines to resume and to make, fair between pools.

People who wait come before spares. Within each, the pool with the fewest machines on their way is
next, so that a pool whose name comes first does not take every free place. Machines on their way
count as there, on their hosts too, so that a burst does not land on one host.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.domain.model import Pool
from broker.domain.placement import Choice
from broker.domain.planning.awaited import cannot_run, resumption
from broker.domain.planning.budget import Budget
from broker.domain.planning.commands import Command, MakeDesktop, NoRoom, ResumeDesktop
from broker.domain.planning.needs import Need
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import View


@dataclass(slots=True, kw_only=True)
class Refill:
    """What is begun. missing: pool id -> machines that found no host. refused: ids of pools that
    get no more in this look, for whatever reason."""

    commands: list[Command] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One pool's wishes in one round of the distribution."""

    need: Need
    begun: int = 0
    resumed: int = 0
    left: int = 0
    why: str = "it keeps spares"


def refill(view: View, needs: Sequence[Need], rooms: Rooms, budget: Budget) -> Refill:
    """Resume second-level spares, then make new machines: for people, then for spares."""
    result = Refill()
    turns = [_Turn(need=need) for need in needs]
    for turn in turns:
        _resume(view, turn, rooms, budget, result)
    for turn in turns:
        people = max(0, turn.need.short_for_people - turn.resumed)
        turn.left = min(people, turn.need.to_make(turn.resumed))
        turn.why = f"{turn.need.waiting} wait for one"
    _distribute(turns, rooms, budget, result)
    for turn in turns:
        made = turn.begun - turn.resumed
        refused = turn.need.pool.id in result.refused
        turn.left = 0 if refused else turn.need.to_make(turn.resumed) - made
        turn.why = "it keeps spares"
    _distribute(turns, rooms, budget, result)
    return result


def _resume(view: View, turn: _Turn, rooms: Rooms, budget: Budget, result: Refill) -> None:
    need = turn.need
    for desktop in view.rows.suspended.get(need.pool.id, ()):
        if turn.resumed >= need.to_resume:
            break
        demand = resumption(desktop, need.pool)
        host_id = desktop.host_id or ""
        if cannot_run(rooms.by_id.get(host_id), demand) or budget.refusal(need.pool, new=False):
            continue
        rooms.take(host_id, demand)
        budget.take(need.pool, new=False)
        turn.resumed += 1
        why = f"{need.pool.name} needs {need.short} more that run"
        result.commands.append(ResumeDesktop(desktop=desktop, why=why))
    turn.begun = turn.resumed


def _distribute(turns: Sequence[_Turn], rooms: Rooms, budget: Budget, result: Refill) -> None:
    """Give out places one by one until nobody wants more or nothing fits."""
    queue = [
        (turn.need.coming + turn.begun, turn.need.pool.name, index)
        for index, turn in enumerate(turns)
        if turn.left > 0
    ]
    heapq.heapify(queue)
    while queue:
        coming, name, index = heapq.heappop(queue)
        turn = turns[index]
        pool = turn.need.pool
        choice = _choice(pool, rooms, budget)
        if choice.host_id is None:
            result.refused.add(pool.id)
            if budget.refusal(pool, new=True) is None:
                result.missing[pool.id] = turn.left
            result.commands.append(
                NoRoom(
                    pool=pool,
                    missing=turn.left,
                    why=choice.why,
                    reasons=choice.reasons,
                    paced=budget.paced or rooms.paced(pool),
                )
            )
            continue
        budget.take(pool, new=True)
        turn.begun += 1
        turn.left -= 1
        result.commands.append(
            MakeDesktop(
                pool=pool,
                host_id=choice.host_id,
                why=f"{turn.why}; {choice.why}",
                reasons=choice.reasons,
            )
        )
        if turn.left:
            heapq.heappush(queue, (coming + 1, name, index))


def _choice(pool: Pool, rooms: Rooms, budget: Budget) -> Choice:
    refused = budget.refusal(pool, new=True)
    if refused is not None:
        return Choice(host_id=None, why=refused, reasons=(refused,))
    return rooms.choose(pool)
