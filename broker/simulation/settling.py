"""What must have come about once faults have stopped: a list of what has not, empty at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from broker.domain.lifecycle import DESKTOP, HOST, SESSION
from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    EndpointState,
    Pool,
    PoolKind,
    SessionState,
)
from broker.domain.placement import Room, refusal
from broker.domain.planning.effective import effective
from broker.domain.planning.recover import is_kept
from broker.domain.planning.rooms import demand_of
from broker.domain.planning.view import RUNS
from broker.domain.settings import SiteSettings
from broker.domain.site import SITE_DOCUMENT, settings_of
from broker.domain.snapshots import UNDER_WAY, SnapshotState, counts_for
from broker.simulation.engine import Hypervisor
from broker.simulation.seams import SimClock
from broker.simulation.station import Station
from broker.simulation.watched import WatchedState
from broker.store.loads import host_load

_RUNNING: Final = frozenset({DesktopState.READY, DesktopState.ASSIGNED})
Complaint = tuple[str, str]
"""(invariant, what is not as it should be)"""


class Scene(Protocol):
    state: WatchedState
    hypervisor: Hypervisor
    stations: list[Station]
    clock: SimClock


def complaints(scene: Scene) -> list[Complaint]:
    """What is not settled. In order, so that a run tells the same every time."""
    return sorted(
        [*_rows(scene), *_machines(scene), *_queue(scene), *_endpoints(scene), *_carried(scene)]
    )


def waits_for_host(state: WatchedState, desktop: Desktop) -> bool:
    """It is to be removed from a host that is switched off: it cannot go now, and blocks nothing
    (see planning.needs.ClosedSpares)."""
    if desktop.state is not DesktopState.DELETING or desktop.host_id is None:
        return False
    return state.hosts[desktop.host_id].state not in RUNS


def _rows(scene: Scene) -> list[Complaint]:
    """Nothing is on its way any more."""
    state = scene.state
    found = [
        ("L1", f"{one.id} is {one.state}")
        for one in state.sessions.values()
        if one.state in SESSION.transient and one.state is not SessionState.QUEUED
    ]
    found += [
        ("L1", f"{one.id} is {one.state}: {one.note}")
        for one in state.desktops.values()
        if one.state in DESKTOP.transient and not waits_for_host(state, one)
    ]
    found += [
        ("L1", f"{one.id} is {one.state}: {one.note}")
        for one in state.desktops.values()
        # one in which a person's work lies is started again, ever more seldom, and never cleared
        if one.state is DesktopState.FAILED and not is_kept(one, state.pools[one.pool_id])
    ]
    found += [
        ("L1", f"{one.id} is {one.state}: {one.error}")
        for one in state.open_jobs.values()
        if (about := state.desktops.get(one.desktop_id)) is None or not waits_for_host(state, about)
    ]
    found += [
        ("L1", f"{one.id} is {one.state}: {one.note}")
        for one in state.hosts.values()
        if one.state in HOST.transient
    ]
    found += [
        ("L1", f"{one.id} is {one.state} for ever")
        for one in state.snapshots.values()
        if one.state in UNDER_WAY and counts_for(one, state.desktops[one.desktop_id])
    ]
    return found


def _machines(scene: Scene) -> list[Complaint]:
    """Every machine has its record in its generation, every record its machine."""
    machines = scene.hypervisor.machines
    desktops = scene.state.desktops
    found: list[Complaint] = []
    for desktop_id, machine in machines.items():
        desktop = desktops.get(desktop_id)
        if desktop is None or desktop.state is DesktopState.DELETED:
            found.append(("L2", f"the machine of {desktop_id} is nobody's"))
        elif machine.generation != desktop.generation and not waits_for_host(scene.state, desktop):
            text = f"the machine of {desktop_id} is at {machine.generation}"
            found.append(("L2", f"{text}, its record at {desktop.generation}"))
    for desktop in desktops.values():
        if desktop.host_id is None or desktop.state not in _RUNNING:
            continue
        known = machines.get(desktop.id)
        if known is None or not known.running:
            found.append(("L2", f"{desktop.id} is {desktop.state}, and its machine does not run"))
    for one in scene.state.snapshots.values():
        desktop, machine = desktops[one.desktop_id], machines.get(one.desktop_id)
        whole = one.state is SnapshotState.READY and counts_for(one, desktop)
        if whole and machine is not None and one.id not in machine.snapshots:
            found.append(("L2", f"{one.id} is ready, and {desktop.id} does not have it"))
    return found


def _queue(scene: Scene) -> list[Complaint]:
    """Nobody waits for what is there and open."""
    state = scene.state
    found: list[Complaint] = []
    ready: dict[str, list[str | None]] = {}
    for one in state.desktops.values():
        if one.state is DesktopState.READY:
            ready.setdefault(one.pool_id, []).append(one.endpoint_id or one.owner_id)
    for pool in state.pools.values():
        if not effective(pool, site_of(state), scene.clock.now()).open:
            continue
        free = ready.get(pool.id, [])
        for session_id in state.queues[pool.id]:
            session = state.sessions[session_id]
            bound = pool.architecture is not Architecture.VDI
            wish = session.endpoint_id if bound else None
            if wish in free or (pool.kind is PoolKind.DEDICATED and session.user_id in free):
                found.append(("L3", f"{session_id} waits, and a desktop is ready"))
    return found


def site_of(state: WatchedState) -> SiteSettings:
    """The site's settings as they are stored."""
    document = state.documents.get(SITE_DOCUMENT)
    return settings_of(document.value) if document is not None else SiteSettings()


