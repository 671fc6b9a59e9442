"""The chart of bytes on the wire: one mean session of each architecture, by kind."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests import formats
from loadtests.charts.scales import Axis, Frame
from loadtests.charts.shapes import WIDE, Chart, Line, Mark, Text, points
from loadtests.limits import ARCHITECTURES
from loadtests.result import Architecture
from loadtests.traffic import Bytes

SHAPES: Mapping[str, str] = {"control": "circle", "display": "square", "image": "diamond"}


def bytes_chart(architectures: dict[str, Architecture], width: float) -> Chart:
    """Dots on a scale by powers of ten; hollow where the figure is modelled at real scale."""
    frame = Frame(width=width, height=186, left=44, top=12)
    x = Axis(low=100, high=1e11, start=frame.x0 + 8, end=frame.x1, log=True)
    marks: list[Mark] = []
    lines: list[Line] = []
    texts: list[Text] = []
    for row, name in enumerate(ARCHITECTURES):
        at = round(frame.y1 + 22 + row * 46, 2)
        texts.append(Text(x=4, y=at + 4, text=name.upper(), kind="strong"))
        lines.append(Line(kind="rule", points=points([(frame.x0, at), (frame.x1, at)])))
        _dots(name, architectures[name].bytes, at, x, marks, lines)
    powers = range(2, 12) if width == WIDE else range(3, 12, 2)
    return Chart(
        frame=frame,
        says="Bytes on the wire of a mean session: control, display and image, per architecture.",
        x_ticks=x.ticks([10.0**p for p in powers], lambda v: formats.tick(formats.size(v))),
        x_title="bytes of a mean session",
        lines=tuple(lines),
        marks=tuple(marks),
        texts=tuple(texts),
    )


def _dots(
    name: str, found: Bytes, at: float, x: Axis, marks: list[Mark], lines: list[Line]
) -> None:
    for kind, shape in SHAPES.items():
        value = getattr(found.per_session, kind)
        if value < x.low:
            continue
        title = f"{name.upper()} {kind}: {formats.size(value)}"
        marks.append(Mark(kind=name, shape=shape, x=x.at(value), y=at, title=title))
    real, ran = found.modelled.image, found.per_session.image
    if ran >= x.low and real > ran:
        title = f"{name.upper()} image at real scale: {formats.size(real)}"
        span = points([(x.at(ran), at), (x.at(real), at)])
        lines.append(Line(kind=f"{name} dashed", points=span))
        marks.append(Mark(kind=name, shape="diamond", x=x.at(real), y=at, title=title, hollow=True))
