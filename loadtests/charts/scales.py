"""Axes of the report's charts: where a value lies on paper, and which values get a tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The paper of one chart, in SVG units; the plot lies within the margins."""

    width: float
    height: float
    left: float = 56
    right: float = 14
    top: float = 12
    bottom: float = 34

    @property
    def x0(self) -> float:
        return self.left

    @property
    def x1(self) -> float:
        return self.width - self.right

    @property
    def y0(self) -> float:
        return self.height - self.bottom

    @property
    def y1(self) -> float:
        return self.top


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis. `at`: position on paper. `major`: it has a label and a full line."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Maps [low, high] onto [start, end] of the paper, evenly or by powers of ten."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The position of `value`, held within the axis."""
        if self.log:
            low, high, now = math.log10(self.low), math.log10(self.high), _log(value, self.low)
        else:
            low, high, now = self.low, self.high, value
        part = (now - low) / (high - low) if high > low else 0.0
        return round(self.start + min(max(part, 0.0), 1.0) * (self.end - self.start), 2)

    def ticks(self, values: Sequence[float], label: Callable[[float], str]) -> tuple[Tick, ...]:
        inside = [value for value in values if self.low <= value <= self.high * (1 + 1e-9)]
        return tuple(Tick(at=self.at(value), label=label(value)) for value in inside)


def even_axis(
    most: float, start: float, end: float, steps: int = 5, *, tight: bool = False
) -> tuple[Axis, list[float]]:
    """An axis from 0 in round steps, and the values of its ticks. It ends at the first step that
    is not below `most`, or at `most` itself if `tight`."""
    raw = max(most, 1e-9) / steps
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.9999)
    count = max(1, math.ceil(most / step - 1e-9))
    axis = Axis(low=0.0, high=most if tight else step * count, start=start, end=end)
    return axis, [step * i for i in range(count + 1)]


def log_axis(low: float, high: float, start: float, end: float) -> tuple[Axis, list[float]]:
    """An axis by powers of ten around [low, high]; ticks at 1, 2 and 5 where there is room."""
    floor, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = max(top - floor, 1)
    factors = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3 else (1,)  # noqa: PLR2004
    values = [factor * 10.0**power for power in range(floor, floor + decades) for factor in factors]
    values.append(10.0 ** (floor + decades))
    first = max((value for value in values if value <= low), default=values[0])
    last = min((value for value in values if value >= high), default=values[-1])
    axis = Axis(low=first, high=max(last, first * 10), start=start, end=end, log=True)
    return axis, values


def _log(value: float, low: float) -> float:
    return math.log10(value) if value > 0 else math.log10(low)
