"""The verdict: is the measurement valid, and does what it shows pass?

A check of kind `validity` that fails makes the campaign `invalid`: its figures say nothing about
the broker. One of kind `acceptance` makes it `fail`. A `note` is told and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Criteria(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every threshold of the verdict. Shares are of 1.

    lag_p99_max_ms: later than this, and the generator was not there when people came.
    generator_cpu_max_pct: of one core, p95 over the run's seconds, worst process.
    little_difference_max_pct: between the two counts of people in the system.
    Sources of the shares: Login VSI calls a test clean with at most 1 % stuck sessions, Login
    Enterprise valid with all sign-ins; one in a hundred is left for a shared machine.
    """

    lag_p99_max_ms: float = 1000.0
    generator_cpu_max_pct: float = 90.0
    little_difference_max_pct: float = 10.0
    little_samples_min: int = 30
    sign_in_success_min: float = 0.99
    session_success_min: float = 0.99
    stuck_share_max: float = 0.01
    late_share_note: float = 0.05
    steal_note_pct: float = 5.0
    busy_note_pct: float = 95.0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One question, its answer and what was wanted, in words for a person."""

    name: str
    kind: str
    ok: bool
    found: str
    wanted: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the verdict is made from. Shares of 1, times in ms, CPU in % of one core."""

    planned: int
    recorded: int
    dropped: int
    late: int
    interrupted: int
    harness_errors: int
    lag_p99_ms: float
    generator_cpu_p95_pct: float
    little_difference_pct: float | None
    little_samples: int
    broker_records: bool
    signed_in: int
    failures: int
    stuck: int
    double_assignments: int
    lost_sessions: int
    steal_max_pct: float
    busy_p95_pct: float
    requests_tried_again: int


def judge(facts: Facts, criteria: Criteria) -> tuple[Check, ...]:
    """Every check, in the order in which a report lists them."""
    return (*_validity(facts, criteria), *_acceptance(facts, criteria), *_notes(facts, criteria))


def verdict_of(checks: Sequence[Check]) -> tuple[str, tuple[str, ...]]:
    """(`pass`, `fail` or `invalid`; why it is not a pass, validity first)."""
    failed = [check for check in checks if not check.ok and check.kind != "note"]
    failed.sort(key=lambda check: check.kind != "validity")
    reasons = tuple(f"{check.name}: {check.found}, wanted {check.wanted}" for check in failed)
    if not failed:
        return "pass", reasons
    return ("invalid" if failed[0].kind == "validity" else "fail"), reasons


def notes_of(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(
        f"{check.name}: {check.found}, usual {check.wanted}"
        for check in checks
        if check.kind == "note" and not check.ok
    )


def _validity(facts: Facts, criteria: Criteria) -> list[Check]:
    checks = [
        _check(
            "Arrivals recorded",
            "validity",
            facts.recorded == facts.planned,
            f"{facts.recorded} of {facts.planned}",
            "all",
        ),
        _check("Arrivals dropped", "validity", facts.dropped == 0, f"{facts.dropped}", "0"),
        _check(
            "Harness errors and interruptions",
            "validity",
            facts.harness_errors + facts.interrupted == 0,
            f"{facts.harness_errors + facts.interrupted}",
            "0",
        ),
        _check(
            "Start after the due instant, p99",
            "validity",
            facts.lag_p99_ms <= criteria.lag_p99_max_ms,
            f"{facts.lag_p99_ms:.1f} ms",
            f"at most {criteria.lag_p99_max_ms:g} ms",
        ),
        _check(
            "Generator CPU, p95 of one core",
            "validity",
            facts.generator_cpu_p95_pct <= criteria.generator_cpu_max_pct,
            f"{facts.generator_cpu_p95_pct:.0f} %",
            f"at most {criteria.generator_cpu_max_pct:g} %",
        ),
        _check(
            "Broker's records read",
            "validity",
            facts.broker_records,
            "yes" if facts.broker_records else "no",
            "yes",
        ),
    ]
    if (
        facts.little_difference_pct is not None
        and facts.little_samples >= criteria.little_samples_min
    ):
        checks.append(
            _check(
                "Little's law, difference",
                "validity",
                abs(facts.little_difference_pct) <= criteria.little_difference_max_pct,
                f"{facts.little_difference_pct:+.1f} %",
                f"within {criteria.little_difference_max_pct:g} %",
            )
        )
    return checks


def _acceptance(facts: Facts, criteria: Criteria) -> list[Check]:
    came = max(facts.recorded - facts.dropped, 1)
    signed_in, good = facts.signed_in / came, 1 - (facts.failures - facts.dropped) / came
    return [
        _check(
            "Double assignments",
            "acceptance",
            facts.double_assignments == 0,
            f"{facts.double_assignments}",
            "0",
        ),
        _check(
            "Lost sessions", "acceptance", facts.lost_sessions == 0, f"{facts.lost_sessions}", "0"
        ),
        _check(
            "Sign-ins that succeeded",
            "acceptance",
            signed_in >= criteria.sign_in_success_min,
            f"{100 * signed_in:.1f} %",
            f"at least {100 * criteria.sign_in_success_min:.0f} %",
        ),
        _check(
            "Sessions without trouble",
            "acceptance",
            good >= criteria.session_success_min,
            f"{100 * good:.1f} %",
            f"at least {100 * criteria.session_success_min:.0f} %",
        ),
        _check(
            "Stuck sessions",
            "acceptance",
            facts.stuck / came <= criteria.stuck_share_max,
            f"{facts.stuck} ({100 * facts.stuck / came:.1f} %)",
            f"at most {100 * criteria.stuck_share_max:.0f} %",
        ),
    ]


def _notes(facts: Facts, criteria: Criteria) -> list[Check]:
    late = facts.late / max(facts.recorded, 1)
    return [
        _check(
            "Arrivals started late",
            "note",
            late <= criteria.late_share_note,
            f"{facts.late} ({100 * late:.1f} %)",
            f"at most {100 * criteria.late_share_note:.0f} %",
        ),
        _check(
            "CPU taken by other guests (steal), most",
            "note",
            facts.steal_max_pct <= criteria.steal_note_pct,
            f"{facts.steal_max_pct:.1f} %",
            f"at most {criteria.steal_note_pct:g} %",
        ),
        _check(
            "Machine busy, p95 of all CPUs",
            "note",
            facts.busy_p95_pct <= criteria.busy_note_pct,
            f"{facts.busy_p95_pct:.0f} %",
            f"at most {criteria.busy_note_pct:g} %",
        ),
        _check(
            "Requests tried again",
            "note",
            facts.requests_tried_again == 0,
            f"{facts.requests_tried_again}",
            "0",
        ),
    ]


def _check(name: str, kind: str, ok: bool, found: str, wanted: str) -> Check:  # noqa: FBT001
    return Check(name=name, kind=kind, ok=ok, found=found, wanted=wanted)
