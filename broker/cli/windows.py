"""Weekly windows as a person types them: `mon-fri 08:00-16:00`, `sat,sun`, `22:00-06:00`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import click

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOUR: Final = r"([01]?\d|2[0-3]):[0-5]\d"
_TIME: Final = re.compile(rf"^(?P<start>{_HOUR})-(?P<end>{_HOUR}|24:00)$")


def window(text: str, holidays: str) -> dict[str, Any]:
    """The window as the API takes it. Raises click.BadParameter."""
    made: dict[str, Any] = {"days": [], "start": "00:00", "end": "24:00", "holidays": holidays}
    words = text.lower().split()
    if not words:
        raise _bad(text)
    for word in words:
        times = _TIME.match(word)
        if times is not None:
            made["start"], made["end"] = times["start"].zfill(5), times["end"].zfill(5)
        else:
            made["days"] += [day for part in word.split(",") for day in _days(part, text)]
    return made


def _days(part: str, text: str) -> list[str]:
    first, dash, last = part.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise _bad(text)
    if not dash:
        return [first]
    start, end = DAYS.index(first), DAYS.index(last)
    # fri-mon goes over the week's end
    count = (end - start) % len(DAYS) + 1
    return [DAYS[(start + step) % len(DAYS)] for step in range(count)]


def _bad(text: str) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is not like 'mon-fri 08:00-16:00'", param_hint="--when")


def shown(windows: Iterable[Mapping[str, Any]]) -> str:
    """The API's windows in the same words."""
    return "; ".join(_shown(one) for one in windows)


def _shown(one: Mapping[str, Any]) -> str:
    parts = [",".join(one["days"])] if one["days"] else []
    if (one["start"], one["end"]) != ("00:00", "24:00") or not parts:
        parts.append(f"{one['start']}-{one['end']}")
    if one["holidays"] != "never":
        parts.append(f"holidays {one['holidays']}")
    return " ".join(parts)
