"""The shape of report.json. Durations in ms unless the name says otherwise, bytes in bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtests.invariants import Invariants
from loadtests.plan import Recipe
from loadtests.probe import Probe
from loadtests.settings import Settings
from loadtests.stats import Distribution
from loadtests.traffic import Bytes, Headline
from loadtests.verdict import Check, Criteria

REPORT_VERSION = 1


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one architecture's arrivals.

    sessions: arrivals. live: those that had their desktop. failures: those with any trouble;
    they are in no percentile. browsers: those that opened the display themselves, without an
    endpoint and thus without its steps after the first picture.
    phases: only what occurred. stack: phase → mean ms, whose sum is the mean total; residual_ms
    is what is missing. real_stack: the same with simulated phases at speed 1 and image transfers
    at real size, alone on 1 Gbit/s; a model, not a measurement.
    """

    title: str
    sessions: int
    live: int
    failures: int
    queued: int
    browsers: int
    phases: dict[str, Distribution]
    start_to_live: Distribution
    stack: dict[str, float]
    residual_ms: float
    real_stack: dict[str, float]
    bytes: Bytes
    curve: tuple[tuple[float, float], ...]


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True):
    """Arrivals that ended with one error class in one step; times in s after the zero."""

    error: str
    step: str
    architecture: str
    count: int
    first_s: float
    last_s: float


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one name, from their own start. failures: each try counts."""

    name: str
    count: int
    failures: int
    bytes_down: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """How well the generator kept to its plan. CPU in % of one core, worst process."""

    workers: int
    planned: int
    recorded: int
    dropped: int
    late: int
    lag_ms: dict[str, float]
    cpu_p95_pct: float
    cpu_max_pct: float
    requests: int
    retries: int
    requests_per_s: float
    requests_per_s_peak: float
    peak_of_ceiling_pct: float | None


class LittlesLaw(msgspec.Struct, frozen=True, kw_only=True):
    """l_sampled: mean number in the system, counted each second. l_computed: arrival rate times
    mean stay, from the records. Where the two differ, the instruments are wrong."""

    l_sampled: float
    l_computed: float
    samples: int
    difference_pct: float | None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and the broker during the run. `*_pct` of all CPUs; None: not known."""

    busy_mean_pct: float
    busy_p95_pct: float
    steal_max_pct: float
    generator_mean_pct: float
    broker_cpu_ms_per_session: float | None
    broker_cpu_mean_pct: float | None
    broker_rss_max_bytes: float | None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Once a second after the zero; all lists are of one length."""

    at_s: tuple[float, ...]
    arrived: tuple[int, ...]
    waiting: tuple[int, ...]
    live: tuple[int, ...]
    failed: tuple[int, ...]
    lag_max_ms: tuple[float, ...]
    cpu_pct: tuple[float, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that report.html shows. `verdict`: pass, fail or invalid."""

    verdict: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    checks: tuple[Check, ...]
    seed: int
    plan_sha256: str
    recipe: Recipe
    settings: Settings
    speed: float
    bytes_scale: float
    started_at: str
    ended_at: str
    duration_s: float
    architectures: dict[str, Architecture]
    invariants: Invariants
    errors: tuple[ErrorRow, ...]
    requests: tuple[RequestRow, ...]
    generator: Generator
    little: LittlesLaw
    surroundings: Surroundings
    series: Series
    break_even: Headline
    probe: Probe
    criteria: Criteria
    command: str
    product: str
    version: int = REPORT_VERSION


def encode_report(report: Report) -> bytes:
    """JSON, indented for reading, in UTF-8."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def decode_report(body: bytes) -> Report:
    """Raises msgspec.DecodeError where `body` is not a report of this version."""
    report = msgspec.json.decode(body, type=Report)
    if report.version != REPORT_VERSION:
        raise msgspec.ValidationError(f"report version {report.version} is not known here")
    return report


def schema() -> dict[str, Any]:
    """The JSON Schema of report.json."""
    return msgspec.json.schema(Report)
