"""Sessions."""

from __future__ import annotations

import msgspec

from broker.domain.model import (
    Architecture,
    Notice,
    PhaseReport,
    Session,
    SessionState,
    Traffic,
    Wish,
)
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values
from broker.store.sql.schema import NOTHING

NO_PHASES = "[]"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[PhaseReport, ...]).decode


_decode_wish = msgspec.json.Decoder(Wish).decode
_decode_notice = msgspec.json.Decoder(Notice).decode


def wish_text(wish: Wish | None) -> str | None:
    return _encode(wish).decode() if wish is not None else None


def notice_text(notice: Notice | None) -> str | None:
    return _encode(notice).decode() if notice is not None else None


def phases_text(phases: tuple[PhaseReport, ...]) -> str:
    return _encode(phases).decode() if phases else NO_PHASES


def to_phases(text: str) -> tuple[PhaseReport, ...]:
    return _decode(text) if text != NO_PHASES else ()


SESSION = (
    t.sessions.c.id,
    t.sessions.c.user_id,
    t.sessions.c.pool_id,
    t.sessions.c.architecture,
    t.sessions.c.desktop_id,
    t.sessions.c.endpoint_id,
    t.sessions.c.group_id,
    t.sessions.c.state,
    t.sessions.c.deadline_at,
    t.sessions.c.generation,
    t.sessions.c.revision,
    t.sessions.c.why,
    t.sessions.c.requested_at,
    t.sessions.c.assigned_at,
    t.sessions.c.live_at,
    t.sessions.c.ended_at,
    t.sessions.c.lease_until,
    t.sessions.c.phases,
    t.sessions.c.control_bytes,
    t.sessions.c.display_bytes,
    t.sessions.c.image_bytes,
    t.sessions.c.active_at,
    t.sessions.c.ends_at,
    t.sessions.c.wish,
    t.sessions.c.notice,
    t.sessions.c.browser,
    t.sessions.c.display,
    t.sessions.c.source,
)


def to_session(row: Row) -> Session:
    session_id, user_id, pool_id, architecture, desktop_id, endpoint_id, group_id, *rest = row
    state, deadline_at, generation, revision, why, requested_at, assigned_at, *rest = rest
    live_at, ended_at, lease_until, phases, control, display, image, *rest = rest
    active_at, ends_at, wish, notice, browser, shown, source = rest
    return Session(
        id=session_id,
        user_id=user_id,
        pool_id=pool_id,
        architecture=Architecture(architecture),
        desktop_id=desktop_id,
        endpoint_id=endpoint_id,
        group_id=group_id,
        state=SessionState(state),
        deadline_at=deadline_at,
        generation=generation,
        revision=revision,
        why=why,
        requested_at=requested_at,
        assigned_at=assigned_at,
        live_at=live_at,
        ended_at=ended_at,
        lease_until=lease_until,
        phases=to_phases(phases),
        traffic=Traffic(control=control, display=display, image=image),
        active_at=active_at,
        ends_at=ends_at,
        wish=_decode_wish(wish) if wish is not None else None,
        notice=_decode_notice(notice) if notice is not None else None,
        browser=browser,
        display=shown,
        source=source,
    )


def from_session(session: Session) -> Values:
    """A new session's row."""
    return {
        "id": session.id,
        "user_id": session.user_id,
        "pool_id": session.pool_id,
        "architecture": session.architecture.value,
        "desktop_id": session.desktop_id,
        "endpoint_id": session.endpoint_id,
        "group_id": session.group_id,
        "prior_state": NOTHING,
        "state": session.state.value,
        "deadline_at": session.deadline_at,
        "generation": session.generation,
        "revision": session.revision,
        "why": session.why,
        "requested_at": session.requested_at,
        "assigned_at": session.assigned_at,
        "live_at": session.live_at,
        "ended_at": session.ended_at,
        "lease_until": session.lease_until,
        "phases": phases_text(session.phases),
        "control_bytes": session.traffic.control,
        "display_bytes": session.traffic.display,
        "image_bytes": session.traffic.image,
        "active_at": session.active_at,
        "ends_at": session.ends_at,
        "wish": wish_text(session.wish),
        "notice": notice_text(session.notice),
        "browser": session.browser,
        "display": session.display,
        "source": session.source,
    }
