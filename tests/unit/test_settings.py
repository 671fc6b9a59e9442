"""Settings of pools and hosts: what contradicts itself, and how the API writes them."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calendar import Holiday, OnHolidays, Window
from broker.domain.settings import HostSettings, PoolSettings, ScheduleEntry, Share
from broker.domain.settings_check import host_problems, pool_problems, zone_exists
from broker.web.api.settings import (
    HostSettingsBody,
    PoolSettingsBody,
    host_settings,
    pool_settings,
    show_host_settings,
    show_pool_settings,
)
from broker.web.api.windows import from_holiday, from_window, to_holiday, to_window
from tests.support.builders import make_pool

ENTRY = ScheduleEntry(name="lessons", window=Window(days=(0, 1), start_min=450, end_min=1020))


def faults(**changes: Any) -> list[str]:
    pool = make_pool(size_max=10, settings=replace(PoolSettings(), **changes))
    return [field for field, _ in pool_problems(pool)]


def test_the_settings_of_a_new_pool_are_sound() -> None:
    assert faults() == []
    assert list(host_problems(HostSettings())) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"size_min": 11}, "settings.size_min"),
        ({"spares_suspended": 11}, "settings.spares_suspended"),
        ({"time_zone": "Mars/Olympus"}, "settings.time_zone"),
        ({"time_zone": "../../etc/passwd"}, "settings.time_zone"),
        ({"guarantee": Share(cpus=1.01)}, "settings.guarantee"),
        ({"guarantee": Share(network=-0.1)}, "settings.guarantee"),
        ({"breaker_s": 60, "breaker_max_s": 59}, "settings.breaker_max_s"),
        ({"idle_s": 300, "warn_s": 300}, "settings.idle_s"),
        ({"session_max_s": 10, "warn_s": 20}, "settings.session_max_s"),
        ({"schedule": (ENTRY,) * 51}, "settings.schedule"),
        (
            {"schedule": (replace(ENTRY, window=Window(days=(7,))),)},
            "settings.schedule[0].window",
        ),
        (
            {"schedule": (ENTRY, replace(ENTRY, window=Window(start_min=1440)))},
            "settings.schedule[1].window",
        ),
        ({"schedule": (replace(ENTRY, spares_min=11),)}, "settings.schedule[0].spares_min"),
    ],
)
def test_a_contradiction_names_its_field(changes: dict[str, Any], field: str) -> None:
    assert faults(**changes) == [field]


def test_values_at_their_limits_are_sound() -> None:
    assert faults(size_min=10, spares_suspended=10, guarantee=Share(cpus=1.0, memory=0.0)) == []
    assert faults(breaker_s=60, breaker_max_s=60, idle_s=301, session_max_s=301) == []
    assert faults(schedule=(replace(ENTRY, spares_min=10, size_min=0),)) == []
    assert faults(time_zone="Europe/Berlin") == []


def test_a_zone_is_one_of_the_worlds_and_no_path() -> None:
    assert zone_exists("Asia/Shanghai")
    assert not zone_exists("Asia")
    assert not zone_exists("/etc/localtime")


def test_a_host_cannot_promise_less_than_it_has() -> None:
    few = HostSettings(overcommit_memory=0.5, overcommit_network=0.99)
    assert [field for field, _ in host_problems(few)] == [
        "settings.overcommit_memory",
        "settings.overcommit_network",
    ]


windows = st.builds(
    Window,
    days=st.sets(st.integers(0, 6)).map(lambda days: tuple(sorted(days))),
    start_min=st.integers(0, 1439),
    end_min=st.integers(0, 1440),
    on_holidays=st.sampled_from(OnHolidays),
)


@given(windows)
def test_a_window_survives_the_api(window: Window) -> None:
    assert to_window(from_window(window)) == window


def test_a_holiday_survives_the_api_and_must_be_a_day() -> None:
    one = Holiday(day=date(2027, 1, 1), name="New Year")
    assert to_holiday(from_holiday(one)) == one
    body = from_holiday(one)
    with pytest.raises(ValueError, match="month"):
        to_holiday(msgspec.structs.replace(body, day="2027-13-01"))


def test_every_setting_can_be_set_and_is_shown() -> None:
    names = {field.name for field in fields(PoolSettings)}
    assert set(PoolSettingsBody.__struct_fields__) == names
    assert set(HostSettingsBody.__struct_fields__) == {field.name for field in fields(HostSettings)}


def test_what_is_shown_can_be_sent_back_and_changes_nothing() -> None:
    settings = PoolSettings(
        schedule=(ENTRY, replace(ENTRY, name="night", spares_min=0, open=False)),
        labels=("gpu",),
        guarantee=Share(memory=1.0),
    )
    sent = msgspec.json.decode(
        msgspec.json.encode(show_pool_settings(settings)), type=PoolSettingsBody
    )
    assert pool_settings(sent, PoolSettings()) == settings
    host = HostSettings(labels=("gpu", "ssd"), power_managed=True)
    shown = msgspec.json.decode(
        msgspec.json.encode(show_host_settings(host)), type=HostSettingsBody
    )
    assert host_settings(shown, HostSettings()) == host


def test_what_is_left_out_stays_as_it_was() -> None:
    base = PoolSettings(idle_s=1200, labels=("gpu",))
    assert pool_settings(PoolSettingsBody(apart=True), base) == replace(base, apart=True)
    assert pool_settings(msgspec.UNSET, base) is base
    assert host_settings(msgspec.UNSET, HostSettings(idle_off_s=7)).idle_off_s == 7
    assert pool_settings(PoolSettingsBody(labels=["b", "a", "b"]), base).labels == ("b", "a")
