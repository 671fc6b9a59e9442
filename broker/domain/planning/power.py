"""Hosts are switched on when desktops find no room, and off when they stay empty.

On: the smallest host that fits, after those that come up already are filled. What only waits for
its turn to start switches nothing on. Off: a host on which nobody used anything for idle_off_s and
nothing runs, if what the pools keep ready (and at least one desktop of each) still fits on the
others: so a host is not switched off to be switched on again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import HostState, Instant
from broker.domain.placement import HostLoad, Room, refusal
from broker.domain.planning.commands import Command, MakeDesktop, PowerHost, RenewDesktop
from broker.domain.planning.needs import Need
from broker.domain.planning.rooms import Rooms, demand_of
from broker.domain.planning.view import View


def managed(view: View, load: HostLoad) -> bool:
    return load.host.settings.power_managed and view.can(load.host.id, Feature.HOST_POWER)


def is_empty(load: HostLoad) -> bool:
    """Nothing runs there: suspended desktops take disk only."""
    return not (load.used.memory_mib or load.used.cpus or load.starting or load.moving)


def only_spares(load: HostLoad) -> bool:
    """Whether what runs there is ready, and nobody's."""
    spares = sum(load.spares_by_pool.values())
    return 0 < load.running == spares and not load.starting


def idle_hosts(view: View) -> dict[str, Instant]:
    """host id -> since when nobody uses anything on it and nothing starts there; only those that
    the broker may switch off."""
    return {
        load.host.id: view.memory.idle_since.get(load.host.id, view.now)
        for load in view.hosts
        if load.host.state is HostState.UP and managed(view, load) and _idle(view, load)
    }


def _idle(view: View, load: HostLoad) -> bool:
    if load.starting:
        return False
    return is_empty(load) or only_spares(load) or load.host.id in view.memory.emptying


def ripe_hosts(view: View) -> list[str]:
    """Ids of those that were idle for their `idle_off_s`."""
    hosts = {load.host.id: load.host for load in view.hosts}
    return [
        host_id
        for host_id, since in idle_hosts(view).items()
        if view.now - since >= hosts[host_id].settings.idle_off_s * 1000
    ]


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
    commands_on = _switch_on(view, needs, missing, future, switching)
    if commands_on or switching:
        return commands_on
    making = {one.host_id for one in commands if isinstance(one, MakeDesktop)}
    making |= {one.desktop.host_id or "" for one in commands if isinstance(one, RenewDesktop)}
    wanting = [need for need in needs if missing.get(need.pool.id)]
    return _switch_off(view, needs, wanting, making)


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
    view: View,
    needs: Sequence[Need],
    wanting: Sequence[Need],
    making: set[str],
) -> list[Command]:
    """`wanting`: pools that found no host. One that this host could not serve either, on or off,
    does not keep it on."""
    commands: list[Command] = []
    rooms = Rooms(replace(view, breakers={}), starts=False).by_id
    empty = {load.host.id for load in view.hosts if is_empty(load)}
    ripe = [
        rooms[host_id] for host_id in ripe_hosts(view) if host_id in empty and host_id not in making
    ]
    ripe.sort(key=lambda one: (-one.capacity[1], -one.capacity[0], one.host.name))
    kept = [load for load in view.hosts if load.host.id not in view.memory.emptying]
    leaving: Counter[str] = Counter()
    for load in view.hosts:
        if load.host.id in view.memory.emptying:
            leaving.update(load.spares_by_pool)
    for room in ripe[: limits.POWER_PER_LOOK_MAX]:
        rest = [load for load in kept if load.host.id != room.host.id]
        if any(serves(room, need) for need in wanting):
            continue
        if not reserve_fits(view, needs, rest, room, leaving):
            continue
        kept = rest
        why = f"nobody used it for {room.host.settings.idle_off_s} s, and the others have room"
        commands.append(PowerHost(host=room.host, on=False, why=why))
    return commands


def reserve(need: Need) -> int:
    """Desktops of the pool that must find room while hosts are switched off."""
    if not (need.now.power and need.now.makes):
        return 0
    most = min(need.pool.size_max - need.existing, limits.POWER_RESERVE_MAX)
    return max(0, min(max(1, need.now.spares), most))


def serves(room: Room, need: Need) -> bool:
    """Whether a desktop of the pool would fit on this host."""
    return refusal(room, demand_of(need.pool)) is None


def reserve_fits(
    view: View,
    needs: Sequence[Need],
    loads: Sequence[HostLoad],
    going: Room,
    more: Mapping[str, int] | None = None,
) -> bool:
    """Whether these hosts have room for what the pools keep ready, and for `more` desktops (pool
    id -> how many); pools that the host which is `going` could not serve do not count."""
    rooms = Rooms(replace(view, breakers={}), starts=False, loads=loads)
    extra = more or {}
    for need in needs:
        for _ in range(reserve(need) + extra.get(need.pool.id, 0)):
            if rooms.fit(need.pool) is None:
                if extra.get(need.pool.id, 0) or serves(going, need):
                    return False
                break
    return True
