"""How the generator and its machine behaved: lag, CPU, Little's law, counts over time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from loadtests.histograms import Histogram
from loadtests.limits import LATE_MS
from loadtests.probe import Probe
from loadtests.records import GeneratorSecond, Seen
from loadtests.result import Generator, LittlesLaw, Series, Surroundings
from loadtests.stats import percentile
from loadtests.watch import MachineSecond


def generator_of(
    seen: Seen, planned: int, begun_ms: float, ended_ms: float, probe: Probe
) -> Generator:
    lag = Histogram()
    for end in seen.ends:
        lag.merge(end.lag)
    cpu = sorted(second.cpu_pct for second in seen.seconds)
    requests = sum(totals.count for totals in seen.requests)
    peak = max(_rates(seen), default=0.0)
    ceiling = probe.ceiling.requests_per_s if probe.ceiling is not None else 0.0
    return Generator(
        workers=len(seen.ends),
        planned=planned,
        recorded=len(seen.sessions),
        dropped=sum(1 for record in seen.sessions if record.dropped),
        late=sum(1 for record in seen.sessions if record.lag_ms > LATE_MS),
        lag_ms=lag.percentiles_ms(),
        cpu_p95_pct=percentile(cpu, 95) if cpu else 0.0,
        cpu_max_pct=cpu[-1] if cpu else 0.0,
        requests=requests,
        retries=sum(record.retries for record in seen.sessions),
        requests_per_s=round(requests / max((ended_ms - begun_ms) / 1000, 0.001), 2),
        requests_per_s_peak=round(peak, 2),
        peak_of_ceiling_pct=round(100 * peak / ceiling, 2) if ceiling else None,
    )


def little_of(seen: Seen, begun_ms: float, ended_ms: float) -> LittlesLaw:
    """L = X·R over the whole run: the sampled count against the records' stays."""
    length_ms = max(ended_ms - begun_ms, 1.0)
    area = 0.0
    for worker in {second.worker for second in seen.seconds}:
        mine = [second for second in seen.seconds if second.worker == worker]
        points = [(begun_ms, 0), *((s.at_ms, s.in_system) for s in mine), (ended_ms, 0)]
        points.sort()
        area += math.fsum(
            (later - at) * (count + after) / 2
            for (at, count), (later, after) in itertools.pairwise(points)
        )
    stays = math.fsum(record.stay_ms for record in seen.sessions)
    return LittlesLaw(
        l_sampled=round(area / length_ms, 3),
        l_computed=round(stays / length_ms, 3),
        samples=len(seen.seconds),
        difference_pct=round(100 * (area - stays) / stays, 2) if stays else None,
    )


def surroundings_of(machine: Sequence[MachineSecond], live: int) -> Surroundings:
    busy = sorted(second.busy_pct for second in machine)
    used = [(s.at_ms, s.broker_cpu_s) for s in machine if s.broker_cpu_s is not None]
    memory = [s.broker_rss_bytes for s in machine if s.broker_rss_bytes]
    per_session = mean = None
    if len(used) > 1:
        spent_s = used[-1][1] - used[0][1]
        if spent_s >= 0:
            mean = round(100 * spent_s / ((used[-1][0] - used[0][0]) / 1000), 2)
            per_session = round(1000 * spent_s / live, 3) if live else None
    return Surroundings(
        busy_mean_pct=_mean(busy),
        busy_p95_pct=percentile(busy, 95) if busy else 0.0,
        steal_max_pct=max((second.steal_pct for second in machine), default=0.0),
        generator_mean_pct=_mean([second.generator_pct for second in machine]),
        broker_cpu_ms_per_session=per_session,
        broker_cpu_mean_pct=mean,
        broker_rss_max_bytes=max(memory, default=None),
    )


def series_of(seen: Seen, begun_ms: float) -> Series:
    """The samples of all processes, added up second by second; the worst lag and CPU of any."""
    bins = _bins(seen, begun_ms)
    return Series(
        at_s=tuple(float(at) for at, _ in bins),
        arrived=tuple(sum(s.arrived for s in row) for _, row in bins),
        waiting=tuple(sum(s.waiting for s in row) for _, row in bins),
        live=tuple(sum(s.live for s in row) for _, row in bins),
        failed=tuple(sum(s.failed + s.dropped for s in row) for _, row in bins),
        lag_max_ms=tuple(max(s.lag_max_ms for s in row) for _, row in bins),
        cpu_pct=tuple(max(s.cpu_pct for s in row) for _, row in bins),
    )


def _bins(seen: Seen, begun_ms: float) -> list[tuple[int, list[GeneratorSecond]]]:
    """For each second the latest sample of each process that has one by then."""
    by_second: dict[int, list[GeneratorSecond]] = {}
    for sample in seen.seconds:
        by_second.setdefault(round((sample.at_ms - begun_ms) / 1000), []).append(sample)
    latest: dict[int, GeneratorSecond] = {}
    bins = []
    for at in sorted(by_second):
        latest |= {sample.worker: sample for sample in by_second[at]}
        bins.append((at, list(latest.values())))
    return bins


def _rates(seen: Seen) -> list[float]:
    """Requests per second between samples, all processes added."""
    bins = _bins(seen, min((s.at_ms for s in seen.seconds), default=0.0))
    counts = [(at, sum(sample.requests for sample in row)) for at, row in bins]
    return [
        (after - before) / (later - at)
        for (at, before), (later, after) in itertools.pairwise(counts)
    ]


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), 2) if values else 0.0
