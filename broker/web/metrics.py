"""What Prometheus reads: one table of metrics with unit and help, made when it is asked for.

Counting costs the requests next to nothing: plain dictionaries, no locks, no label lookups.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from broker.domain.errors import UnavailableError
from broker.ports import Displays, Overview
from broker.services.bundle import Services
from broker.services.tally import LATENCY_BOUNDS_S
from broker.web.context import Running
from broker.web.display_metrics import display_metrics
from broker.web.histograms import cumulated
from broker.web.routes import Route
from broker.web.work_metrics import work_metrics

LAG_LOOK_S: Final = 0.5
"""between two looks at how late the event loop is"""
LAG_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""upper bounds of the lag's buckets, in seconds"""
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PATCH", "PUT", "DELETE"})
_NO_ROUTE: Final = "none"


class RequestCounts:
    """Requests by route template, method and class of status (2xx, 4xx …)."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()

    def note(self, route: Route | None, method: str, status: int) -> None:
        # methods are whatever a stranger sends; labels must not grow with them
        known = method if method in _METHODS else "other"
        template = route.path if route is not None else _NO_ROUTE
        self.counts[template, known, status // 100] += 1


class LoopLag:
    """How late the event loop serves its timers: its own measure of being overloaded."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(LAG_BOUNDS_S) + 1)
        self.sum_s = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(LAG_LOOK_S, self._look, loop.time() + LAG_LOOK_S)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _look(self, due_s: float) -> None:
        loop = asyncio.get_running_loop()
        lag_s = max(0.0, loop.time() - due_s)
        place = next((i for i, top in enumerate(LAG_BOUNDS_S) if lag_s <= top), -1)
        self.buckets[place] += 1
        self.sum_s += lag_s
        self.start()


class _Snapshot(Collector):
    """What was gathered for one answer."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


class Metrics:
    """`agents_connected` and the counts are this process's; states are the whole store's."""

    def __init__(
        self,
        services: Services,
        displays: Displays,
        running: Running,
        counts: RequestCounts,
        lag: LoopLag,
    ) -> None:
        self._services = services
        self._displays = displays
        self._running = running
        self._counts = counts
        self._lag = lag
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    async def render(self) -> bytes:
        """The text form that Prometheus scrapes."""
        registry = CollectorRegistry()
        registry.register(_Snapshot(await self._gather()))
        return generate_latest(registry) + generate_latest(self._process)

    async def _gather(self) -> list[Metric]:
        try:
            overview = await self._services.kit.store.overview()
        except UnavailableError:
            overview = None
        found = [
            _gauge("trivium_store_up", "Whether the store answers", float(overview is not None)),
            _gauge("trivium_draining", "Whether this process stops", float(self._running.draining)),
            _gauge(
                "trivium_agents_connected",
                "Endpoints connected to this process",
                self._services.endpoints.connected_here,
            ),
            _gauge(
                "trivium_event_streams",
                "Event streams open in this process",
                len(self._running.streams),
            ),
            self._requests(),
            self._outcomes(),
            self._latency(),
            self._loop_lag(),
            *display_metrics(self._services.measures, len(self._displays.open_sessions())),
            *work_metrics(self._services),
        ]
        if overview is not None:
            found += _states(overview)
        return found

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "trivium_http_requests", "Requests answered", labels=("route", "method", "status")
        )
        for (route, method, kind), count in sorted(self._counts.counts.items()):
            family.add_metric((route, method, f"{kind}xx"), count)
        return family

    def _outcomes(self) -> Metric:
        family = CounterMetricFamily(
            "trivium_outcomes",
            "What became of sessions, claims and agents in this process",
            labels=("outcome", "architecture"),
        )
        for (what, architecture), count in sorted(self._services.tally.totals.items()):
            family.add_metric((what, str(architecture)), count)
        return family

    def _latency(self) -> Metric:
        family = HistogramMetricFamily(
            "trivium_step_seconds",
            "How long the steps of a session took, in this process",
            labels=("step", "architecture"),
        )
        tally = self._services.tally
        for (what, architecture), counts in sorted(tally.latency.items()):
            family.add_metric(
                (what, str(architecture)),
                cumulated(LATENCY_BOUNDS_S, counts),
                tally.latency_sum_s[what, architecture],
            )
        return family

    def _loop_lag(self) -> Metric:
        family = HistogramMetricFamily(
            "trivium_event_loop_lag_seconds", "How late the event loop serves its timers"
        )
        family.add_metric((), cumulated(LAG_BOUNDS_S, self._lag.buckets), self._lag.sum_s)
        return family


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)


def _states(overview: Overview) -> list[Metric]:
    found: list[Metric] = []
    tables: Mapping[str, tuple[str, str, Mapping[tuple[str, str], int]]] = {
        "trivium_desktops": ("Desktops by state", "architecture", overview.desktops),
        "trivium_sessions": ("Sessions by state", "architecture", overview.sessions),
        "trivium_endpoints": ("Endpoints by state", "kind", overview.endpoints),
    }
    for name, (says, label, counts) in tables.items():
        family = GaugeMetricFamily(name, says, labels=(label, "state"))
        for (first, state), count in sorted(counts.items()):
            family.add_metric((str(first), str(state)), count)
        found.append(family)
    ended = CounterMetricFamily(
        "trivium_sessions_over", "Sessions that are over, ever", labels=("architecture", "state")
    )
    for (architecture, state), count in sorted(overview.ended_total.items()):
        ended.add_metric((str(architecture), str(state)), count)
    found.append(ended)
    return found
