"""Idle time and maximum time of a live session: when each ends it, and when to look again.

Nobody is put out without a warning while the pool asks for one (`warn_s`): not when a limit was
lowered under the session, nor when no broker was there to warn in time. A warning is a message
whose id names the limit and its instant, so a later look knows that it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from broker.domain.model import Instant, Session
from broker.domain.settings import PoolSettings
from broker.limits import GUEST_INPUT_S, SESSION_LOOK_S


class Signs(StrEnum):
    """What is known of a viewer's bytes."""

    INPUT = "input"
    """they are the person's doing"""
    DEVICES = "devices"
    """perhaps: the viewer speaks by itself, too. Input comes through the machine's own devices"""
    SERVER = "server"
    """perhaps, likewise. Input comes through a server in the desktop, past its devices"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A viewer's bytes, the last at that instant, to that desktop."""

    at: Instant
    desktop_id: str
    generation: int
    signs: Signs


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a desktop's agent told lately: at that instant its person had been idle for so long.
    `whole`: whatever way the input comes; else only through the machine's own devices."""

    at: Instant
    idle_ms: int
    whole: bool = False


def last_input(heard: Heard, told: Told | None) -> tuple[Instant, bool]:
    """When the person did something last, and whether that is settled: as long as it is not, the
    bytes may be input of which the agent could not tell yet, and it is to be asked again.

    Bytes count as input wherever no agent is heard that would have seen it.
    """
    if heard.signs is Signs.INPUT or told is None:
        return heard.at, True
    if heard.signs is Signs.SERVER and not told.whole:
        return heard.at, True
    return told.at - told.idle_ms, told.at >= heard.at + GUEST_INPUT_S * 1000


class Limit(StrEnum):
    IDLE = "idle"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is due at a live session now. At most one of `warn` and `over` is set; `at` is the
    instant of that limit. `again_at` is later than now."""

    again_at: Instant
    warn: Limit | None = None
    over: Limit | None = None
    at: Instant | None = None


def ends_at(session: Session, settings: PoolSettings) -> Instant | None:
    """When the pool's maximum time is over for it; None without a maximum, or before it was live.

    `session.ends_at` is what somebody extended it to: until then the pool's setting holds, also
    one that is changed under the session.
    """
    if settings.session_max_s == 0 or session.live_at is None:
        return None
    if session.ends_at is not None:
        return session.ends_at
    return session.live_at + settings.session_max_s * 1000


def idle_at(session: Session, settings: PoolSettings) -> Instant | None:
    """When its person will have been idle for too long; None without a limit."""
    last = session.live_at if session.active_at is None else session.active_at
    if settings.idle_s == 0 or last is None:
        return None
    return last + settings.idle_s * 1000


def warning_id(session: Session, limit: Limit, at: Instant) -> str:
    return f"{session.id}:{limit}:{at}"


def look(session: Session, settings: PoolSettings, now: Instant) -> Look:
    """What is due at a live session, and when to look next: after SESSION_LOOK_S at the latest.

    One warning stands at a time: a second would take the place of the first.
    """
    warn_ms = settings.warn_s * 1000
    latest = now + SESSION_LOOK_S * 1000
    limits = sorted(_limits(session, settings))
    told = [
        # the limit that the newest message names goes first
        (acts_at, not _named(session, limit, at), limit, at)
        for at, limit in limits
        if (acts_at := _acts_at(session, limit, at, warn_ms)) is not None
    ]
    for acts_at, _, limit, at in sorted(told):
        if acts_at <= now:
            return Look(again_at=latest, over=limit, at=at)
        return Look(again_at=min(acts_at, latest))
    for at, limit in limits:
        if now < at - warn_ms:
            return Look(again_at=min(at - warn_ms, latest))
        acts_at = at if at - now >= warn_ms // 2 else now + warn_ms
        return Look(again_at=min(acts_at, latest), warn=limit, at=at)
    return Look(again_at=latest)


def _limits(session: Session, settings: PoolSettings) -> Iterator[tuple[Instant, Limit]]:
    idle, end = idle_at(session, settings), ends_at(session, settings)
    if idle is not None:
        yield idle, Limit.IDLE
    if end is not None:
        yield end, Limit.END


def _acts_at(session: Session, limit: Limit, at: Instant, warn_ms: int) -> Instant | None:
    """When the limit may end the session; None while its person was not warned."""
    if warn_ms == 0:
        return at
    if session.notice is not None and _named(session, limit, at):
        warned_at = session.notice.at
        return at if at - warned_at >= warn_ms // 2 else warned_at + warn_ms
    # it was given, and another message came after it: looks are at that instant for nothing else
    return at if session.deadline_at == at else None


def _named(session: Session, limit: Limit, at: Instant) -> bool:
    return session.notice is not None and session.notice.id == warning_id(session, limit, at)
