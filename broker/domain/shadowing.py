"""Shadowing: the staff looks at, or takes part in, somebody's live session, with his consent.

A shadow is asked for, allowed or refused by the person in the browser that shows the desktop,
opened once, and ends. It holds for one showing of one desktop: whatever changes of these ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from broker.domain.model import Instant, Session, SessionState
from broker.domain.settings import Shadowing
from broker.limits import SHADOW_LEASE_S, SHADOW_OPEN_S, SHADOW_S_MAX


class ShadowMode(StrEnum):
    """View: looks on. Interactive: keyboard and pointer work, too."""

    VIEW = "view"
    INTERACTIVE = "interactive"


class ShadowState(StrEnum):
    """Asked: the person has not answered yet. Allowed: he has, and it is not open yet."""

    ASKED = "asked"
    ALLOWED = "allowed"
    OPEN = "open"
    REFUSED = "refused"
    ENDED = "ended"


class ShadowEnd(StrEnum):
    """Why a shadow is over: stable codes, for its viewer and for programs."""

    REFUSED = "shadow.refused"
    NO_ANSWER = "shadow.no_answer"
    STOPPED = "shadow.stopped"
    ENDED = "shadow.ended"
    VIEWER_CLOSED = "shadow.viewer_closed"
    VIEWER_STALLED = "shadow.viewer_stalled"
    BAD_INPUT = "shadow.bad_input"
    DESKTOP_CLOSED = "shadow.desktop_closed"
    SESSION_OVER = "shadow.session_over"
    MOVED = "shadow.moved"
    NOT_ALLOWED = "shadow.not_allowed"
    SIGNED_OUT = "shadow.signed_out"
    NOT_OPENED = "shadow.not_opened"
    BROKER_STOPS = "shadow.broker_stops"
    BROKER_GONE = "shadow.broker_gone"
    UNCHECKED = "shadow.unchecked"
    TIME_LIMIT = "shadow.time_limit"


ENDS: Final[Mapping[ShadowEnd, str]] = {
    ShadowEnd.REFUSED: "the person refused",
    ShadowEnd.NO_ANSWER: "the person did not answer in time, which is a no",
    ShadowEnd.STOPPED: "the person stopped it",
    ShadowEnd.ENDED: "the staff ended it",
    ShadowEnd.VIEWER_CLOSED: "the viewer was closed",
    ShadowEnd.VIEWER_STALLED: "the viewer took no picture for too long",
    ShadowEnd.BAD_INPUT: "the viewer said something that is not let through",
    ShadowEnd.DESKTOP_CLOSED: "the desktop closed the display",
    ShadowEnd.SESSION_OVER: "the session is not open any more",
    ShadowEnd.MOVED: "the session's display was opened anew, or somewhere else",
    ShadowEnd.NOT_ALLOWED: "the pool's settings do not allow it any more",
    ShadowEnd.SIGNED_OUT: "the viewer signed out, or may not shadow any more",
    ShadowEnd.NOT_OPENED: "it was allowed, but not opened in time",
    ShadowEnd.BROKER_STOPS: "the broker that showed it stops",
    ShadowEnd.BROKER_GONE: "the broker that showed it is gone",
    ShadowEnd.UNCHECKED: "the database did not answer, so nobody could have stopped it",
    ShadowEnd.TIME_LIMIT: "it was open for as long as one may be",
}

_LATE: Final[Mapping[ShadowState, ShadowEnd]] = {
    ShadowState.ASKED: ShadowEnd.NO_ANSWER,
    ShadowState.ALLOWED: ShadowEnd.NOT_OPENED,
    ShadowState.OPEN: ShadowEnd.BROKER_GONE,
}
LIVE: Final = frozenset(_LATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """One wish of the staff to see one showing of one desktop, from asked to over.

    user_id: whose session it is. display: the showing that the person was asked in.
    until: by when the next step must be taken; while it is open, its broker's sign of life.
    ticket: the hash, in hexadecimal, of what opens it once; empty: nothing does. browser: the
    sign-in that the ticket was given to. why: a code, once it is over.
    """

    id: str
    session_id: str
    user_id: str
    staff_id: str
    staff_name: str
    mode: ShadowMode
    reason: str
    desktop_id: str
    generation: int
    display: str
    asked_at: Instant
    changed_at: Instant
    until: Instant
    state: ShadowState = ShadowState.ASKED
    ends_at: Instant | None = None
    ticket: str = ""
    browser: str = ""
    why: ShadowEnd | None = None

    @property
    def live(self) -> bool:
        return self.state in LIVE


def may_be_asked(session: Session, policy: Shadowing, mode: ShadowMode) -> str:
    """Why nobody may be asked for this, as a sentence; empty: he may be."""
    if policy is Shadowing.OFF:
        return "sessions of this pool are not shadowed"
    if policy is Shadowing.VIEW and mode is not ShadowMode.VIEW:
        return "sessions of this pool may be looked at, but nobody takes part in them"
    if session.state is not SessionState.ACTIVE or session.desktop_id is None:
        return f"the session is {session.state}: its display is not open"
    return ""


def lapsed(shadow: Shadow, session: Session | None, now: Instant) -> ShadowEnd | None:
    """Why a live shadow cannot go on; None: it can."""
    if session is None or session.state is not SessionState.ACTIVE:
        return ShadowEnd.SESSION_OVER
    shown = (session.desktop_id, session.generation, session.endpoint_id, session.display)
    if shown != (shadow.desktop_id, shadow.generation, None, shadow.display):
        return ShadowEnd.MOVED
    if shadow.ends_at is not None and now >= shadow.ends_at:
        return ShadowEnd.TIME_LIMIT
    return _LATE[shadow.state] if now >= shadow.until else None


def allowed(shadow: Shadow, now: Instant) -> Shadow:
    """The person said yes: it must be opened within SHADOW_OPEN_S."""
    until = now + SHADOW_OPEN_S * 1000
    return replace(shadow, state=ShadowState.ALLOWED, changed_at=now, until=until)


def opened(shadow: Shadow, now: Instant) -> Shadow:
    """Its ticket was used up; it lasts SHADOW_S_MAX at most."""
    return replace(
        shadow,
        state=ShadowState.OPEN,
        changed_at=now,
        until=now + SHADOW_LEASE_S * 1000,
        ends_at=now + SHADOW_S_MAX * 1000,
        ticket="",
    )


def over(shadow: Shadow, why: ShadowEnd, now: Instant) -> Shadow:
    """It is over; a no is a refusal, anything else an end."""
    asked = why in {ShadowEnd.REFUSED, ShadowEnd.NO_ANSWER}
    state = ShadowState.REFUSED if asked else ShadowState.ENDED
    return replace(shadow, state=state, changed_at=now, until=now, why=why, ticket="")


def kept(shadows: Iterable[Shadow], since: Instant, over_max: int) -> tuple[Shadow, ...]:
    """All that are live, and of those that are over the newest `over_max` after `since`."""
    every = tuple(shadows)
    past = sorted(
        (one for one in every if not one.live and one.changed_at > since),
        key=lambda one: one.changed_at,
    )
    rest = set(past[max(0, len(past) - over_max) :])
    return tuple(one for one in every if one.live or one in rest)
