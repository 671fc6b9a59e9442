"""Live migration: who may go where, and how many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import Desktop, DesktopState, HostState, Instant, Pool
from broker.domain.placement import (
    Choice,
    Demand,
    Room,
    Score,
    amounts,
    chosen,
    no_host,
    reason,
    refusal,
    score,
    shares_storage,
    some_reasons,
)
from broker.domain.planning.commands import MigrateDesktop
from broker.domain.planning.rooms import Rooms, demand_of
from broker.domain.planning.view import Try, View

_DOUBLINGS_MAX: Final = 30
MOVABLE = frozenset({DesktopState.READY, DesktopState.ASSIGNED})


def asked(
    tries: Mapping[str, Try], commands: Iterable[MigrateDesktop], now: Instant
) -> dict[str, Try]:
    """What is remembered of moves, these included. One that arrived is at another host, from which
    it was not asked to go; one that did not is asked ever more seldom, and forgotten in the end."""
    kept = {
        key: one for key, one in tries.items() if one.next_at + limits.MOVE_PAUSE_S_MAX * 1000 > now
    }
    for command in commands:
        key = _leaving(command.desktop)
        times = kept[key].tries + 1 if key in kept else 1
        pause_s = min(
            limits.MOVE_PAUSE_S << min(times - 1, _DOUBLINGS_MAX), limits.MOVE_PAUSE_S_MAX
        )
        kept[key] = Try(tries=times, next_at=now + pause_s * 1000)
    return kept


def _leaving(desktop: Desktop) -> str:
    return f"{desktop.id}@{desktop.host_id}"


class Moves:
    """What may still be moved in this look. The hosts' `moving` counts what is under way."""

    def __init__(self, view: View, rooms: Rooms, pools: dict[str, Pool]) -> None:
        self._view = view
        self._rooms = rooms
        self.pools = pools
        self.left = limits.MOVES_PER_LOOK_MAX

    def may_leave(self, room: Room) -> bool:
        """Whether the host's engine can migrate, and one more may be under way there."""
        return (
            self.left > 0
            and self._view.can(room.host.id, Feature.MIGRATE)
            and room.moving < limits.MIGRATIONS_PER_HOST_MAX
        )

    def possible(self, room: Room, desktop: Desktop | None = None) -> bool:
        """Whether desktops of this host (this one) could move at all: another host of its kind is
        up, and has their disks."""
        if desktop is not None and self._rests(desktop):
            return False
        storage = self._storage(desktop) if desktop is not None else None
        return self._view.can(room.host.id, Feature.MIGRATE) and any(
            other.host.state is HostState.UP
            and other.host.hardware == room.host.hardware
            and other is not room
            and self._view.can(other.host.id, Feature.MIGRATE)
            and (storage is None or shares_storage(room, other, storage))
            for other in self._rooms.by_id.values()
        )

    def _rests(self, desktop: Desktop) -> bool:
        """It was asked to leave this host a moment ago, and is still there."""
        known = self._view.memory.moves.get(_leaving(desktop))
        return known is not None and self._view.now < known.next_at

    def _storage(self, desktop: Desktop) -> str | None:
        """The class that its disk is taken to be in: its pool's, as of now."""
        pool = self.pools.get(desktop.pool_id)
        return pool.settings.storage if pool is not None else None

    def choose(self, desktop: Desktop, source: Room, *, at_most: float | None = None) -> Choice:
        """Where this desktop goes; its room there is taken. `at_most`: no host may be fuller than
        this afterwards."""
        pool = self.pools.get(desktop.pool_id)
        if pool is None:
            return Choice(host_id=None, why="its pool is not known", reasons=())
        if self._rests(desktop):
            return Choice(host_id=None, why="its last move failed a moment ago", reasons=())
        demand = moved(desktop, pool)
        best: Room | None = None
        lowest: Score | None = None
        reasons: list[str] = []
        for room in self._rooms.by_id.values():
            if room is source:
                continue
            refused = self.refusal(room, source, demand, at_most)
            if refused is None and not shares_storage(source, room, pool.settings.storage):
                refused = f"{room.host.name} has not the disks of {source.host.name}"
            if refused is not None:
                reasons.append(refused)
                continue
            found = score(room, demand)
            if lowest is None or found < lowest:
                best, lowest = room, found
        if best is None:
            return Choice(
                host_id=None,
                why=no_host(reasons[: limits.PLACEMENT_REASONS_MAX]),
                reasons=some_reasons(reasons, len(reasons)),
            )
        words = [reason(best, demand), *reasons]
        why = chosen(best, demand)
        self._rooms.take(best.host.id, demand)
        best.moving += 1
        source.moving += 1
        self.left -= 1
        return Choice(host_id=best.host.id, why=why, reasons=some_reasons(words, len(words)))

    def refusal(
        self, room: Room, source: Room, demand: Demand, at_most: float | None = None
    ) -> str | None:
        """Why a running machine that takes this does not go from `source` to this host, in words,
        its disk left aside; None where it can."""
        name = room.host.name
        if room.host.engine != source.host.engine:
            return f"{name} has another engine"
        if room.host.hardware != source.host.hardware:
            return f"{name} is another kind of machine"
        if not self._view.can(room.host.id, Feature.MIGRATE):
            return f"{name} cannot take running desktops"
        busy = self._busy(room)
        if busy:
            return busy
        refused = refusal(room, demand)
        if refused is None and at_most is not None:
            full = room.fullness(amounts(demand.need))
            if full > at_most:
                return f"{name} would be {full:.0%} full (limit {at_most:.0%})"
        return refused

    def _busy(self, room: Room) -> str:
        if room.host.id in self._view.memory.emptying:
            return f"{room.host.name} is being emptied"
        return busy_with(room)


def busy_with(room: Room) -> str:
    """That as many desktops leave it, or come to it, as may at once; "" where one more may."""
    if room.moving >= limits.MIGRATIONS_PER_HOST_MAX:
        return f"{room.host.name} moves {room.moving} desktops already"
    return ""


def moved(desktop: Desktop, pool: Pool) -> Demand:
    """What a machine takes at the host that it moves to."""
    # its disk is there already
    return replace(demand_of(pool), need=desktop.resources, starts=False, storage=None)
