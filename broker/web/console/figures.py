"""Numbers and times as people read them: always with a unit, always the same number of digits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from broker.domain.model import Instant
from broker.web.encoding import stamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SIZES: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_MIB_PER_GIB: Final = 1024
_SPANS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_TEN: Final = 10


def number(value: float) -> str:
    """12,345; a fraction keeps one digit."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def rate(value: float) -> str:
    """Events per minute: one digit below ten, whole numbers above."""
    return f"{value:.1f}" if 0 < value < _TEN else f"{value:,.0f}"


def size(count: float) -> str:
    """Bytes on the wire, in decimal units as networks count them."""
    for unit, name in _SIZES:
        if count >= unit:
            scaled = count / unit
            return f"{scaled:.1f} {name}" if scaled < _TEN else f"{scaled:,.0f} {name}"
    return f"{count:.0f} B"


def mebibytes(value: float) -> str:
    """Memory, given in MiB."""
    if value < _MIB_PER_GIB:
        return f"{value:,.0f} MiB"
    return f"{number(round(value / _MIB_PER_GIB, 1))} GiB"


def took(ms: float) -> str:
    """A duration: 4.1 ms, 85 ms, 1.24 s, 12.3 s, 2 min 5 s, 1 h 3 min."""
    if ms < 1_000:  # noqa: PLR2004 - a second
        return f"{ms:.1f} ms" if 0 < ms < _TEN else f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < _TEN:
        return f"{seconds:.2f} s"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def seconds(value: float) -> str:
    """A setting in seconds, in its largest whole unit: 7 days, 10 minutes, 90 seconds."""
    whole = int(value)
    for unit, name in _SPANS:
        if whole >= unit and whole % unit == 0:
            count = whole // unit
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    return f"{whole} seconds"


def _moment(at: Instant) -> datetime:
    return _EPOCH + timedelta(milliseconds=at)


def utc(at: Instant) -> str:
    """For programs, the `time` element among them."""
    return stamp(at)


def utc_words(at: Instant) -> str:
    """The exact time, for the title: 2026-11-21 08:00:00.123 UTC."""
    return f"{_moment(at):%Y-%m-%d %H:%M:%S}.{at % 1000:03d} UTC"


def utc_short(at: Instant) -> str:
    """What is read where scripts do not run."""
    return f"{_moment(at):%Y-%m-%d %H:%M} UTC"


FILTERS: Final = {
    "number": number,
    "rate": rate,
    "size": size,
    "mebibytes": mebibytes,
    "took": took,
    "seconds": seconds,
    "utc": utc,
    "utc_words": utc_words,
    "utc_short": utc_short,
}
"""What templates call these by."""
