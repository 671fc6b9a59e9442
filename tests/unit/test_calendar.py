"""Windows of the week: wall-clock time, midnight, holidays, and the days the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calendar import (
    Holiday,
    OnHolidays,
    Window,
    holds,
    local,
    next_change,
)

BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")
SHANGHAI = ZoneInfo("Asia/Shanghai")


def at(text: str, zone: ZoneInfo = UTC_ZONE, fold: int = 0) -> int:
    """Local wall-clock time as an instant."""
    wall = datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)
    return int(wall.timestamp() * 1000)


SCHOOL = Window(days=(0, 1, 2, 3, 4), start_min=8 * 60, end_min=16 * 60)
NIGHT = Window(days=(4,), start_min=22 * 60, end_min=6 * 60)  # Friday night
XMAS = (Holiday(day=date(2026, 12, 25), name="Christmas"),)  # a Friday


@pytest.mark.parametrize(
    ("when", "inside"),
    [
        ("2026-11-20T07:59:59.999", False),
        ("2026-11-20T08:00", True),
        ("2026-11-20T15:59:59.999", True),
        ("2026-11-20T16:00", False),
        ("2026-11-21T12:00", False),  # Saturday
        ("2026-11-23T12:00", True),
    ],
)
def test_a_windows_start_is_within_and_its_end_is_not(when: str, inside: bool) -> None:
    assert holds(SCHOOL, at(when), UTC_ZONE) is inside


def test_the_zone_decides_what_time_it_is() -> None:
    now = at("2026-11-20T00:30")  # 08:30 in Shanghai
    assert holds(SCHOOL, now, SHANGHAI)
    assert not holds(SCHOOL, now, UTC_ZONE)
    assert local(now, SHANGHAI).hour == 8


@pytest.mark.parametrize(
    ("when", "inside"),
    [
        ("2026-11-20T21:59", False),
        ("2026-11-20T22:00", True),
        ("2026-11-21T00:00", True),
        ("2026-11-21T05:59", True),
        ("2026-11-21T06:00", False),
        ("2026-11-20T03:00", False),  # Thursday's night is not its
        ("2026-11-21T22:30", False),
    ],
)
def test_a_window_past_midnight_belongs_to_the_day_it_began_on(when: str, inside: bool) -> None:
    assert holds(NIGHT, at(when), UTC_ZONE) is inside


def test_a_window_that_ends_when_it_starts_is_a_whole_day_long() -> None:
    window = Window(days=(0,), start_min=600, end_min=600)
    assert not holds(window, at("2026-11-23T09:59"), UTC_ZONE)
    assert holds(window, at("2026-11-23T10:00"), UTC_ZONE)
    assert holds(window, at("2026-11-24T09:59"), UTC_ZONE)
    assert not holds(window, at("2026-11-24T10:00"), UTC_ZONE)


def test_no_days_means_every_day_and_the_whole_day() -> None:
    assert all(holds(Window(), at(f"2026-11-{day}T23:59"), UTC_ZONE) for day in range(20, 27))


@pytest.mark.parametrize(
    ("rule", "on_the_day", "the_day_before"),
    [
        (OnHolidays.ALSO, True, True),
        (OnHolidays.NEVER, False, True),
        (OnHolidays.ONLY, True, False),
    ],
)
def test_holidays(rule: OnHolidays, on_the_day: bool, the_day_before: bool) -> None:
    window = Window(start_min=600, end_min=660, on_holidays=rule)
    assert holds(window, at("2026-12-25T10:30"), UTC_ZONE, XMAS) is on_the_day
    assert holds(window, at("2026-12-24T10:30"), UTC_ZONE, XMAS) is the_day_before


def test_a_holiday_still_needs_the_right_day_of_the_week() -> None:
    monday = Window(days=(0,), on_holidays=OnHolidays.ONLY)
    assert not holds(monday, at("2026-12-25T10:30"), UTC_ZONE, XMAS)


def test_a_night_that_begins_on_a_holiday_is_the_holidays() -> None:
    night = Window(start_min=22 * 60, end_min=6 * 60, on_holidays=OnHolidays.NEVER)
    assert not holds(night, at("2026-12-25T23:00"), UTC_ZONE, XMAS)
    assert not holds(night, at("2026-12-26T05:00"), UTC_ZONE, XMAS)
    assert holds(night, at("2026-12-25T05:00"), UTC_ZONE, XMAS)  # began on the 24th


def test_the_day_of_a_holiday_is_the_zones_day() -> None:
    window = Window(on_holidays=OnHolidays.ONLY)
    now = at("2026-12-24T23:30")  # the 25th in Berlin
    assert holds(window, now, BERLIN, XMAS)
    assert not holds(window, now, UTC_ZONE, XMAS)


def test_where_the_clocks_jump_over_its_start_a_window_begins_at_the_jump() -> None:
    # Berlin, 2026-03-29: 01:59:59 is followed by 03:00
    window = Window(start_min=150, end_min=240)  # 02:30 to 04:00
    jump = at("2026-03-29T01:00")
    assert not holds(window, jump - 1, BERLIN)
    assert holds(window, jump, BERLIN)
    assert next_change([window], jump - 1, BERLIN) == jump
    assert not holds(window, at("2026-03-29T04:00", BERLIN), BERLIN)


def test_a_window_wholly_within_the_gap_does_not_hold_that_day() -> None:
    window = Window(start_min=130, end_min=160)
    day = at("2026-03-29T00:00", BERLIN)
    minutes = range(23 * 60)
    assert not any(holds(window, day + minute * 60_000, BERLIN) for minute in minutes)


def test_where_the_clocks_go_back_a_window_holds_in_both_hours() -> None:
    # Berlin, 2026-10-25: 02:00 to 03:00 comes twice
    window = Window(start_min=120, end_min=180)
    for fold in (0, 1):
        assert holds(window, at("2026-10-25T02:30", BERLIN, fold), BERLIN)
    first, second = at("2026-10-25T02:30", BERLIN, 0), at("2026-10-25T02:30", BERLIN, 1)
    assert second - first == 3600_000
    assert not holds(window, at("2026-10-25T03:00", BERLIN), BERLIN)


def test_the_end_of_a_day_that_comes_again_after_midnight_is_not_missed() -> None:
    # St. John's, 2010-11-07: 00:01 is followed by 23:01 of the day before
    zone = ZoneInfo("America/St_Johns")
    window = Window(start_min=23 * 60 + 10, end_min=23 * 60 + 30)
    again = at("2010-11-06T23:10", zone, 1)
    assert next_change([window], at("2010-11-07T00:00:30", zone), zone) == again
    assert not holds(window, again - 1, zone)
    assert holds(window, again, zone)


def test_a_window_that_ends_in_the_repeated_hour_holds_again_in_its_repetition() -> None:
    window = Window(start_min=60, end_min=150)  # 01:00 to 02:30
    first_end = at("2026-10-25T02:30", BERLIN, 0)
    back = at("2026-10-25T02:00", BERLIN, 1)
    second_end = at("2026-10-25T02:30", BERLIN, 1)
    assert next_change([window], back - 3600_000, BERLIN) == first_end
    assert next_change([window], first_end, BERLIN) == back
    assert next_change([window], back, BERLIN) == second_end


def test_the_wall_clock_rules_on_both_sides_of_a_change() -> None:
    for day in ("2026-03-27", "2026-03-30"):
        assert not holds(SCHOOL, at(f"{day}T07:59", BERLIN), BERLIN)
        assert holds(SCHOOL, at(f"{day}T08:00", BERLIN), BERLIN)


def test_the_next_change_is_the_end_then_the_next_start() -> None:
    friday = at("2026-11-20T12:00", BERLIN)
    end = next_change([SCHOOL], friday, BERLIN)
    assert end == at("2026-11-20T16:00", BERLIN)
    assert next_change([SCHOOL], end, BERLIN) == at("2026-11-23T08:00", BERLIN)


def test_the_next_change_leaps_over_holidays() -> None:
    after = at("2026-12-24T17:00")
    assert next_change([SCHOOL], after, UTC_ZONE, XMAS) == at("2026-12-28T08:00")
    only = Window(start_min=0, end_min=1440, on_holidays=OnHolidays.ONLY)
    assert next_change([only], after, UTC_ZONE, XMAS) == at("2026-12-25T00:00")
    assert next_change([only], at("2026-12-25T00:00"), UTC_ZONE, XMAS) == at("2026-12-26T00:00")


def test_a_week_ahead_is_seen_and_what_never_changes_has_no_next_change() -> None:
    monday = Window(days=(0,), start_min=480, end_min=490)
    now = at("2026-11-23T08:10")
    assert next_change([monday], now, UTC_ZONE) == at("2026-11-30T08:00")
    assert next_change([Window(on_holidays=OnHolidays.ALSO)], now, UTC_ZONE) is None
    assert next_change([], now, UTC_ZONE) is None


def test_the_first_of_several_windows_counts() -> None:
    now = at("2026-11-20T07:00")
    early = Window(start_min=450, end_min=900)
    assert next_change([SCHOOL, early], now, UTC_ZONE) == at("2026-11-20T07:30")


WINDOWS = st.builds(
    Window,
    days=st.lists(st.integers(0, 6), unique=True, max_size=7).map(tuple),
    start_min=st.integers(0, 1439),
    end_min=st.integers(0, 1440),
    on_holidays=st.sampled_from(OnHolidays),
)
ZONES = st.sampled_from([BERLIN, UTC_ZONE, SHANGHAI, ZoneInfo("America/New_York")])
MOMENTS = st.integers(
    int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000),
    int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000),
)


@given(WINDOWS, ZONES, MOMENTS)
def test_nothing_changes_before_the_next_change_and_something_does_at_it(
    window: Window, zone: ZoneInfo, now: int
) -> None:
    change = next_change([window], now, zone, XMAS)
    until = (
        change if change is not None else now + int(timedelta(days=7) / timedelta(milliseconds=1))
    )
    state = holds(window, now, zone, XMAS)
    for part in range(1, 50):
        moment = now + (until - now) * part // 50
        if now < moment < until:
            assert holds(window, moment, zone, XMAS) is state
    if change is not None:
        assert change > now
        assert holds(window, change, zone, XMAS) is not state
