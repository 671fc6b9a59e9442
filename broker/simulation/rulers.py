"""What administrators set, drawn from the seed: for pools, hosts and the site, rules and quotas."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from broker.domain.calendar import MINUTES_A_DAY, OnHolidays, Window
from broker.domain.model import Resources
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.settings import (
    AfterGrace,
    HostSettings,
    PoolSettings,
    ScheduleEntry,
    Share,
    SiteSettings,
    Spread,
    TakeOver,
    WhenIdle,
)
from broker.simulation.seams import EPOCH_MS

SIZE: Final = Resources(cpus=2, memory_mib=4096)
GROUPS: Final = ("grp_00000001", "grp_00000002")
NETWORKS: Final = ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
"""where people are: person N comes from the (N modulo 3)th"""
_SESSIONS: Final = {QuotaScope.USER: (1, 2), QuotaScope.GROUP: (4, 15), QuotaScope.POOL: (2, 8)}
_BEGIN_MIN: Final = EPOCH_MS // 60_000 % MINUTES_A_DAY
_RUN_MIN: Final = 25
"""minutes of virtual time that most runs take"""


def address_of(number: int) -> str:
    """Where the person of this number makes requests from."""
    return f"10.{1 + number % len(NETWORKS)}.0.{number % 250 + 1}"


def draw_window(chance: Random) -> Window:
    """A few minutes on every day, within a run."""
    start = (_BEGIN_MIN + chance.randint(0, _RUN_MIN)) % MINUTES_A_DAY
    end = (start + chance.randint(2, 8)) % MINUTES_A_DAY
    return Window(start_min=start, end_min=end, on_holidays=OnHolidays.ALSO)


def _schedule(chance: Random, size_max: int) -> tuple[ScheduleEntry, ...]:
    entries: list[ScheduleEntry] = []
    for number in range(chance.choice((0, 0, 1, 2, 3))):
        kind = chance.choice(("spares", "power", "closed", "size"))
        entry = ScheduleEntry(
            name=f"{kind} {number}",
            window=draw_window(chance),
            spares_min=chance.randint(0, size_max) if kind == "spares" else None,
            spares_suspended=chance.randint(0, 1) if kind == "spares" else None,
            size_min=chance.randint(1, size_max) if kind == "size" else None,
            open=False if kind == "closed" else None,
            power=False if kind == "power" else None,
        )
        entries.append(entry)
    return tuple(entries)


def draw_pool_settings(chance: Random, size_max: int, *, vdi: bool) -> PoolSettings:
    """A pool as some administrator has it: most things are as they come, some are not."""
    idle_s = chance.choice((0, 0, 0, 25, 60))
    session_max_s = chance.choice((0, 0, 0, 90, 240))
    return PoolSettings(
        size_min=chance.choice((0, 0, 1, size_max)) if vdi else 0,
        spares_suspended=chance.choice((0, 0, 1, 2)) if vdi else 0,
        refill_batch=chance.choice((1, 2, 50)),
        after_grace=chance.choice((AfterGrace.LOG_OFF, AfterGrace.SUSPEND, AfterGrace.SUSPEND)),
        keep_suspended_s=chance.choice((60, 200, 600)),
        idle_s=idle_s,
        when_idle=chance.choice(tuple(WhenIdle)),
        session_max_s=session_max_s,
        warn_s=chance.choice((5, 20)),
        take_over=chance.choice((TakeOver.MOVE, TakeOver.MOVE, TakeOver.ASK, TakeOver.REFUSE)),
        consent_s=chance.choice((10, 40)),
        spread=chance.choice(tuple(Spread)),
        guarantee=Share(cpus=chance.choice((0.0, 0.5)), memory=chance.choice((0.0, 0.0, 1.0))),
        apart=chance.random() < 0.2,
        schedule=_schedule(chance, size_max) if vdi else (),
        scale_in_after_s=chance.choice((20, 60, 900)),
        failures_max=chance.choice((3, 5)),
        breaker_s=chance.choice((10, 30)),
        breaker_max_s=120,
    )


def draw_host_settings(chance: Random) -> HostSettings:
    return HostSettings(
        overcommit_memory=chance.choice((1.0, 1.0, 1.25)),
        power_managed=chance.random() < 0.25,
        idle_off_s=chance.choice((60, 200)),
    )


def draw_site(chance: Random) -> SiteSettings:
    """The tenant's limits bind some installations, and some move desktops between hosts."""
    return SiteSettings(
        time_zone="UTC",
        desktops_max=chance.choice((0, 0, 5, 9)),
        memory_mib_max=chance.choice((0, 0, 5, 9)) * SIZE.memory_mib,
        rebalance_above=chance.choice((0.0, 0.0, 0.7)),
    )


def draw_rule(
    chance: Random, number: int, pool_ids: Sequence[str], endpoint_ids: Sequence[str]
) -> EntitlementRule:
    """One rule, most of which deny something to some, somewhere, for a while."""
    if chance.random() < 0.25:
        return EntitlementRule(
            id=f"rul_{number:08d}",
            name=f"rule-{number}",
            effect=Effect.ALLOW,
            group_ids=(chance.choice(GROUPS),),
            pool_ids=(chance.choice(pool_ids),),
        )
    kind = chance.choice(("group", "endpoint", "calendar", "network", "person"))
    return EntitlementRule(
        id=f"rul_{number:08d}",
        name=f"rule-{number}",
        effect=Effect.DENY,
        pool_ids=(chance.choice(pool_ids),),
        group_ids=(chance.choice(GROUPS),) if kind == "group" else (),
        endpoint_ids=(chance.choice(endpoint_ids),) if kind == "endpoint" else (),
        windows=(draw_window(chance),) if kind in {"calendar", "group"} else (),
        networks=(chance.choice(NETWORKS),) if kind == "network" else (),
        user_ids=tuple(f"usr_{chance.randint(1, 24):08d}" for _ in range(3))
        if kind == "person"
        else (),
    )


def draw_rules(
    chance: Random, pool_ids: Sequence[str], endpoint_ids: Sequence[str]
) -> tuple[EntitlementRule, ...]:
    return tuple(
        draw_rule(chance, number, pool_ids, endpoint_ids)
        for number in range(1, 1 + chance.choice((0, 0, 1, 2)))
    )


def draw_quota(chance: Random, number: int, pool_ids: Sequence[str]) -> Quota:
    scope = chance.choice(tuple(QuotaScope))
    pools: tuple[str, ...] = (chance.choice(pool_ids),) if chance.random() < 0.5 else ()
    if scope is QuotaScope.POOL and not pools:
        pools = tuple(pool_ids[:2])
    most = chance.randint(*_SESSIONS[scope])
    return Quota(
        id=f"quo_{number:08d}",
        name=f"quota-{number}",
        scope=scope,
        sessions_max=most,
        group_id=chance.choice(GROUPS) if scope is QuotaScope.GROUP else None,
        pool_ids=pools,
    )


def draw_quotas(chance: Random, pool_ids: Sequence[str]) -> tuple[Quota, ...]:
    return tuple(
        draw_quota(chance, number, pool_ids) for number in range(1, 1 + chance.choice((0, 1, 1, 2)))
    )
