"""How figures are written for people: about three significant digits, and always their unit."""

from __future__ import annotations

import math
from collections.abc import Mapping

NONE = "–"
_THIN = "\u202f"

_Forms = tuple[tuple[float, float, int, str], ...]

# below this size: divide by, digits after the point, unit
_MS: _Forms = (
    (0.995, 1, 2, "ms"),
    (9.95, 1, 1, "ms"),
    (999.5, 1, 0, "ms"),
    (9_995, 1000, 2, "s"),
    (59_950, 1000, 1, "s"),
    (math.inf, 60_000, 1, "min"),
)
_BYTES: _Forms = (
    (999.5, 1, 0, "B"),
    (99_950, 1e3, 1, "kB"),
    (999_500, 1e3, 0, "kB"),
    (99.95e6, 1e6, 1, "MB"),
    (999.5e6, 1e6, 0, "MB"),
    (99.95e9, 1e9, 1, "GB"),
    (999.5e9, 1e9, 0, "GB"),
    (math.inf, 1e12, 1, "TB"),
)
_KBIT_S: _Forms = (
    (9.95, 1, 1, "kbit/s"),
    (999.5, 1, 0, "kbit/s"),
    (math.inf, 1000, 1, "Mbit/s"),
)
_MINUTES: _Forms = ((9.95, 1, 1, "min"), (59.5, 1, 0, "min"), (1439.5, 60, 1, "h"))


def _write(value: float | None, forms: _Forms) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return f"0 {forms[0][3]}"
    _, by, digits, unit = next(form for form in forms if abs(value) < form[0])
    return f"{value / by:.{digits}f} {unit}"


def ms(value: float | None) -> str:
    """A duration given in ms: `0.42 ms`, `420 ms`, `4.20 s`, `2.1 min`."""
    return _write(value, _MS)


def minutes(value: float | None) -> str:
    """A duration given in minutes: `12 min`, `2.1 h`, `558 h`."""
    return _write(value, (*_MINUTES, (math.inf, 60, 0, "h")))


def size(value: float | None) -> str:
    """Bytes in powers of 1000: `0 B`, `1.2 kB`, `197 MB`, `40.0 GB`."""
    return _write(value, _BYTES)


def kbit_s(value: float | None) -> str:
    """A rate given in kbit/s."""
    return _write(value, _KBIT_S)


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands."""
    return NONE if value is None else f"{value:,.0f}".replace(",", _THIN)


def percent(value: float | None) -> str:
    """A figure that is already in %."""
    return NONE if value is None else f"{value:.1f} %"


def number(value: float | None) -> str:
    """A plain number, without needless digits."""
    return NONE if value is None else f"{value:.4g}"


def tick(text: str) -> str:
    """A label of an axis: its figure is round, so `1.0 s` is written `1 s`."""
    figure, _, unit = text.partition(" ")
    if "." in figure:
        figure = figure.rstrip("0").rstrip(".")
    return f"{figure} {unit}"


def between(low: float, high: float, unit: str) -> str:
    """A figure of the calibration: one value or a range, with its unit."""
    if unit in {"byte", "byte/s"}:
        text = size(low) if low == high else f"{size(low)} – {size(high)}"
        return text + unit.removeprefix("byte")
    text = f"{low:g}" if low == high else f"{low:g} – {high:g}"
    return f"{text} {unit}"


FILTERS: Mapping[str, object] = {
    "ms": ms,
    "minutes": minutes,
    "size": size,
    "kbit_s": kbit_s,
    "count": count,
    "percent": percent,
    "number": number,
}
