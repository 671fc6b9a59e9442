"""Charts of the time to a live desktop: by percentile, and where it goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadtests import formats
from loadtests.charts.scales import Axis, Frame, Tick, log_axis
from loadtests.charts.shapes import WIDE, Bar, Chart, Line, points
from loadtests.result import Architecture

PERCENTS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
CURVE_MIN = 2
"""values below which there is no curve"""


def percentile_chart(architectures: dict[str, Architecture], width: float) -> Chart | None:
    """Due-to-live times against percentiles, as HdrHistogram draws them: the tail has room."""
    curves = {
        name: (arch.curve, arch.phases["total"].n)
        for name, arch in architectures.items()
        if len(arch.curve) >= CURVE_MIN
    }
    if not curves:
        return None
    frame = Frame(width=width, height=300, left=58)
    values = [value for curve, _ in curves.values() for _, value in curve]
    y, y_values = log_axis(max(min(values), 0.01), max(values), frame.y0, frame.y1)
    nines = math.log10(2 * max(n for _, n in curves.values()))
    x = Axis(low=0, high=max(nines, 1.0), start=frame.x0, end=frame.x1)
    percents = sorted({*PERCENTS, 95.0}) if width == WIDE else PERCENTS
    return Chart(
        frame=frame,
        says="Time from the due instant to the live desktop, by percentile, per architecture.",
        x_ticks=tuple(
            Tick(at=x.at(_nines(percent)), label=f"{percent:g} %")
            for percent in percents
            if _nines(percent) <= x.high
        ),
        y_ticks=y.ticks(y_values, lambda v: formats.tick(formats.ms(v))),
        x_title="percentile",
        y_title="from due to live",
        lines=tuple(
            Line(
                kind=f"{name} thick",
                # the middle of each value's own step, so that the largest is not at 100 %
                points=points((x.at(_nines(p - 50 / n)), y.at(value)) for p, value in curve),
                title=f"{name.upper()}, n = {n}",
            )
            for name, (curve, n) in curves.items()
        ),
    )


def stack_bars(stack: Sequence[tuple[str, float]], longest: float, width: float) -> list[Bar]:
    """The segments of one stacked bar; `kind` is the phase. A negative phase (a hand-over that
    overlaps the endpoint's steps) has no width."""
    bars, at = [], 0.0
    for name, value in stack:
        length = max(value, 0.0) / longest * width if longest > 0 else 0.0
        bars.append(Bar(x=round(at, 2), y=0, width=round(length, 2), height=30, kind=name))
        at += length
    return bars


def _nines(percent: float) -> float:
    return -math.log10(max(1 - percent / 100, 1e-9))