def _endpoints(scene: Scene) -> list[Complaint]:
    found: list[Complaint] = []
    by_name = {one.name: one for one in scene.state.endpoints.values()}
    for station in scene.stations:
        record = by_name.get(station.name)
        if not station.on or (record is not None and record.state is EndpointState.RETIRED):
            continue
        if not station.core.link.is_up:
            found.append(("L4", f"{station.name} is not connected"))
        elif record is None or record.state is not EndpointState.ONLINE:
            found.append(("L4", f"{station.name} is connected, and counts as lost"))
    for desktop in scene.state.desktops.values():
        if desktop.state is DesktopState.UNAVAILABLE and desktop.endpoint_id is not None:
            state = scene.state.endpoints[desktop.endpoint_id].state
            if state is EndpointState.ONLINE:
                found.append(("L4", f"{desktop.id} is unavailable at an endpoint that is online"))
    return found


def _carried(scene: Scene) -> list[Complaint]:
    """A session that is active at an endpoint is live there, and the other way round."""
    found: list[Complaint] = []
    live: dict[str, tuple[str, int]] = {}
    for station in scene.stations:
        for session in station.core.sessions:
            if session.is_live:
                live[session.id] = (station.identity.endpoint_id or "", session.generation)
    for session_id, (endpoint_id, generation) in live.items():
        record = scene.state.sessions.get(session_id)
        if record is None or record.state in SESSION.terminal:
            found.append(("L5", f"{session_id} is over, and live at {endpoint_id}"))
        elif record.state is SessionState.ACTIVE and (
            (record.endpoint_id, record.generation) != (endpoint_id, generation)
        ):
            found.append(("L5", f"{session_id} is live at {endpoint_id}, not where it should be"))
    found += [
        ("L5", f"{one.id} is active, and not live at {one.endpoint_id}")
        for one in scene.state.sessions.values()
        if one.state is SessionState.ACTIVE and one.endpoint_id is not None and one.id not in live
    ]
    return found


def short_of_spares(scene: Scene) -> list[Complaint]:
    """Pools that have fewer desktops than they want although a host has room, and the site."""
    state, now = scene.state, scene.clock.now()
    site = site_of(state)
    found: list[Complaint] = []
    for pool in state.pools.values():
        if pool.architecture is not Architecture.VDI:
            continue
        rows = [state.desktops[one] for one in state.pool_desktops[pool.id]]
        held = sum(one.id in state.held_desktops for one in rows)
        holds_now = effective(pool, site, now)
        waiting = len(state.queues[pool.id]) if holds_now.open else 0
        want = held + waiting + holds_now.spares if holds_now.makes else held
        want = min(want, pool.size_max)
        if len(rows) < want and _has_room(scene, pool, site):
            found.append(("L3", f"{pool.name} has {len(rows)} desktops and wants {want}"))
    return found


def _has_room(scene: Scene, pool: Pool, site: SiteSettings) -> bool:
    """As the planner counts it."""
    state = scene.state
    loads = [
        host_load(host, [state.desktops[one] for one in sorted(state.host_desktops[host.id])])
        for host in state.hosts.values()
    ]
    machines = [one for one in state.desktops.values() if one.host_id is not None]
    if site.desktops_max and site.desktops_max <= sum(
        one.state is not DesktopState.DELETED for one in machines
    ):
        return False
    memory_mib = sum(load.used.memory_mib for load in loads) + pool.resources.memory_mib
    if site.memory_mib_max and memory_mib > site.memory_mib_max:
        return False
    guarantees = {one.id: one.settings.guarantee for one in state.pools.values()}
    demand = replace(demand_of(pool), starts=False)
    return any(refusal(Room(load, guarantees), demand) is None for load in loads)
