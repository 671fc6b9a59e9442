"""Weekly windows as the API writes them: names of days, and times of the local day."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from broker.domain.calendar import Holiday, OnHolidays, Window
from broker.web.api.inputs import Body, Label

DayName = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[DayName, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TimeOfDay = Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
DateText = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class WindowBody(Body, frozen=True, kw_only=True):
    """A part of the week. No days: every day. `end` at or before `start`: into the next day.

    `holidays`: whether the window holds on them also, never or only.
    """

    days: Annotated[list[DayName], Meta(max_length=7)] = msgspec.field(default_factory=list)
    start: TimeOfDay = "00:00"
    end: TimeOfDay = "24:00"
    holidays: OnHolidays = OnHolidays.NEVER


class HolidayBody(Body, frozen=True, kw_only=True):
    """`day` as YYYY-MM-DD."""

    day: DateText
    name: Label = ""


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _time(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def to_window(body: WindowBody) -> Window:
    return Window(
        days=tuple(sorted({DAYS.index(day) for day in body.days})),
        start_min=_minutes(body.start),
        end_min=_minutes(body.end),
        on_holidays=body.holidays,
    )


def from_window(window: Window) -> WindowBody:
    return WindowBody(
        days=[DAYS[day] for day in window.days],
        start=_time(window.start_min),
        end=_time(window.end_min),
        holidays=window.on_holidays,
    )


def to_holiday(body: HolidayBody) -> Holiday:
    """Raises ValueError for a day that no calendar has."""
    year, month, day = (int(part) for part in body.day.split("-"))
    return Holiday(day=date(year, month, day), name=body.name)


def from_holiday(holiday: Holiday) -> HolidayBody:
    return HolidayBody(day=holiday.day.isoformat(), name=holiday.name)
