"""From what was seen to the report: pure, so that anybody can compute it again from raw data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from loadtests.calibration import Calibration
from loadtests.cast import Scale
from loadtests.collect import BrokerSession
from loadtests.evidence import Evidence
from loadtests.generator import generator_of, little_of, series_of, surroundings_of
from loadtests.histograms import Histogram
from loadtests.invariants import Invariants, check_invariants
from loadtests.limits import ARCHITECTURES, ERRORS_SHOWN_MAX
from loadtests.phases import ARCHITECTURE_TITLES, ENDPOINT, HANDOVER, Phase
from loadtests.records import HARNESS, INTERRUPTED, STUCK, Seen, SessionRecord, phase_ms
from loadtests.result import (
    Architecture,
    ErrorRow,
    Generator,
    LittlesLaw,
    Report,
    RequestRow,
    Surroundings,
)
from loadtests.stats import distribution, percentile_curve
from loadtests.traffic import bytes_of, headline
from loadtests.verdict import Criteria, Facts, judge, notes_of, verdict_of


def analyse(evidence: Evidence, calibration: Calibration, criteria: Criteria) -> Report:
    """The report of a campaign. Every figure is computed here from `evidence`."""
    seen, scale = evidence.seen, evidence.scale
    known = {session.id: session for session in evidence.broker_sessions or ()}
    architectures = {
        name: _architecture(
            name,
            [record for record in seen.sessions if record.architecture == name],
            known,
            evidence,
            calibration,
        )
        for name in ARCHITECTURES
    }
    begun_ms = min((end.begun_at_ms for end in seen.ends), default=_first_due_ms(seen))
    ended_ms = max((end.ended_at_ms for end in seen.ends), default=begun_ms)
    generator = generator_of(seen, evidence.recipe.sessions, begun_ms, ended_ms, evidence.probe)
    little = little_of(seen, begun_ms, ended_ms)
    live = sum(each.live for each in architectures.values())
    surroundings = surroundings_of(evidence.machine, live)
    invariants = check_invariants(seen.sessions, evidence.broker_sessions)
    facts = _facts(evidence, architectures, generator, little, surroundings, invariants)
    checks = judge(facts, criteria)
    verdict, reasons = verdict_of(checks)
    product = evidence.probe.machine.packages.get("trivium", "")
    return Report(
        verdict=verdict,
        reasons=reasons,
        notes=notes_of(checks),
        checks=checks,
        seed=evidence.recipe.seed,
        plan_sha256=evidence.plan_sha256,
        recipe=evidence.recipe,
        settings=evidence.settings,
        speed=scale.speed,
        bytes_scale=scale.bytes_scale,
        started_at=_stamp(begun_ms),
        ended_at=_stamp(ended_ms),
        duration_s=round((ended_ms - begun_ms) / 1000, 3),
        architectures=architectures,
        invariants=invariants,
        errors=_errors(seen.sessions, begun_ms),
        requests=_requests(seen),
        generator=generator,
        little=little,
        surroundings=surroundings,
        series=series_of(seen, begun_ms),
        break_even=headline(
            architectures["vdi"].bytes, architectures["voi"].bytes, scale, calibration
        ),
        probe=evidence.probe,
        criteria=criteria,
        command=evidence.command,
        product=f"Trivium {product}".strip(),
    )


def _facts(
    evidence: Evidence,
    architectures: Mapping[str, Architecture],
    generator: Generator,
    little: LittlesLaw,
    surroundings: Surroundings,
    invariants: Invariants,
) -> Facts:
    sessions = evidence.seen.sessions
    return Facts(
        planned=evidence.recipe.sessions,
        recorded=len(sessions),
        dropped=generator.dropped,
        late=generator.late,
        interrupted=_count(sessions, INTERRUPTED),
        harness_errors=_count(sessions, HARNESS),
        lag_p99_ms=generator.lag_ms.get("99", 0.0),
        generator_cpu_p95_pct=generator.cpu_p95_pct,
        little_difference_pct=little.difference_pct,
        little_samples=little.samples,
        broker_records=invariants.broker_records,
        signed_in=sum(1 for record in sessions if record.sign_in_ms is not None),
        failures=sum(each.failures for each in architectures.values()),
        stuck=_count(sessions, STUCK),
        double_assignments=invariants.double_assignments,
        lost_sessions=invariants.lost_sessions,
        steal_max_pct=surroundings.steal_max_pct,
        busy_p95_pct=surroundings.busy_p95_pct,
        requests_tried_again=generator.retries,
    )


def phase_histograms(sessions: Iterable[SessionRecord]) -> dict[str, dict[str, str]]:
    """architecture → phase → HDR histogram (V2, Base64), of arrivals without trouble."""
    found: dict[str, dict[str, Histogram]] = {}
    for record in sessions:
        if record.trouble is None:
            phases = found.setdefault(record.architecture, {})
            for name, took_ms in phase_ms(record).items():
                phases.setdefault(name, Histogram()).record(took_ms)
    return {
        architecture: {name: histogram.encode() for name, histogram in sorted(phases.items())}
        for architecture, phases in sorted(found.items())
    }


def phase_values(sessions: Iterable[SessionRecord], architecture: str) -> dict[str, list[float]]:
    """phase → ms of every arrival of `architecture` without trouble, hand-over included."""
    values: dict[str, list[float]] = {}
    for record in sessions:
        if record.architecture != architecture or record.trouble is not None:
            continue
        for name, took_ms in phase_ms(record).items():
            values.setdefault(name, []).append(took_ms)
        if record.deliver_ms is not None:
            values.setdefault(HANDOVER.name, []).append(_handover_ms(record))
    return values


def _architecture(
    name: str,
    records: Sequence[SessionRecord],
    known: dict[str, BrokerSession],
    evidence: Evidence,
    calibration: Calibration,
) -> Architecture:
    good = [record for record in records if record.trouble is None]
    values = phase_values(records, name)
    stack = _stack(name, good)
    totals = values.get("total", [])
    mean_total = math.fsum(totals) / len(totals) if totals else 0.0
    return Architecture(
        title=ARCHITECTURE_TITLES[name],
        sessions=len(records),
        live=sum(1 for record in records if record.live),
        failures=len(records) - len(good),
        queued=sum(1 for record in records if record.queued),
        browsers=sum(1 for record in records if record.endpoint is None),
        phases={
            phase: distribution(found, evidence.recipe.seed) for phase, found in values.items()
        },
        start_to_live=distribution(
            [record.total_ms - record.lag_ms for record in good if record.total_ms is not None],
            evidence.recipe.seed,
        ),
        stack={phase: round(value, 3) for phase, value in stack.items()},
        # adding 0.0 turns a rounded -0.0 into 0.0
        residual_ms=round(mean_total - math.fsum(stack.values()), 3) + 0.0,
        real_stack={
            phase: round(value, 3)
            for phase, value in _real_stack(name, good, evidence.scale, calibration).items()
        },
        bytes=bytes_of(records, known, evidence.scale, calibration),
        curve=tuple((round(p, 4), round(ms, 3)) for p, ms in percentile_curve(totals)),
    )


def _stack(name: str, good: Sequence[SessionRecord]) -> dict[str, float]:
    """Mean of each phase over all of `good`; who did not queue counts as 0 there."""
    if not good:
        return {}
    sums = {
        "sign_in": math.fsum(record.sign_in_ms or 0.0 for record in good),
        "assign": math.fsum(record.assign_ms or 0.0 for record in good),
        "queue": math.fsum(record.queue_ms or 0.0 for record in good),
    }
    for phase in ENDPOINT[name]:
        sums[phase.name] = math.fsum(_took(record, phase) for record in good)
    sums[HANDOVER.name] = math.fsum(_handover_ms(record) for record in good)
    return {phase: total / len(good) for phase, total in sums.items()}


def _real_stack(
    name: str, good: Sequence[SessionRecord], scale: Scale, calibration: Calibration
) -> dict[str, float]:
    stack = _stack(name, good)
    bytes_per_ms = calibration["network.gigabit"].mean / 1000
    for phase in ENDPOINT[name] if good else ():
        if not phase.measured:
            stack[phase.name] *= scale.speed
        if phase.image:
            moved = math.fsum(
                each.bytes_down
                for record in good
                for each in record.phases
                if each.name == phase.name
            )
            stack[phase.name] = moved / len(good) * scale.bytes_scale / bytes_per_ms
    return stack


def _took(record: SessionRecord, phase: Phase) -> float:
    return math.fsum(each.took_ms for each in record.phases if each.name == phase.name)


def _handover_ms(record: SessionRecord) -> float:
    steps = math.fsum(_took(record, phase) for phase in ENDPOINT[record.architecture])
    return (record.deliver_ms or 0.0) - steps


def _errors(sessions: Iterable[SessionRecord], begun_ms: float) -> tuple[ErrorRow, ...]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for record in sessions:
        if record.trouble is not None:
            key = (record.trouble.error, record.trouble.step, record.architecture)
            found.setdefault(key, []).append((record.due_at_ms - begun_ms) / 1000)
    rows = [
        ErrorRow(
            error=error,
            step=step,
            architecture=architecture,
            count=len(at_s),
            first_s=round(min(at_s), 3),
            last_s=round(max(at_s), 3),
        )
        for (error, step, architecture), at_s in found.items()
    ]
    rows.sort(key=lambda row: (-row.count, row.error, row.step, row.architecture))
    return tuple(rows[:ERRORS_SHOWN_MAX])


def _requests(seen: Seen) -> tuple[RequestRow, ...]:
    rows = []
    for name in sorted({totals.name for totals in seen.requests}):
        parts = [totals for totals in seen.requests if totals.name == name]
        histogram = Histogram()
        for part in parts:
            histogram.merge(part.histogram)
        p50, p95, p99, most = (
            histogram.percentile_ms(p) if histogram.count else 0.0 for p in (50, 95, 99, 100)
        )
        rows.append(
            RequestRow(
                name=name,
                count=sum(part.count for part in parts),
                failures=sum(part.failures for part in parts),
                bytes_down=sum(part.bytes_down for part in parts),
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                max_ms=most,
            )
        )
    return tuple(rows)


def _count(sessions: Iterable[SessionRecord], error: str) -> int:
    return sum(1 for each in sessions if each.trouble is not None and each.trouble.error == error)


def _first_due_ms(seen: Seen) -> float:
    return min((record.due_at_ms for record in seen.sessions), default=0.0)


def _stamp(at_ms: float) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
