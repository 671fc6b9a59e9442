"""What a chart is made of. Positions and lengths are in SVG units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loadtests.charts.scales import Frame, Tick

WIDE = 760
NARROW = 360

Spot = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line, or a closed area where a chart lists it as a band. `kind` is its CSS class."""

    kind: str
    points: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A symbol at (x, y). `shape`: circle, square, diamond. `hollow`: a modelled figure."""

    kind: str
    shape: str
    x: float
    y: float
    title: str
    hollow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    x: float
    y: float
    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Everything that one SVG shows, back to front. `says` is its text for who cannot see it."""

    frame: Frame
    says: str
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()
    x_title: str = ""
    y_title: str = ""
    bands: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    texts: tuple[Text, ...] = ()


def points(spots: Iterable[Spot]) -> str:
    """The value of an SVG `points` attribute."""
    return " ".join(f"{x:g},{y:g}" for x, y in spots)
