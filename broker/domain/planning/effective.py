"""A pool's settings as they are at an instant: its own, its schedule's, the site's state."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from broker.domain.calendar import holds
from broker.domain.model import Instant, Pool
from broker.domain.settings import ScheduleEntry, ServiceState, SiteSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What holds now, and why.

    open: people who have none may get a desktop. power: spares are kept and hosts stay on.
    makes: machines may be made. trims: surplus machines may go.
    """

    spares: int
    spares_suspended: int
    size_min: int
    open: bool
    power: bool
    makes: bool
    trims: bool
    why: str


def zone_of(pool: Pool | None, site: SiteSettings) -> ZoneInfo:
    """The pool's time zone, else the site's; UTC where a name is unknown on this machine."""
    for name in (pool.settings.time_zone if pool is not None else "", site.time_zone):
        try:
            if name:
                return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            continue
    return ZoneInfo("UTC")


def entries_now(pool: Pool, site: SiteSettings, now: Instant) -> tuple[ScheduleEntry, ...]:
    """The entries of the pool's schedule whose windows hold, in its order."""
    if not pool.settings.schedule:
        return ()
    zone = zone_of(pool, site)
    return tuple(
        entry for entry in pool.settings.schedule if holds(entry.window, now, zone, site.holidays)
    )


def _state(pool: Pool, site: SiteSettings) -> tuple[ServiceState, str]:
    """The stricter of the pool's state and the site's, and whose it is."""
    own = pool.settings.state
    if ServiceState.MAINTENANCE in {site.state, own}:
        who = "the site" if site.state is ServiceState.MAINTENANCE else pool.name
        return ServiceState.MAINTENANCE, f"{who} is under maintenance"
    if ServiceState.DRAINING in {site.state, own}:
        who = "the site" if site.state is ServiceState.DRAINING else pool.name
        return ServiceState.DRAINING, f"{who} drains"
    if not pool.enabled:
        return ServiceState.DRAINING, f"{pool.name} is disabled"
    return ServiceState.OPEN, f"{pool.name} is open"


def effective(pool: Pool, site: SiteSettings, now: Instant) -> Effective:
    """What the planner and the admission go by at `now`."""
    settings = pool.settings
    spares, suspended, size_min = pool.spares_min, settings.spares_suspended, settings.size_min
    opened, power = True, True
    names: list[str] = []
    for entry in entries_now(pool, site, now):
        names.append(entry.name)
        spares = spares if entry.spares_min is None else entry.spares_min
        suspended = suspended if entry.spares_suspended is None else entry.spares_suspended
        size_min = size_min if entry.size_min is None else entry.size_min
        opened = opened if entry.open is None else entry.open
        power = power if entry.power is None else entry.power
    state, why = _state(pool, site)
    if state is ServiceState.OPEN and not opened:
        why = f"{pool.name} is closed"
    if names:
        why += " (schedule: " + ", ".join(names) + ")"
    if not power:
        # what should exist exists suspended, so that its hosts can go off
        suspended, spares = max(suspended, size_min), 0
    maintained = state is ServiceState.MAINTENANCE
    return Effective(
        spares=0 if maintained else spares,
        spares_suspended=0 if maintained else suspended,
        size_min=0 if maintained else min(size_min, pool.size_max),
        open=opened and state is ServiceState.OPEN,
        power=power and not maintained,
        makes=state is ServiceState.OPEN,
        trims=state is not ServiceState.DRAINING,
        why=why,
    )
