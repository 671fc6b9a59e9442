"""The headline chart: after how long VDI has moved more bytes than one image transfer."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests import formats
from loadtests.charts.scales import Axis, Frame
from loadtests.charts.shapes import WIDE, Chart, Line, Mark, Spot, Text, points
from loadtests.traffic import BreakEven, Headline

MINUTES = (1.0, 10.0, 60.0, 480.0, 2400.0, 10_000.0)
"""ticks: up to a working day (8 h), a working week (40 h) and a month of them"""
_BYTES_PER_KBIT_MINUTE = 125 * 60

_ROWS = (
    ("voi_boot", "voi", "VOI boot", 15.0),
    ("idv_delta", "idv", "IDV update", -6.0),
    ("idv_full", "idv", "IDV full image", -6.0),
)
"""row, class, label, how far below its line the label stands"""


def break_even_chart(headline: Headline, width: float) -> Chart:
    """Bytes on the wire against minutes of use, both by powers of ten."""
    frame = Frame(width=width, height=380 if width == WIDE else 340, left=58)
    x = Axis(low=MINUTES[0], high=MINUTES[-1], start=frame.x0, end=frame.x1, log=True)
    y = Axis(low=1e6, high=1e11, start=frame.y0, end=frame.y1, log=True)
    rate, first = headline.calibrated_kbit_s, headline.first_picture_bytes

    def vdi(kbit_s: float) -> Sequence[Spot]:
        times = [10 ** (step / 10) for step in range(41)]
        return [(x.at(t), y.at(first + kbit_s * _BYTES_PER_KBIT_MINUTE * t)) for t in times]

    low, high = vdi(rate.low), vdi(rate.high)
    bands = [Line(kind="vdi", points=points([*low, *reversed(high)]))]
    lines = [Line(kind="vdi", points=points(vdi(rate.mean)), title="VDI, calibrated rate")]
    if headline.measured_kbit_s:
        spots = points(vdi(headline.measured_kbit_s))
        lines.append(Line(kind="vdi dashed", points=spots, title="VDI, measured rate"))
    marks: list[Mark] = []
    texts = [Text(x=high[0][0] + 6, y=high[0][1] - 14, text="VDI", kind="vdi strong")]
    sizes = {row.name: row for row in headline.rows}
    for name, kind, label, below in _ROWS:
        row = sizes[name]
        level = y.at(row.image_bytes.mean)
        bands += _band(row, kind, frame, y)
        lines.append(Line(kind=kind, points=points([(frame.x0, level), (frame.x1, level)])))
        size = formats.between(row.image_bytes.low, row.image_bytes.high, "byte")
        text = f"{label}, {size}" if width == WIDE else label
        texts.append(Text(x=frame.x0 + 6, y=level + below, text=text, kind=f"{kind} strong"))
        if row.minutes.mean <= x.high:
            after = formats.minutes(row.minutes.mean)
            title = f"VDI passes {row.title} after {after}"
            at = x.at(row.minutes.mean)
            marks.append(Mark(kind=kind, shape="circle", x=at, y=level, title=title))
            texts.append(Text(x=at + 9, y=level + 16, text=after, kind="strong"))
    wanted = MINUTES if width == WIDE else (1.0, 60.0, 480.0, 10_000.0)
    return Chart(
        frame=frame,
        says="Bytes on the wire against minutes of use: VDI rises, VOI and IDV are level.",
        x_ticks=x.ticks(wanted, lambda v: formats.tick(formats.minutes(v))),
        y_ticks=y.ticks([10.0**p for p in range(6, 12)], lambda v: formats.tick(formats.size(v))),
        x_title="time of use",
        y_title="bytes on the wire of one endpoint",
        bands=tuple(bands),
        lines=tuple(lines),
        marks=tuple(marks),
        texts=tuple(texts),
    )


def _band(row: BreakEven, kind: str, frame: Frame, y: Axis) -> list[Line]:
    low, high = y.at(row.image_bytes.low), y.at(row.image_bytes.high)
    if low == high:
        return []
    box = [(frame.x0, low), (frame.x1, low), (frame.x1, high), (frame.x0, high)]
    return [Line(kind=kind, points=points(box))]
