"""Charts over the time of the campaign: people, arrivals, the generator's health."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from loadtests import formats
from loadtests.charts.scales import Axis, Frame, Tick, even_axis
from loadtests.charts.shapes import WIDE, Bar, Chart, Line, Spot, points
from loadtests.result import Series

SAMPLES_MIN = 2
"""samples below which there is nothing to draw"""


def people_chart(series: Series, width: float) -> Chart | None:
    """Who was in a desktop and who waited."""
    if len(series.at_s) < SAMPLES_MIN:
        return None
    frame = Frame(width=width, height=230, left=44)
    x, x_ticks = _seconds(series, frame)
    y, y_values = even_axis(max(*series.live, *series.waiting, 1), frame.y0, frame.y1, 4)
    live = _spots(series, series.live, x, y)
    area = [(live[0][0], frame.y0), *live, (live[-1][0], frame.y0)]
    return Chart(
        frame=frame,
        says="People in a live desktop and people waiting, over the time of the campaign.",
        x_ticks=x_ticks,
        y_ticks=y.ticks(y_values, _plain),
        y_title="people",
        bands=(Line(kind="live", points=points(area)),),
        lines=(
            Line(kind="live thick", points=points(live), title="in a live desktop"),
            Line(
                kind="waiting thick",
                points=points(_spots(series, series.waiting, x, y)),
                title="signing in or waiting for the desktop",
            ),
        ),
    )


def arrivals_chart(series: Series, width: float) -> Chart | None:
    """Arrivals in each second."""
    if len(series.at_s) < SAMPLES_MIN:
        return None
    frame = Frame(width=width, height=120, left=44)
    x, x_ticks = _seconds(series, frame)
    came = [series.arrived[0], *(b - a for a, b in itertools.pairwise(series.arrived))]
    y, y_values = even_axis(max(*came, 1), frame.y0, frame.y1, 2)
    bars = []
    for at, people in zip(series.at_s, came, strict=True):
        left, right, top = x.at(max(at - 1, 0)), x.at(at), y.at(people)
        bars.append(
            Bar(
                x=left,
                y=top,
                width=round(max(right - left - 0.6, 0.4), 2),
                height=round(frame.y0 - top, 2),
                kind="arrivals",
                title=f"{people} in the second before {at:g} s",
            )
        )
    return Chart(
        frame=frame,
        says="Arrivals in each second of the campaign.",
        x_ticks=x_ticks,
        y_ticks=y.ticks([value for value in y_values if value == int(value)], _plain),
        y_title="arrivals a second",
        bars=tuple(bars),
    )


def cpu_chart(series: Series, width: float) -> Chart | None:
    """The generator's CPU in % of one core, worst process."""
    return _line_chart(
        series,
        series.cpu_pct,
        width,
        most=100.0,
        label=lambda v: f"{v:g} %",
        y_title="CPU of the generator, of one core",
    )


def lag_chart(series: Series, width: float) -> Chart | None:
    """The latest start after a due instant in each second, in ms."""
    return _line_chart(
        series,
        series.lag_max_ms,
        width,
        most=10.0,
        label=lambda v: formats.tick(formats.ms(v)),
        y_title="latest start after a due instant, in each second",
    )


def _line_chart(
    series: Series,
    values: Sequence[float],
    width: float,
    *,
    most: float,
    label: Callable[[float], str],
    y_title: str,
) -> Chart | None:
    """One line over time; the scale reaches at least `most`."""
    if len(series.at_s) < SAMPLES_MIN:
        return None
    frame = Frame(width=width, height=120, left=52)
    x, x_ticks = _seconds(series, frame)
    y, y_values = even_axis(max(*values, most), frame.y0, frame.y1, 2)
    return Chart(
        frame=frame,
        says=f"Over the time of the campaign: {y_title}.",
        x_ticks=x_ticks,
        y_ticks=y.ticks(y_values, label),
        y_title=y_title,
        lines=(Line(kind="live thick", points=points(_spots(series, values, x, y))),),
    )


def _seconds(series: Series, frame: Frame) -> tuple[Axis, tuple[Tick, ...]]:
    steps = 8 if frame.width == WIDE else 4
    axis, values = even_axis(max(series.at_s), frame.x0, frame.x1, steps, tight=True)
    return axis, axis.ticks(values, lambda v: f"{v:g} s")


def _spots(series: Series, values: Sequence[float], x: Axis, y: Axis) -> list[Spot]:
    return [(x.at(at), y.at(value)) for at, value in zip(series.at_s, values, strict=True)]


_plain: Callable[[float], str] = "{:g}".format
