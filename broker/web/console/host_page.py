"""One host: how full it is, what runs there and what it still waits for, how it is just now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from broker.domain.errors import EngineError, NotFoundError, TriviumError
from broker.domain.model import Desktop, DesktopState, Host, HostState, Pool
from broker.domain.placement import HostLoad
from broker.domain.planning.breaker import Breaker, BreakerState, state_of, tries
from broker.domain.roles import Permission
from broker.limits import DESKTOPS_PER_HOST_MAX
from broker.web.call import Call
from broker.web.console.render import Pages
from broker.web.console.why import why_of
from broker.web.routes import Route, Surface

_GONE: Final = frozenset({DesktopState.DELETED, DesktopState.FAILED})
_LEAVING: Final = frozenset({HostState.DRAINING, HostState.MAINTENANCE})
_WAITS: Final[Mapping[DesktopState, str]] = {
    DesktopState.ASSIGNED: "in use: moves where the engine can, else leaves at log-off",
    DesktopState.PARKED: "suspended with its session, which its person may still take up",
    DesktopState.PARKING: "being suspended with its session",
    DesktopState.UNPARKING: "being resumed, or started again, for its person",
    DesktopState.SUSPENDED: "suspended: its owner's, or a spare that is cleared away",
    DesktopState.DELETING: "being removed",
}
"""why a desktop is still on a host that is being emptied"""
_COMING: Final = "on its way: moves, or goes, once it is ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One resource: what is given out of `capacity` × `times`. `capacity` 0: not counted."""

    words: str
    unit: str
    used: float
    capacity: float
    times: float

    @property
    def limit(self) -> float:
        return self.capacity * self.times

    @property
    def is_memory(self) -> bool:
        return self.unit == "MiB"


def rooms(load: HostLoad) -> Iterator[Room]:
    host, used = load.host, load.used
    capacity, settings = host.capacity, host.settings
    yield Room(
        words="Virtual CPUs", unit="", used=used.cpus, capacity=capacity.cpus,
        times=host.overcommit_cpu,
    )  # fmt: skip
    yield Room(
        words="Memory", unit="MiB", used=used.memory_mib, capacity=capacity.memory_mib,
        times=settings.overcommit_memory,
    )  # fmt: skip
    yield Room(
        words="Disk", unit="MiB", used=used.disk_mib, capacity=capacity.disk_mib,
        times=settings.overcommit_disk,
    )  # fmt: skip
    yield Room(
        words="Disk operations a second", unit="", used=used.disk_iops,
        capacity=capacity.disk_iops, times=settings.overcommit_disk,
    )  # fmt: skip
    yield Room(
        words="Network, Mbit/s", unit="", used=used.network_mbit,
        capacity=capacity.network_mbit, times=settings.overcommit_network,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """One pool of which no machines, or one for a trial, are made here."""

    pool: Pool
    breaker: Breaker
    state: BreakerState
    trying: bool


async def paused_at(call: Call, host: Host) -> list[Paused]:
    """The pools whose circuit breaker is not closed here, by title."""
    services, now = call.web.services, call.web.services.kit.clock.now()
    pools = {pool.id: pool for pool in await services.pools.all()}
    found = [
        Paused(pool=pools[pool_id], breaker=one, state=state_of(one, now), trying=tries(one, now))
        for (pool_id, host_id), one in (await services.breakers.all()).items()
        if host_id == host.id and pool_id in pools
    ]
    shown = (one for one in found if one.state is not BreakerState.CLOSED)
    return sorted(shown, key=lambda one: (one.pool.title, one.pool.name))


def what_waits(host: Host, here: tuple[Desktop, ...]) -> list[tuple[str, int]]:
    """Why desktops are still on a host that is being emptied, and how many for each reason."""
    if host.state not in _LEAVING:
        return []
    reasons = Counter(
        "on its way to another host"
        if one.moving_to not in {None, host.id}
        else _WAITS.get(one.state, _COMING if one.state is not DesktopState.READY else _idle(one))
        for one in here
    )
    return reasons.most_common()


def _idle(desktop: Desktop) -> str:
    if desktop.owner_id is not None:
        return "its owner's: moves where the engine can"
    return "idle: moves, or goes, at one of the next looks"


class HostPage:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def host(self, call: Call) -> web.StreamResponse:
        services, load = call.web.services, await _load(call)
        host = load.host
        states = [state for state in DesktopState if state not in _GONE]
        here = await services.kit.store.desktops.on_host(host.id, states, DESKTOPS_PER_HOST_MAX)
        context = {
            "load": load,
            "rooms": [one for one in rooms(load) if one.capacity],
            "uncounted": [one.words for one in rooms(load) if not one.capacity],
            "states": sorted(Counter(one.state.value for one in here).items()),
            "total": len(here),
            "waits": what_waits(host, here),
            "leaving": host.state in _LEAVING,
            "paused": await paused_at(call, host),
            "silent": (await services.host_silence.known()).get(host.id),
            "lost_after_s": (await services.site.settings()).lost_after_s,
            "why": await why_of(call, "host_id", host.id),
        }
        return self._pages.answer(
            call, "host.html", context, here="/hosts", parts=("standing",), topics="host,desktop"
        )

    async def condition(self, call: Call) -> web.StreamResponse:
        """A part of the page, asked for after it: the host may take its time."""
        load, found, problem = await _load(call), None, ""
        try:
            _, found = await call.web.services.host_checks.condition(load.host.id)
        except (EngineError, NotFoundError) as error:
            problem = _said(error)
        context = {"host": load.host, "found": found, "problem": problem}
        return self._pages.answer(
            call, "host_condition.html", context, here="/hosts", parts=("condition",)
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/hosts/{id}",
                handler=self.host,
                need=Permission.READ,
                summary="One host",
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/hosts/{id}/condition",
                handler=self.condition,
                need=Permission.READ,
                summary="How a host is just now",
                surface=Surface.PAGE,
            ),
        )


def _said(error: TriviumError) -> str:
    return error.detail or error.title


async def _load(call: Call) -> HostLoad:
    ref = call.part("id")
    for load in await call.web.services.kit.store.directory.host_loads():
        if ref in {load.host.id, load.host.name}:
            return load
    raise NotFoundError
