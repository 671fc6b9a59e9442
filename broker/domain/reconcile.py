"""What has to be done now: a pure plan from a snapshot.

Keeps warm spares, makes machines for people who wait, clears failed ones, and gives every row
whose deadline has passed its next step. Bounded: at most RECONCILE_BATCH_MAX rows of a kind are
looked at, and a host starts no more machines than its `start_limit` at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Host,
    Instant,
    Job,
    Pool,
    Resources,
    Session,
)
from broker.domain.placement import HostLoad, choose

_USED = (DesktopState.ASSIGNED,)
_COMING = (
    DesktopState.PLANNED,
    DesktopState.CREATING,
    DesktopState.STARTING,
    DesktopState.RESETTING,
)
_TAKES_ROOM = (*_USED, *_COMING, DesktopState.READY, DesktopState.FAILED, DesktopState.DELETING)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the planner sees. `counts`: (pool_id, desktop state) -> how many."""

    now: Instant
    pools: tuple[Pool, ...]
    counts: Mapping[tuple[str, str], int]
    waiting: Mapping[str, int]
    hosts: tuple[HostLoad, ...]
    expired_sessions: tuple[Session, ...] = ()
    expired_desktops: tuple[Desktop, ...] = ()
    expired_jobs: tuple[Job, ...] = ()
    failed_desktops: tuple[Desktop, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDesktop:
    """A machine for a pool, on a host."""

    pool: Pool
    host_id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """A pool wants a machine and no host fits."""

    pool: Pool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearDesktop:
    """A failed or surplus machine goes."""

    desktop: Desktop
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshenDesktop:
    """A failed desktop of a fat endpoint is asked to be made fresh again."""

    desktop: Desktop


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireDesktop:
    desktop: Desktop


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireSession:
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireJob:
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeQueue:
    pool: Pool


Command: TypeAlias = (
    MakeDesktop
    | NoRoom
    | ClearDesktop
    | FreshenDesktop
    | ExpireDesktop
    | ExpireSession
    | ExpireJob
    | ServeQueue
)


def wanted(pool: Pool, *, used: int, waiting: int) -> int:
    """How many machines a pool should have: those in use, one for each who waits, the spares."""
    if not pool.enabled:
        return used
    return min(pool.size_max, used + waiting + pool.spares_min)


def _count(view: View, pool: Pool, states: tuple[DesktopState, ...]) -> int:
    return sum(view.counts.get((pool.id, state), 0) for state in states)


def _loaded(load: HostLoad, need: Resources) -> HostLoad:
    """The host with one more machine on its way, so that a burst does not land on one host."""
    used = Resources(
        cpus=load.used.cpus + need.cpus, memory_mib=load.used.memory_mib + need.memory_mib
    )
    return replace(load, used=used, starting=load.starting + 1)


def _refill(view: View, per_pool_max: int) -> list[Command]:
    """Machines to make, pool by pool in turn so that none starves another."""
    commands: list[Command] = []
    hosts: dict[str, HostLoad] = {load.host.id: load for load in view.hosts}
    missing: dict[str, int] = {}
    pools = {pool.id: pool for pool in view.pools if pool.architecture is Architecture.VDI}
    for pool in pools.values():
        used = _count(view, pool, _USED)
        there = used + _count(view, pool, _COMING) + view.counts.get((pool.id, "ready"), 0)
        lacking = wanted(pool, used=used, waiting=view.waiting.get(pool.id, 0)) - there
        room = pool.size_max - _count(view, pool, _TAKES_ROOM)
        missing[pool.id] = max(0, min(lacking, room, per_pool_max))
    while any(missing.values()):
        for pool_id in [one for one, count in missing.items() if count]:
            pool = pools[pool_id]
            choice = choose(tuple(hosts.values()), pool.resources)
            if choice.host_id is None:
                missing[pool_id] = 0
                commands.append(NoRoom(pool=pool, why=choice.why))
                continue
            missing[pool_id] -= 1
            hosts[choice.host_id] = _loaded(hosts[choice.host_id], pool.resources)
            commands.append(MakeDesktop(pool=pool, host_id=choice.host_id, why=choice.why))
    return commands


def _clear(view: View) -> list[Command]:
    commands: list[Command] = []
    for desktop in view.failed_desktops:
        if desktop.endpoint_id is not None:
            commands.append(FreshenDesktop(desktop=desktop))
        else:
            commands.append(ClearDesktop(desktop=desktop, why=f"it failed: {desktop.note}"))
    return commands


def plan(view: View, *, per_pool_max: int) -> tuple[Command, ...]:
    """Everything to do now, deadlines first, then queues, clearing and refilling."""
    commands: list[Command] = [ExpireJob(job=job) for job in view.expired_jobs]
    commands += [ExpireDesktop(desktop=desktop) for desktop in view.expired_desktops]
    commands += [ExpireSession(session=session) for session in view.expired_sessions]
    commands += [
        ServeQueue(pool=pool)
        for pool in view.pools
        if view.waiting.get(pool.id, 0) and view.counts.get((pool.id, "ready"), 0)
    ]
    commands += _clear(view)
    commands += _refill(view, per_pool_max)
    return tuple(commands)


def host_of(hosts: tuple[HostLoad, ...], host_id: str) -> Host | None:
    return next((load.host for load in hosts if load.host.id == host_id), None)
