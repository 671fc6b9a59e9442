"""Hosts are switched on when desktops find no room, and off when they stay empty.

On: the smallest host that fits, after those that come up already are filled. What only waits for
its turn to start switches nothing on. Off: a host on which nothing ran for idle_off_s, if what the
pools keep ready (and at least one desktop of each) still fits on the others: so a host is not
switched off to be switched on again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import HostState, Instant
from broker.domain.placement import HostLoad, Room, refusal
from broker.domain.planning.commands import Command, MakeDesktop, PowerHost
from broker.domain.planning.needs import Need
from broker.domain.planning.rooms import Rooms, demand_of
from broker.domain.planning.view import View


def managed(view: View, load: HostLoad) -> bool:
    return load.host.settings.power_managed and view.can(load.host.id, Feature.HOST_POWER)


def is_empty(load: HostLoad) -> bool:
    """Nothing runs there: suspended desktops take disk only."""
    return not (load.used.memory_mib or load.used.cpus or load.starting or load.moving)


def idle_hosts(view: View) -> dict[str, Instant]:
    """host id -> since when nothing runs on it; only those that the broker may switch off."""
    return {
        load.host.id: view.memory.idle_since.get(load.host.id, view.now)
        for load in view.hosts
        if load.host.state is HostState.UP and managed(view, load) and is_empty(load)
    }


def power(
    view: View,
    needs: Sequence[Need],
    missing: Mapping[str, int],
    commands: Sequence[Command],
) -> list[Command]:
    """`missing`: pool id -> machines that found no host in this look; `commands`: what the look
    decided already."""
    switching = {one.host.id for one in commands if isinstance(one, PowerHost)}
    # a pool that is paused on a host does not switch another one on: its image may be broken
    future = Rooms(replace(view, breakers={}), starts=False)
    for room in future.by_id.values():
        if room.host.state is HostState.POWERING_ON or room.host.id in switching:
            room.open = True
    for one in commands:
        if isinstance(one, MakeDesktop):
            future.take(one.host_id, demand_of(one.pool))
    if any(missing.values()):
        return _switch_on(view, needs, missing, future, switching)
    if switching:
        return []
    making = {one.host_id for one in commands if isinstance(one, MakeDesktop)}
    return _switch_off(view, needs, future, making)


def _switch_on(
    view: View,
    needs: Sequence[Need],
    missing: Mapping[str, int],
    future: Rooms,
    switching: set[str],
) -> list[Command]:
    commands: list[Command] = []
    off = [
        future.by_id[load.host.id]
        for load in view.hosts
        if load.host.state is HostState.OFF
        and managed(view, load)
        and load.host.id not in switching
    ]
    off.sort(key=lambda one: (one.capacity[1], one.capacity[0], one.host.name))
    for need in needs:
        pool = need.pool
        for _ in range(min(missing.get(pool.id, 0), pool.settings.refill_batch)):
            if future.fit(pool) is not None:
                continue
            found = _smallest(off, need)
            if found is None or len(commands) >= limits.POWER_PER_LOOK_MAX:
                break
            off.remove(found)
            found.open = True
            future.touch(found.host.id)
            future.fit(pool)
            why = f"{pool.name} lacks {missing[pool.id]} desktops and no host that is on has room"
            commands.append(PowerHost(host=found.host, on=True, why=why))
    return commands


def _smallest(off: Sequence[Room], need: Need) -> Room | None:
    """The first of these hosts on which the pool's desktop would fit."""
    demand = demand_of(need.pool)
    for room in off:
        trial = room.copy()
        trial.open = True
        if refusal(trial, demand) is None:
            return room
    return None


def _switch_off(
    view: View, needs: Sequence[Need], future: Rooms, making: set[str]
) -> list[Command]:
    commands: list[Command] = []
    ripe = [
        future.by_id[host_id]
        for host_id, since in idle_hosts(view).items()
        if host_id not in making
        and view.now - since >= future.by_id[host_id].host.settings.idle_off_s * 1000
    ]
    ripe.sort(key=lambda one: (-one.capacity[1], -one.capacity[0], one.host.name))
    kept = list(view.hosts)
    for room in ripe[: limits.POWER_PER_LOOK_MAX]:
        rest = [load for load in kept if load.host.id != room.host.id]
        if not _reserve_fits(view, needs, rest):
            continue
        kept = rest
        why = f"nothing ran on it for {room.host.settings.idle_off_s} s, and the others have room"
        commands.append(PowerHost(host=room.host, on=False, why=why))
    return commands


def reserve(need: Need) -> int:
    """Desktops of the pool that must find room while hosts are switched off."""
    if not (need.now.power and need.now.makes):
        return 0
    most = min(need.pool.size_max - need.existing, limits.POWER_RESERVE_MAX)
    return max(0, min(max(1, need.now.spares), most))


def _reserve_fits(view: View, needs: Sequence[Need], loads: Sequence[HostLoad]) -> bool:
    rooms = Rooms(replace(view, breakers={}), starts=False, loads=loads)
    return all(rooms.fit(need.pool) is not None for need in needs for _ in range(reserve(need)))
