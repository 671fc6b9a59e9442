"""From the request to the desktop: a session's steps as bars over one time axis."""

from __future__ import annotations

from dataclasses import dataclass

from broker.architectures import rules_of
from broker.domain.model import Session

_AXIS = 1000.0
_VISIBLE = 4.0
"""a bar is never thinner than this part of the axis, so that short steps are seen"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One bar. `kind`: waited, measured, modelled or rest. x and width: parts of 1000."""

    name: str
    says: str
    kind: str
    took_ms: float
    bytes: int
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    rows: tuple[Step, ...]
    total_ms: float
    modelled: bool


def steps_of(session: Session) -> Steps:
    """The wait, then each phase that the endpoint reported, then what lies between them.

    The rest is time that no phase covers: orders on their way, and the endpoint's own pauses.
    """
    known = {phase.name: phase for phase in rules_of(session.architecture).phases}
    raw: list[tuple[str, str, str, float, int]] = []
    if session.assigned_at is not None:
        waited = float(session.assigned_at - session.requested_at)
        raw.append(("queue", "until a desktop was given", "waited", waited, 0))
    for phase in session.phases:
        rule = known.get(phase.name)
        kind = "modelled" if rule is not None and rule.simulated else "measured"
        says = rule.says if rule is not None else ""
        bytes_moved = phase.bytes_down + phase.bytes_up
        raw.append((phase.name, says, kind, phase.took_ms, bytes_moved))
    covered = sum(took for _, _, _, took, _ in raw)
    if session.live_at is not None and session.phases:
        rest = float(session.live_at - session.requested_at) - covered
        if rest > 0:
            raw.append(("between", "orders on their way, pauses", "rest", rest, 0))
            covered += rest
    return Steps(
        rows=_placed(raw, covered),
        total_ms=covered,
        modelled=any(kind == "modelled" for _, _, kind, _, _ in raw),
    )


def _placed(raw: list[tuple[str, str, str, float, int]], total_ms: float) -> tuple[Step, ...]:
    rows: list[Step] = []
    at = 0.0
    for name, says, kind, took, moved in raw:
        width = max(_AXIS * took / total_ms if total_ms else 0.0, _VISIBLE)
        rows.append(
            Step(
                name=name,
                says=says,
                kind=kind,
                took_ms=took,
                bytes=moved,
                x=round(min(at, _AXIS - width), 2),
                width=round(width, 2),
            )
        )
        at += _AXIS * took / total_ms if total_ms else 0.0
    return tuple(rows)
