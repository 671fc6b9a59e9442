"""Contradictions in settings, rules and quotas are named by field; what is sound is left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from broker.domain.calendar import Holiday, Window
from broker.domain.model import Architecture, LogOff, PoolKind, Resources
from broker.domain.policy.check import quota_problems, rule_problems
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.settings import (
    HostSettings,
    Limits,
    PoolSettings,
    ScheduleEntry,
    Share,
    SiteSettings,
)
from broker.domain.settings_check import (
    host_problems,
    pool_problems,
    site_problems,
    window_problems,
    zone_exists,
)
from broker.limits import (
    HOLIDAYS_MAX,
    NOTICE_CHARS_MAX,
    RULE_PARTS_MAX,
    SCHEDULE_ENTRIES_MAX,
)
from tests.support.builders import make_pool
from tests.support.policies import allow, make_quota


def pool_said(size_max: int = 10, spares_min: int = 2, **settings: Any) -> list[tuple[str, str]]:
    pool = make_pool(size_max=size_max, spares_min=spares_min, settings=PoolSettings(**settings))
    return list(pool_problems(pool))


# ------------------------------------------------------------------------------- zones, windows


@pytest.mark.parametrize(
    ("name", "known"),
    [("Asia/Shanghai", True), ("UTC", True), ("Mars/Base", False), ("../etc", False), ("", False)],
)
def test_a_time_zone_is_one_of_the_worlds(name: str, known: bool) -> None:
    assert zone_exists(name) is known


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (Window(days=(0, 6), start_min=0, end_min=1440), []),
        (Window(start_min=1439, end_min=0), []),
        (Window(days=(0, 7)), ["a day is outside Monday to Sunday"]),
        (Window(days=(-1,)), ["a day is outside Monday to Sunday"]),
        (Window(start_min=-1), ["a time is outside 00:00 to 24:00"]),
        (Window(end_min=1441), ["a time is outside 00:00 to 24:00"]),
        (Window(start_min=1440), ["a window cannot begin at 24:00"]),
    ],
)
def test_windows(window: Window, said: list[str]) -> None:
    assert list(window_problems(window)) == said


# ------------------------------------------------------------------------------- pools


def test_sound_pools_are_left_alone() -> None:
    assert pool_said() == []
    full = {"size_min": 10, "spares_suspended": 10, "breaker_s": 60, "breaker_max_s": 60}
    share = Share(cpus=1, memory=0, disk=1, network=1)
    assert pool_said(spares_min=10, guarantee=share, idle_s=301, session_max_s=301, **full) == []


@pytest.mark.parametrize(
    ("average", "limits", "said"),
    [
        (100, Limits(network_peak_mbit=100, network_burst_mib=1, disk_mib_s=1), []),
        (0, Limits(disk_mib_s=1), []),
        (
            100,
            Limits(network_peak_mbit=99),
            [("network_peak_mbit", "a peak of 99 Mbit/s is below the average of 100")],
        ),
        (
            0,
            Limits(network_peak_mbit=1, network_burst_mib=1),
            [
                (
                    "network_peak_mbit",
                    "a peak is above an average, and the pool's size names none (network_mbit)",
                ),
                (
                    "network_burst_mib",
                    "a burst goes beyond an average, and the pool's size names none (network_mbit)",
                ),
            ],
        ),
    ],
)
def test_a_peak_and_a_burst_go_beyond_an_average(
    average: int, limits: Limits, said: list[tuple[str, str]]
) -> None:
    size = Resources(cpus=1, memory_mib=1024, network_mbit=average)
    pool = make_pool(resources=size, settings=PoolSettings(limits=limits))
    assert list(pool_problems(pool)) == [(f"settings.limits.{one}", text) for one, text in said]


@pytest.mark.parametrize("architecture", list(Architecture))
def test_what_one_person_left_is_not_kept_for_the_next(architecture: Architecture) -> None:
    pool = make_pool(architecture=architecture, log_off=LogOff.KEEP)
    assert [field for field, _ in pool_problems(pool)] == ["log_off"]
    assert list(pool_problems(replace(pool, kind=PoolKind.DEDICATED))) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spares_min": 11}, ("spares_min", "11 spares do not fit into a pool of 10")),
        ({"size_min": 11}, ("settings.size_min", "at least 11 and at most 10 cannot both be")),
        (
            {"spares_suspended": 11},
            ("settings.spares_suspended", "11 suspended spares do not fit into a pool of 10"),
        ),
        (
            {"time_zone": "Mars/Base"},
            ("settings.time_zone", "there is no time zone 'Mars/Base'"),
        ),
        (
            {"breaker_s": 61, "breaker_max_s": 60},
            ("settings.breaker_max_s", "the longest pause is shorter than the first"),
        ),
        (
            {"idle_s": 300},
            ("settings.idle_s", "a limit of 300 s leaves no room to warn 300 s ahead"),
        ),
        (
            {"session_max_s": 1},
            ("settings.session_max_s", "a limit of 1 s leaves no room to warn 300 s ahead"),
        ),
    ],
)
def test_a_pools_contradictions(settings: dict[str, Any], said: tuple[str, str]) -> None:
    assert pool_said(**settings) == [said]


@pytest.mark.parametrize("field", ["cpus", "memory", "disk", "network"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_guarantee_is_a_part_of_each(field: str, value: float) -> None:
    assert pool_said(guarantee=Share(**{field: value})) == [
        ("settings.guarantee", "a guarantee is a part of the whole, from 0 to 1")
    ]


def test_a_schedules_entries() -> None:
    sound = ScheduleEntry(name="sound", window=Window(), spares_min=10, size_min=10)
    wrong = ScheduleEntry(
        name="night",
        window=Window(start_min=1440),
        spares_min=11,
        spares_suspended=12,
        size_min=13,
    )
    assert pool_said(schedule=(sound, wrong)) == [
        ("settings.schedule[1].window", "night: a window cannot begin at 24:00"),
        ("settings.schedule[1].spares_min", "night: 11 do not fit into a pool of 10"),
        ("settings.schedule[1].spares_suspended", "night: 12 do not fit into a pool of 10"),
        ("settings.schedule[1].size_min", "night: 13 do not fit into a pool of 10"),
    ]
    assert pool_said(schedule=(sound,) * SCHEDULE_ENTRIES_MAX) == []
    assert pool_said(schedule=(sound,) * (SCHEDULE_ENTRIES_MAX + 1)) == [
        ("settings.schedule", f"more than {SCHEDULE_ENTRIES_MAX} entries")
    ]


# ------------------------------------------------------------------------------- hosts, site


@pytest.mark.parametrize("field", ["overcommit_memory", "overcommit_disk", "overcommit_network"])
def test_a_host_promises_at_least_what_it_has(field: str) -> None:
    exact: dict[str, Any] = {field: 1.0}
    less: dict[str, Any] = {field: 0.99}
    assert list(host_problems(HostSettings(**exact))) == []
    assert list(host_problems(HostSettings(**less))) == [
        (f"settings.{field}", "less than 1 would leave a part of the host unused")
    ]


DAYS = tuple(
    Holiday(day=date(2026, 1, 1) + timedelta(days=n), name="x") for n in range(HOLIDAYS_MAX + 1)
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"time_zone": "Mars/Base"}, ("time_zone", "there is no time zone 'Mars/Base'")),
        (
            {"message": "x" * (NOTICE_CHARS_MAX + 1)},
            ("message", f"more than {NOTICE_CHARS_MAX} characters"),
        ),
        ({"holidays": DAYS}, ("holidays", f"more than {HOLIDAYS_MAX} holidays")),
        ({"holidays": (DAYS[0], DAYS[0])}, ("holidays", "a day is named twice")),
        ({"desktops_max": -1}, ("desktops_max", "a limit is 0 (none) or more")),
        ({"memory_mib_max": -1}, ("desktops_max", "a limit is 0 (none) or more")),
        ({"rebalance_above": 1.01}, ("rebalance_above", "a share is from 0 to 1")),
        ({"rebalance_above": -0.01}, ("rebalance_above", "a share is from 0 to 1")),
        ({"rebalance_by": 0.0}, ("rebalance_by", "a share is above 0, and at most 1")),
        ({"rebalance_by": 1.01}, ("rebalance_by", "a share is above 0, and at most 1")),
    ],
)
def test_a_sites_contradictions(changes: dict[str, Any], said: tuple[str, str]) -> None:
    assert list(site_problems(SiteSettings(**changes))) == [said]


def test_a_sound_site_is_left_alone() -> None:
    assert list(site_problems(SiteSettings())) == []
    limits = SiteSettings(
        message="x" * NOTICE_CHARS_MAX,
        holidays=DAYS[:-1],
        desktops_max=1,
        memory_mib_max=1,
        rebalance_above=1.0,
        rebalance_by=1.0,
    )
    assert list(site_problems(limits)) == []


# ------------------------------------------------------------------------------- rules, quotas

MANY = tuple(f"x_{n}" for n in range(RULE_PARTS_MAX + 1))


def rule(**changes: Any) -> EntitlementRule:
    return replace(allow(), **({"user_ids": ("usr_1",), "group_ids": ()} | changes))


def test_a_sound_rule_is_left_alone() -> None:
    assert list(rule_problems(rule())) == []
    assert list(rule_problems(rule(user_ids=(), group_ids=("grp_1",)))) == []
    assert list(rule_problems(rule(user_ids=(), effect=Effect.DENY))) == []
    assert list(rule_problems(rule(networks=("10.2.0.0/16", "2001:db8::/32")))) == []
    assert list(rule_problems(rule(user_ids=MANY[1:]))) == []


@pytest.mark.parametrize(
    ("part", "field"),
    [("user_ids", "users"), ("group_ids", "groups"), ("pool_ids", "pools"),
     ("endpoint_ids", "endpoints")],
)  # fmt: skip
def test_a_rule_names_no_more_than_its_limit(part: str, field: str) -> None:
    assert list(rule_problems(rule(**{part: MANY}))) == [
        (field, f"more than {RULE_PARTS_MAX} are named")
    ]


def test_a_rules_networks_and_windows() -> None:
    assert list(rule_problems(rule(networks=("10.0.0.0/99",)))) == [
        ("networks", "'10.0.0.0/99' is not a network such as 10.2.0.0/16 or 2001:db8::/32")
    ]
    many = ("10.2.0.0/16",) * (RULE_PARTS_MAX + 1)
    assert list(rule_problems(rule(networks=many))) == [
        ("networks", f"more than {RULE_PARTS_MAX} are named")
    ]
    assert list(rule_problems(rule(windows=(Window(start_min=1440),)))) == [
        ("windows", "a window cannot begin at 24:00")
    ]
    assert list(rule_problems(rule(windows=(Window(),) * (RULE_PARTS_MAX + 1)))) == [
        ("windows", f"more than {RULE_PARTS_MAX} are named")
    ]


def test_who_is_allowed_must_be_said() -> None:
    assert list(rule_problems(rule(user_ids=()))) == [
        ("users", "a rule that allows names at least a person or a group")
    ]


def quota(scope: QuotaScope, **changes: Any) -> Quota:
    values = {"scope": scope, "group_id": None, "pool_ids": (), "sessions_max": 5}
    return replace(make_quota(), **(values | changes))


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (quota(QuotaScope.USER), []),
        (quota(QuotaScope.USER, sessions_max=0), []),
        (quota(QuotaScope.USER, sessions_max=1_000_000), []),
        (quota(QuotaScope.GROUP, group_id="grp_1"), []),
        (quota(QuotaScope.POOL, pool_ids=("pol_1",)), []),
        (
            quota(QuotaScope.USER, sessions_max=-1),
            [("sessions_max", "a quota is a number from 0 to 1000000")],
        ),
        (
            quota(QuotaScope.USER, sessions_max=1_000_001),
            [("sessions_max", "a quota is a number from 0 to 1000000")],
        ),
        (
            quota(QuotaScope.USER, pool_ids=MANY),
            [("pools", f"more than {RULE_PARTS_MAX} are named")],
        ),
        (quota(QuotaScope.USER, pool_ids=MANY[1:]), []),
        (quota(QuotaScope.GROUP), [("group", "a quota of a group names the group")]),
        (quota(QuotaScope.POOL), [("pools", "a quota of pools names them")]),
        (
            quota(QuotaScope.POOL, pool_ids=("pol_1",), group_id="grp_1"),
            [("group", "a quota of pools counts everybody, so it names no group")],
        ),
    ],
)
def test_quotas(one: Quota, said: list[tuple[str, str]]) -> None:
    assert list(quota_problems(one)) == said
