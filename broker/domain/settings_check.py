"""What is wrong with settings, in words, by field: contradictions that no single field shows."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from broker.domain.calendar import MINUTES_A_DAY, Window
from broker.domain.model import LogOff, Pool, PoolKind
from broker.domain.settings import HostSettings, Share, SiteSettings
from broker.domain.storage import CLASS_NAME
from broker.limits import (
    HOLIDAYS_MAX,
    LOST_AFTER_S_MIN,
    NOTICE_CHARS_MAX,
    SCHEDULE_ENTRIES_MAX,
)

Problem = tuple[str, str]
"""(field, sentence)"""

LAST_DAY = 6
KEPT_FOR_NOBODY = (
    "a floating desktop goes to the next person, so it cannot be kept; "
    "reset or delete it at log-off, or make the pool dedicated"
)


def zone_exists(name: str) -> bool:
    """Whether this is a time zone by its IANA name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def window_problems(window: Window) -> Iterator[str]:
    """Everything about this window that cannot be."""
    if any(not 0 <= day <= LAST_DAY for day in window.days):
        yield "a day is outside Monday to Sunday"
    edges = (window.start_min, window.end_min)
    if any(not 0 <= minute <= MINUTES_A_DAY for minute in edges):
        yield "a time is outside 00:00 to 24:00"
    if window.start_min == MINUTES_A_DAY:
        yield "a window cannot begin at 24:00"


def _fractions(share: Share) -> bool:
    return all(0 <= value <= 1 for value in (share.cpus, share.memory, share.disk, share.network))


def pool_problems(pool: Pool) -> Iterator[Problem]:
    """Everything about this pool that cannot be."""
    settings = pool.settings
    if pool.kind is PoolKind.FLOATING and pool.log_off is LogOff.KEEP:
        yield "log_off", KEPT_FOR_NOBODY
    yield from _size_problems(pool)
    if settings.time_zone and not zone_exists(settings.time_zone):
        yield "settings.time_zone", f"there is no time zone {settings.time_zone!r}"
    if not _fractions(settings.guarantee):
        yield "settings.guarantee", "a guarantee is a part of the whole, from 0 to 1"
    yield from _limit_problems(pool)
    if settings.storage and not CLASS_NAME.fullmatch(settings.storage):
        text = "a class's name has letters, digits, dots, dashes and underscores, 64 at most"
        yield "settings.storage", text
    if settings.breaker_max_s < settings.breaker_s:
        yield "settings.breaker_max_s", "the longest pause is shorter than the first"
    for field in ("idle_s", "session_max_s"):
        limit = getattr(settings, field)
        if limit and limit <= settings.warn_s:
            text = f"a limit of {limit} s leaves no room to warn {settings.warn_s} s ahead"
            yield f"settings.{field}", text
    yield from _schedule_problems(pool)


def _limit_problems(pool: Pool) -> Iterator[Problem]:
    limits, average = pool.settings.limits, pool.resources.network_mbit
    if limits.network_peak_mbit and not average:
        text = "a peak is above an average, and the pool's size names none (network_mbit)"
        yield "settings.limits.network_peak_mbit", text
    elif limits.network_peak_mbit and limits.network_peak_mbit < average:
        text = f"a peak of {limits.network_peak_mbit} Mbit/s is below the average of {average}"
        yield "settings.limits.network_peak_mbit", text
    if limits.network_burst_mib and not average:
        text = "a burst goes beyond an average, and the pool's size names none (network_mbit)"
        yield "settings.limits.network_burst_mib", text


def _size_problems(pool: Pool) -> Iterator[Problem]:
    settings, most = pool.settings, pool.size_max
    if pool.spares_min > most:
        yield "spares_min", f"{pool.spares_min} spares do not fit into a pool of {most}"
    if settings.size_min > most:
        yield "settings.size_min", f"at least {settings.size_min} and at most {most} cannot both be"
    if settings.spares_suspended > most:
        text = f"{settings.spares_suspended} suspended spares do not fit into a pool of {most}"
        yield "settings.spares_suspended", text


def _schedule_problems(pool: Pool) -> Iterator[Problem]:
    schedule = pool.settings.schedule
    if len(schedule) > SCHEDULE_ENTRIES_MAX:
        yield "settings.schedule", f"more than {SCHEDULE_ENTRIES_MAX} entries"
    for number, entry in enumerate(schedule):
        for text in window_problems(entry.window):
            yield f"settings.schedule[{number}].window", f"{entry.name}: {text}"
        for field in ("spares_min", "spares_suspended", "size_min"):
            value = getattr(entry, field)
            if value is not None and value > pool.size_max:
                text = f"{entry.name}: {value} do not fit into a pool of {pool.size_max}"
                yield f"settings.schedule[{number}].{field}", text


def host_problems(settings: HostSettings) -> Iterator[Problem]:
    for field in ("overcommit_memory", "overcommit_disk", "overcommit_network"):
        if getattr(settings, field) < 1:
            yield f"settings.{field}", "less than 1 would leave a part of the host unused"


def site_problems(settings: SiteSettings) -> Iterator[Problem]:
    """Everything about the site's settings that cannot be."""
    if not zone_exists(settings.time_zone):
        yield "time_zone", f"there is no time zone {settings.time_zone!r}"
    if len(settings.message) > NOTICE_CHARS_MAX:
        yield "message", f"more than {NOTICE_CHARS_MAX} characters"
    if len(settings.holidays) > HOLIDAYS_MAX:
        yield "holidays", f"more than {HOLIDAYS_MAX} holidays"
    if len({one.day for one in settings.holidays}) < len(settings.holidays):
        yield "holidays", "a day is named twice"
    if min(settings.desktops_max, settings.memory_mib_max) < 0:
        yield "desktops_max", "a limit is 0 (none) or more"
    if not 0 <= settings.rebalance_above <= 1:
        yield "rebalance_above", "a share is from 0 to 1"
    if settings.lost_after_s and settings.lost_after_s < LOST_AFTER_S_MIN:
        yield "lost_after_s", f"a host is waited for {LOST_AFTER_S_MIN} s at least; 0: for ever"
    if not 0 < settings.rebalance_by <= 1:
        yield "rebalance_by", "a share is above 0, and at most 1"
