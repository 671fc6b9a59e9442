"""Moving one desktop because somebody asked for it: where it can go, and in words, where not.

By the rules of every other move: what the engines can, hosts of one kind, that are open and
answer, room, labels, disks that both reach, and few moves of a host at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.features import Feature
from broker.domain.model import Desktop, Host
from broker.domain.placement import Room, shares_storage
from broker.domain.planning.moving import MOVABLE, Moves, busy_with, moved
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import RUNS, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A host that a desktop might move to. `refusal`: why it cannot, in words; empty: it can.
    `unsupported`: no engine could, there or anywhere like it."""

    host: Host
    refusal: str = ""
    unsupported: bool = False


def stays(view: View, rooms: Rooms, desktop: Desktop) -> tuple[str, bool]:
    """Why it cannot leave its host now, in words, and whether that is because the engine cannot;
    "" where it can."""
    name = desktop.name
    if desktop.host_id is None:
        return f"{name} is its endpoint's own and stays there", True
    source = rooms.by_id.get(desktop.host_id)
    if source is None:
        return f"no engine here knows the host of {name}", True
    if not view.can(source.host.id, Feature.MIGRATE):
        return f"{source.host.name} cannot move running desktops", True
    return _stays_now(desktop, source), False


def _stays_now(desktop: Desktop, source: Room) -> str:
    if desktop.moving_to is not None:
        return f"{desktop.name} is on its way to another host already"
    if desktop.state not in MOVABLE:
        return f"{desktop.name} is {desktop.state}: only a desktop that runs is moved"
    if source.host.state not in RUNS:
        return f"the host of {desktop.name} does not run"
    if source.silent:
        return f"{source.host.name} does not answer"
    return busy_with(source)


def destinations(view: View, rooms: Rooms, desktop: Desktop) -> tuple[Destination, ...]:
    """Every other host, by name."""
    source = rooms.by_id.get(desktop.host_id or "")
    if source is None:
        return ()
    pools = {pool.id: pool for pool in view.pools}
    moves = Moves(view, rooms, pools)
    pool = pools.get(desktop.pool_id)
    found: list[Destination] = []
    for room in rooms.by_id.values():
        if room is source:
            continue
        if not view.can(room.host.id, Feature.MIGRATE):
            why = f"{room.host.name} cannot take running desktops"
            found.append(Destination(host=room.host, refusal=why, unsupported=True))
        elif pool is None:
            why = f"the pool of {desktop.name} is not known"
            found.append(Destination(host=room.host, refusal=why))
        else:
            why = moves.refusal(room, source, moved(desktop, pool)) or ""
            if not why and not shares_storage(source, room, pool.settings.storage):
                why = f"{room.host.name} has not the disks of {source.host.name}"
            found.append(Destination(host=room.host, refusal=why))
    return tuple(found)
