"""What holds for a pool at an instant: its own settings, the schedule's, the site's state."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broker.domain.calendar import Holiday, OnHolidays, Window
from broker.domain.planning.effective import Effective, effective, entries_now, zone_of
from broker.domain.settings import PoolSettings, ScheduleEntry, ServiceState, SiteSettings
from tests.support.builders import make_pool

SITE = SiteSettings(time_zone="Europe/Berlin")
NIGHT = Window(start_min=22 * 60, end_min=6 * 60)
NOON = int(datetime(2026, 11, 20, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)
MIDNIGHT = NOON + 12 * 3600 * 1000


def pool_with(*schedule: ScheduleEntry, **settings: Any) -> Any:
    own = {name: settings.pop(name) for name in ("enabled", "size_max") if name in settings}
    return make_pool(settings=PoolSettings(schedule=schedule, **settings), **own)


def test_without_a_schedule_the_pools_own_settings_hold() -> None:
    pool = pool_with(size_min=3, spares_suspended=4)
    assert effective(pool, SITE, NOON) == Effective(
        spares=2,
        spares_suspended=4,
        size_min=3,
        open=True,
        power=True,
        makes=True,
        trims=True,
        why="library is open",
    )


def test_a_schedules_entry_replaces_what_it_names_while_its_window_holds() -> None:
    night = ScheduleEntry(
        name="night", window=NIGHT, spares_min=0, spares_suspended=7, size_min=1, open=False
    )
    pool = pool_with(night, size_min=3, spares_suspended=4)
    day, dark = effective(pool, SITE, NOON), effective(pool, SITE, MIDNIGHT)
    assert (day.spares, day.spares_suspended, day.size_min, day.open) == (2, 4, 3, True)
    assert (dark.spares, dark.spares_suspended, dark.size_min, dark.open) == (0, 7, 1, False)
    assert dark.makes
    assert dark.trims
    assert dark.power
    assert day.why == "library is open"
    assert dark.why == "library is closed (schedule: night)"


def test_what_an_entry_does_not_name_stays_and_later_entries_win() -> None:
    first = ScheduleEntry(name="first", window=Window(), spares_min=5, spares_suspended=6)
    second = ScheduleEntry(name="second", window=Window(), spares_min=8)
    now = effective(pool_with(first, second, size_min=1), SITE, NOON)
    assert (now.spares, now.spares_suspended, now.size_min) == (8, 6, 1)
    assert now.open
    assert now.why == "library is open (schedule: first, second)"


def test_a_later_entry_may_open_what_an_earlier_one_closed() -> None:
    closed = ScheduleEntry(name="closed", window=Window(), open=False, power=False)
    opened = ScheduleEntry(name="fair", window=Window(), open=True, power=True)
    now = effective(pool_with(closed, opened), SITE, NOON)
    assert now.open
    assert now.power


def test_without_power_no_spare_runs_and_what_must_exist_sleeps() -> None:
    dark = ScheduleEntry(name="dark", window=Window(), power=False)
    now = effective(pool_with(dark, size_min=5, spares_suspended=2), SITE, NOON)
    assert (now.spares, now.spares_suspended, now.size_min, now.power) == (0, 5, 5, False)
    assert now.open
    now = effective(pool_with(dark, size_min=1, spares_suspended=2), SITE, NOON)
    assert now.spares_suspended == 2


@pytest.mark.parametrize("whose", ["pool", "site"])
def test_draining_makes_nothing_and_takes_nothing(whose: str) -> None:
    state = ServiceState.DRAINING
    pool = pool_with(size_min=3, state=state if whose == "pool" else ServiceState.OPEN)
    site = SiteSettings(state=state if whose == "site" else ServiceState.OPEN)
    now = effective(pool, site, NOON)
    assert not now.open
    assert not now.makes
    assert not now.trims
    assert now.power
    assert (now.spares, now.size_min) == (2, 3)
    assert now.why == ("library drains" if whose == "pool" else "the site drains")


@pytest.mark.parametrize("whose", ["pool", "site"])
def test_under_maintenance_nothing_is_made_or_kept_warm(whose: str) -> None:
    state = ServiceState.MAINTENANCE
    pool = pool_with(
        size_min=3, spares_suspended=2, state=state if whose == "pool" else ServiceState.DRAINING
    )
    site = SiteSettings(state=state if whose == "site" else ServiceState.DRAINING)
    now = effective(pool, site, NOON)
    assert (now.spares, now.spares_suspended, now.size_min) == (0, 0, 0)
    assert not now.open
    assert not now.makes
    assert not now.power
    assert now.trims
    who = "library" if whose == "pool" else "the site"
    assert now.why == f"{who} is under maintenance"


def test_a_disabled_pool_drains() -> None:
    now = effective(pool_with(enabled=False), SITE, NOON)
    assert not now.open
    assert not now.makes
    assert not now.trims
    assert now.why == "library is disabled"


def test_no_pool_must_have_more_than_it_may() -> None:
    assert effective(pool_with(size_min=30, size_max=10), SITE, NOON).size_min == 10


def test_the_pools_time_zone_goes_before_the_sites() -> None:
    pool = pool_with(
        ScheduleEntry(name="night", window=NIGHT, spares_min=0), time_zone="Asia/Shanghai"
    )
    assert effective(pool, SITE, NOON).spares == 2  # 19:00 there
    assert effective(pool, SITE, NOON + 4 * 3600 * 1000).spares == 0
    assert zone_of(pool, SITE) == ZoneInfo("Asia/Shanghai")
    assert zone_of(make_pool(), SITE) == ZoneInfo("Europe/Berlin")
    assert zone_of(None, SITE) == ZoneInfo("Europe/Berlin")
    assert zone_of(None, SiteSettings()) == ZoneInfo("UTC")


@pytest.mark.parametrize("name", ["Nowhere/Town", "../secret", "/etc/passwd"])
def test_a_zone_that_is_not_known_does_not_stop_the_planner(name: str) -> None:
    pool = make_pool(settings=PoolSettings(time_zone=name))
    assert zone_of(pool, SITE) == ZoneInfo("Europe/Berlin")
    assert zone_of(pool, SiteSettings(time_zone=name)) == ZoneInfo("UTC")


def test_holidays_are_the_sites() -> None:
    window = Window(on_holidays=OnHolidays.ONLY)
    entry = ScheduleEntry(name="holiday", window=window, spares_min=0)
    pool = pool_with(entry)
    site = SiteSettings(holidays=(Holiday(day=date(2026, 11, 20), name="Fair"),))
    assert entries_now(pool, site, NOON) == (entry,)
    assert entries_now(pool, SITE, NOON) == ()
