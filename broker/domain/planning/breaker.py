"""The circuit breaker of one pool on one host: after repeated failures it pauses, then tries one.

Closed: machines are made. Open: none, until a time. Half open: one machine is let through; its
success closes the breaker, its failure opens it again for twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from zoneinfo import ZoneInfo

from broker import limits
from broker.domain.calendar import local
from broker.domain.model import Instant
from broker.domain.settings import PoolSettings

TRIAL_MS = (limits.CREATE_S + limits.BOOT_S) * 1000
"""a machine let through that told nothing within this does not block the next"""
_DOUBLINGS_MAX = 30


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is remembered of one pool on one host.

    `failures`: consecutive ones. `opened`: how often in a row it opened, `since`: the first time
    of these. `until`: paused until then; None while closed. `trial_until`: a machine was let
    through and may tell until then. `error`: the latest failure's text.
    """

    failures: int = 0
    opened: int = 0
    since: Instant | None = None
    until: Instant | None = None
    trial_until: Instant | None = None
    error: str = ""


CLOSED = Breaker()


def state_of(breaker: Breaker, now: Instant) -> BreakerState:
    if breaker.until is None:
        return BreakerState.CLOSED
    return BreakerState.OPEN if now < breaker.until else BreakerState.HALF_OPEN


def pause_s(opened: int, settings: PoolSettings) -> int:
    """How long it stays open the `opened`-th time in a row, in seconds."""
    return min(settings.breaker_max_s, settings.breaker_s << min(opened - 1, _DOUBLINGS_MAX))


def failed(breaker: Breaker, settings: PoolSettings, now: Instant, error: str) -> Breaker:
    """After a machine could not be made. One that was begun before the breaker opened and fails
    while it is open is counted, and does not prolong the pause."""
    failures = breaker.failures + 1
    state = state_of(breaker, now)
    counted = replace(breaker, failures=failures, error=error)
    if state is BreakerState.OPEN:
        return counted
    if state is BreakerState.CLOSED and failures < settings.failures_max:
        return counted
    opened = breaker.opened + 1
    return Breaker(
        failures=failures,
        opened=opened,
        since=now if breaker.since is None else breaker.since,
        until=now + pause_s(opened, settings) * 1000,
        error=error,
    )


def succeeded(breaker: Breaker, now: Instant) -> Breaker:
    """After a machine was made: closed, and everything forgotten. While it is open only its
    count starts again: that machine was begun before."""
    if state_of(breaker, now) is BreakerState.OPEN:
        return replace(breaker, failures=0)
    return CLOSED


def begun(breaker: Breaker, now: Instant) -> Breaker:
    """After a machine was begun: half open, nobody else is let through until it told."""
    if state_of(breaker, now) is BreakerState.HALF_OPEN:
        return replace(breaker, trial_until=now + TRIAL_MS)
    return breaker


def permits(breaker: Breaker, now: Instant) -> int | None:
    """How many machines may be begun now; None: as many as one likes."""
    match state_of(breaker, now):
        case BreakerState.CLOSED:
            return None
        case BreakerState.OPEN:
            return 0
        case BreakerState.HALF_OPEN:
            waits = breaker.trial_until is not None and now < breaker.trial_until
            return 0 if waits else 1


def tries(breaker: Breaker, now: Instant) -> bool:
    """Whether one machine was let through that has told nothing yet."""
    half_open = state_of(breaker, now) is BreakerState.HALF_OPEN
    return half_open and permits(breaker, now) == 0


def told(breaker: Breaker, now: Instant, zone: ZoneInfo) -> str:
    """Why it lets nothing (more) through, for a person: "paused until 10:32 after 5 failures"."""
    about = f"after {breaker.failures} failures"
    if breaker.error:
        about += f": {breaker.error}"
    if breaker.until is not None and now < breaker.until:
        return f"paused until {local(breaker.until, zone):%H:%M} {about}"
    return f"tries one desktop {about}"
