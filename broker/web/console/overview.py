"""The overview: how every architecture stands, live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from broker.domain.lifecycle import SESSION
from broker.domain.model import Architecture, EndpointKind, HostState
from broker.domain.placement import HostLoad
from broker.domain.roles import Permission
from broker.ports import Overview
from broker.services.overview import Standing
from broker.services.tally import Sample
from broker.web.call import Call
from broker.web.console.render import Pages
from broker.web.console.words import PLACES, StateGroup, desktop_groups
from broker.web.params import integer
from broker.web.routes import Route, Surface

_PLOTTED: Final = ("active", "waiting", "ready")
_AFTER_MAX: Final = 2**53
_SHOWN_APART: Final = frozenset({"active", "queued"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureCard:
    """One architecture as its card shows it. Rates are per minute."""

    architecture: Architecture
    place: str
    active: int
    waiting: int
    ready: int
    groups: tuple[StateGroup, ...]
    desktops_total: int
    sessions_live: int
    other_sessions: tuple[tuple[str, int], ...]
    connects_per_min: float
    live_per_min: float
    failures_per_min: float


def card(architecture: Architecture, standing: Standing) -> ArchitectureCard:
    live = {
        state: count for state, count in standing.sessions.items() if state not in SESSION.terminal
    }
    return ArchitectureCard(
        architecture=architecture,
        place=PLACES[architecture],
        active=live.get("active", 0),
        waiting=standing.waiting,
        ready=standing.desktops.get("ready", 0),
        groups=desktop_groups(standing.desktops),
        desktops_total=sum(standing.desktops.values()),
        sessions_live=sum(live.values()),
        other_sessions=tuple(
            (state, count) for state, count in sorted(live.items()) if state not in _SHOWN_APART
        ),
        connects_per_min=standing.connects_per_min,
        live_per_min=standing.live_per_min,
        failures_per_min=standing.failures_per_min,
    )


def attention(
    standings: Mapping[str, Standing], loads: Sequence[HostLoad]
) -> tuple[tuple[str, str], ...]:
    """What somebody should look at: (words, address)."""
    found: list[tuple[str, str]] = []
    for name, standing in standings.items():
        failed = standing.desktops.get("failed", 0)
        if failed:
            words = f"{failed} {name.upper()} desktop{'s' if failed > 1 else ''} failed"
            found.append((words, f"/desktops?architecture={name}&state=failed"))
    down = [load.host.name for load in loads if load.host.state is HostState.DOWN]
    if down:
        found.append((f"host{'s' if len(down) > 1 else ''} down: {', '.join(down)}", "/hosts"))
    return tuple(found)


def hosts_summary(loads: Sequence[HostLoad]) -> dict[str, float]:
    """Totals of the hosts that are up; virtual CPUs include what overcommit allows."""
    up = [load for load in loads if load.host.state is HostState.UP]
    return {
        "count": len(loads),
        "up": len(up),
        "cpus": sum(load.host.capacity.cpus * load.host.overcommit_cpu for load in up),
        "used_cpus": sum(load.used.cpus for load in up),
        "memory_mib": sum(load.host.capacity.memory_mib for load in up),
        "used_memory_mib": sum(load.used.memory_mib for load in up),
    }


def endpoints_by_kind(counts: Overview) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    found: list[tuple[str, tuple[tuple[str, int], ...]]] = []
    for kind in EndpointKind:
        states = tuple(
            (state, count)
            for (one, state), count in sorted(counts.endpoints.items())
            if one == kind and count
        )
        if states:
            found.append((kind.value, states))
    return tuple(found)


def columns(samples: Sequence[Sample]) -> dict[str, Any]:
    """The series as columns, which take a third of the bytes of rows."""
    return {
        "at": [sample.at for sample in samples],
        "counts": {
            what: {
                one.value: [sample.counts[one][what] for sample in samples] for one in Architecture
            }
            for what in _PLOTTED
        },
    }


class OverviewPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def overview(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        _, counts, standings = await services.overviews.now()
        loads = await services.kit.store.directory.host_loads()
        context = {
            "architectures": [card(Architecture(one), standings[one]) for one in standings],
            "attention": attention(standings, loads),
            "endpoints": endpoints_by_kind(counts),
            "hosts": hosts_summary(loads),
        }
        return self._pages.answer(
            call,
            "overview.html",
            context,
            here="/overview",
            parts=("standing", "around"),
            topics="overview,endpoint,pool,host",
        )

    async def series(self, call: Call) -> web.StreamResponse:
        """Samples later than `after` (ms since the epoch), as JSON for the plots."""
        after = call.query.get("after", 0)
        samples = [one for one in call.web.services.overviews.series if one.at > after]
        return call.answer(columns(samples))

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/overview",
                handler=self.overview,
                need=Permission.READ,
                summary="How everything stands",
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/overview/series",
                handler=self.series,
                need=Permission.READ,
                summary="The plots' numbers",
                query=(integer("after", 0, _AFTER_MAX, "samples later than this, ms"),),
                surface=Surface.PAGE,
            ),
        )
