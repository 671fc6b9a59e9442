"""What is done about this machine's clock when the engine tells the time: pure, time passed in.

A line may wait on its way, and never comes before it was sent. So a clock that seems behind is
behind, by that much at least; one that seems ahead may only have heard late, and is put back when
a later line says the same.
"""

from __future__ import annotations

from typing import NamedTuple

from agents.guest import limits


class Correction(NamedTuple):
    """Seconds to add to the clock: `at_once`, or little by little."""

    by_s: float
    at_once: bool


class _Doubt(NamedTuple):
    """Since when the clock seems ahead, and by how much at least."""

    since: float
    off_s: float


class Timekeeper:
    """Of one clock."""

    def __init__(self) -> None:
        self._doubt: _Doubt | None = None

    def told(self, off_s: float, now: float, *, kept: bool | None) -> Correction | None:
        """What to do. `off_s`: the time that was told less the clock's, in seconds; `now`:
        monotonic seconds; `kept`: whether a time daemon keeps the clock, None if unknown: then it
        is left alone, too."""
        if kept is not False or abs(off_s) <= limits.CLOCK_SLEW_S:
            self._doubt = None
            return None
        if off_s < 0:
            before = self._doubt or _Doubt(now, off_s)
            self._doubt = _Doubt(before.since, max(before.off_s, off_s))
            if now - before.since < limits.CLOCK_AGAIN_S:
                return None
            off_s = self._doubt.off_s
        self._doubt = None
        return Correction(off_s, at_once=abs(off_s) > limits.CLOCK_OFF_S)
