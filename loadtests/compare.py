"""Holds one campaign against another: ratios with their intervals, and a gate.

The gate takes counts, invariants, bytes and CPU per session, which a shared machine hardly
moves. Wall times are shown with their interval and decide nothing: on such a machine the same
code differs by more than any change worth finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from loadtests.analyse import phase_values
from loadtests.evidence import REPORT_JSON, SESSIONS_FILE, FolderError
from loadtests.limits import ARCHITECTURES
from loadtests.phases import phases_of
from loadtests.records import read_sessions
from loadtests.result import Report, decode_report
from loadtests.stats import percentile, ratio_interval


class Bands(msgspec.Struct, frozen=True, kw_only=True):
    """How far B may lie from A. cpu_ratio_max: broker CPU per session; 1.5 is what one machine
    shows for the same code under other people's load. bytes_ratio: either way, per session.
    failure_share_more: of 1, added to A's share."""

    cpu_ratio_max: float = 1.5
    bytes_ratio: float = 1.1
    failure_share_more: float = 0.01


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both. `interval`: 95 %, of the ratio, where single values are known.
    `ok` None: shown, but no part of the gate."""

    name: str
    unit: str
    before: float | None
    after: float | None
    ratio: float | None
    interval: tuple[float, float] | None
    ok: bool | None
    wanted: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`same_plan`: both carried out the same plan, else only rates may be compared."""

    same_plan: bool
    rows: tuple[Row, ...]
    ok: bool


def compare(before: Path, after: Path, bands: Bands) -> Comparison:
    """Holds the campaign in folder `after` against the one in `before`.

    Raises:
        FolderError: a folder holds no report.
    """
    a, b = _read(before), _read(after)
    rows = (*_gate(a, b, bands), *_latency(before, after))
    return Comparison(
        same_plan=a.plan_sha256 == b.plan_sha256,
        rows=rows,
        ok=all(row.ok is not False for row in rows),
    )


def _read(folder: Path) -> Report:
    try:
        return decode_report((folder / REPORT_JSON).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise FolderError(f"{folder.name} holds no report: {error}") from error


def _gate(a: Report, b: Report, bands: Bands) -> Iterator[Row]:
    for name in ("double_assignments", "lost_sessions"):
        old, new = getattr(a.invariants, name), getattr(b.invariants, name)
        yield _row(name.replace("_", " "), "", old, new, ok=new == 0, wanted="0")
    yield _row(
        "broker's records were read",
        "",
        float(a.invariants.broker_records),
        float(b.invariants.broker_records),
        ok=b.invariants.broker_records,
        wanted="1",
    )
    for name in ARCHITECTURES:
        old_arch, new_arch = a.architectures[name], b.architectures[name]
        old = old_arch.failures / max(old_arch.sessions, 1)
        new = new_arch.failures / max(new_arch.sessions, 1)
        most = old + bands.failure_share_more
        wanted = f"at most {100 * most:.1f} %"
        yield _row(f"{name} failures", "%", 100 * old, 100 * new, ok=new <= most, wanted=wanted)
        yield _bytes_row(name, a, b, bands)
    old_cpu = a.surroundings.broker_cpu_ms_per_session
    new_cpu = b.surroundings.broker_cpu_ms_per_session
    known = old_cpu is not None and new_cpu is not None and old_cpu > 0
    yield _row(
        "broker CPU per session",
        "ms",
        old_cpu,
        new_cpu,
        ok=(new_cpu or 0) / old_cpu <= bands.cpu_ratio_max if known and old_cpu else None,
        wanted=f"ratio at most {bands.cpu_ratio_max:g}",
    )


def _bytes_row(name: str, a: Report, b: Report, bands: Bands) -> Row:
    old = a.architectures[name].bytes.per_session.total
    new = b.architectures[name].bytes.per_session.total
    comparable = old > 0 and a.bytes_scale == b.bytes_scale
    inside = 1 / bands.bytes_ratio <= (new / old if old else 0.0) <= bands.bytes_ratio
    return _row(
        f"{name} bytes per session",
        "B",
        old,
        new,
        ok=inside if comparable else None,
        wanted=f"ratio within {bands.bytes_ratio:g} either way",
    )


def _latency(before: Path, after: Path) -> Iterator[Row]:
    try:
        old = read_sessions(before / SESSIONS_FILE)
        new = read_sessions(after / SESSIONS_FILE)
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise FolderError(f"the sessions cannot be read: {error}") from error
    for name in ARCHITECTURES:
        old_values, new_values = phase_values(old, name), phase_values(new, name)
        for phase in phases_of(name):
            if old_values.get(phase.name) and new_values.get(phase.name):
                yield _percentile_row(
                    f"{name} {phase.name} p50", old_values[phase.name], new_values[phase.name]
                )


def _percentile_row(name: str, old: Sequence[float], new: Sequence[float]) -> Row:
    def middle(values: Sequence[float]) -> float:
        return percentile(values, 50)

    return _row(
        name,
        "ms",
        middle(sorted(old)),
        middle(sorted(new)),
        interval=ratio_interval(old, new, middle),
        ok=None,
        wanted="shown only",
    )


def _row(
    name: str,
    unit: str,
    before: float | None,
    after: float | None,
    *,
    ok: bool | None,
    wanted: str,
    interval: tuple[float, float] | None = None,
) -> Row:
    ratio = after / before if before and after is not None else None
    return Row(
        name=name,
        unit=unit,
        before=before,
        after=after,
        ratio=None if ratio is None else round(ratio, 4),
        interval=interval,
        ok=ok,
        wanted=wanted,
    )
