"""Weekly windows in a time zone, with holidays: when something holds, and when that changes.

Local wall-clock time rules: a window from 08:00 to 16:00 is that on the day the clocks change,
too. Where the clocks jump forward over its start it begins at the jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

Instant = int

MINUTES_A_DAY = 24 * 60
LOOK_AHEAD_DAYS = 8
"""`next_change` looks this far: every weekly window begins and ends within it"""


class OnHolidays(StrEnum):
    """What a window does on a day that is a holiday."""

    ALSO = "also"
    NEVER = "never"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of the week. `days`: 0 is Monday; empty means every day.

    `start_min` and `end_min` are minutes of the local day, 0 to 1440; with an end at or before
    the start the window reaches into the next day, and belongs to the day it began on.
    """

    days: tuple[int, ...] = ()
    start_min: int = 0
    end_min: int = MINUTES_A_DAY
    on_holidays: OnHolidays = OnHolidays.NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Holiday:
    """A day on which the site's week does not hold."""

    day: date
    name: str


def local(now: Instant, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(now / 1000, UTC).astimezone(zone)


def _begins_on(window: Window, day: date, holidays: frozenset[date]) -> bool:
    if window.days and day.weekday() not in window.days:
        return False
    match window.on_holidays:
        case OnHolidays.ALSO:
            return True
        case OnHolidays.NEVER:
            return day not in holidays
        case OnHolidays.ONLY:
            return day in holidays


def holds(window: Window, now: Instant, zone: ZoneInfo, holidays: Sequence[Holiday] = ()) -> bool:
    """Whether `now` is within the window; its start is, its end is not."""
    free = frozenset(one.day for one in holidays)
    here = local(now, zone)
    minute = here.hour * 60 + here.minute
    today = here.date()
    if window.start_min < window.end_min:
        return window.start_min <= minute < window.end_min and _begins_on(window, today, free)
    if minute >= window.start_min and _begins_on(window, today, free):
        return True
    return minute < window.end_min and _begins_on(window, today - timedelta(days=1), free)


def next_change(
    windows: Sequence[Window], now: Instant, zone: ZoneInfo, holidays: Sequence[Holiday] = ()
) -> Instant | None:
    """The next instant at which one of the windows begins to hold or ceases to; None if none
    does within LOOK_AHEAD_DAYS."""
    here = local(now, zone)
    edges = {edge for window in windows for edge in (window.start_min, window.end_min)}
    candidates: set[Instant] = set()
    for ahead in range(-1, LOOK_AHEAD_DAYS + 1):
        day = here.date() + timedelta(days=ahead)
        candidates.update(_jumps(day, zone))
        for edge in edges:
            candidates.update(_instants(day, edge, zone))
    for at in sorted(candidates):
        if at <= now:
            continue
        for window in windows:
            if holds(window, at, zone, holidays) != holds(window, at - 1, zone, holidays):
                return at
    return None


def _instants(day: date, minute: int, zone: ZoneInfo) -> tuple[Instant, Instant]:
    """When a minute of the local day is: twice, where the clocks go back over it."""
    on = day + timedelta(days=minute // MINUTES_A_DAY)
    minute %= MINUTES_A_DAY
    wall = datetime(on.year, on.month, on.day, minute // 60, minute % 60, tzinfo=zone)
    return _instant(wall), _instant(wall.replace(fold=1))


def _instant(moment: datetime) -> Instant:
    return int(moment.timestamp() * 1000)


def _jumps(day: date, zone: ZoneInfo) -> tuple[Instant, ...]:
    """The minute of that local day at which its clocks jump, if they do."""
    first = _instant(datetime(day.year, day.month, day.day, tzinfo=zone))
    last = first + MINUTES_A_DAY * 60_000
    before = local(first, zone).utcoffset()
    if local(last, zone).utcoffset() == before:
        return ()
    low, high = first // 60_000, last // 60_000
    while high - low > 1:
        middle = (low + high) // 2
        if local(middle * 60_000, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return (high * 60_000,)
