"""What a session owes to the agent in its desktop at a moment: decided here, asked elsewhere.

The session's row says it, so whoever hears the agent can find it out again after a restart. Where
an ask has an id of its own, every process that asks uses the same: the agent does it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.domain.keeping import keeps_work
from broker.domain.model import Instant, Pool, Session, SessionState
from broker.domain.settings import Channels
from broker.limits import NOTICE_AGAIN_S

PERSON = "person"
"""the policy's setting that says whose session it is, for a mark to be drawn"""


class Care(StrEnum):
    """Why an agent is asked something."""

    LOG_OFF = "log_off"
    LOCK = "lock"
    POLICY = "policy"
    MESSAGE = "message"


@dataclass(slots=True)
class Tended:
    """What one process knows to be settled with one desktop's agent, since it was started."""

    session_id: str = ""
    generation: int = 0
    boot: str = ""
    settled: set[str] = field(default_factory=set)
    """keys of what was done, or given up"""
    tries: dict[str, int] = field(default_factory=dict)
    policy: Mapping[str, str] | None = None
    """what was laid down last, or could not be"""
    policy_error: str = ""

    def is_of(self, session: Session, boot: str) -> bool:
        return (self.session_id, self.generation, self.boot) == (
            session.id,
            session.generation,
            boot,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """`key`: the same for the same thing, in every process."""

    care: Care
    key: str


def policy_of(channels: Channels, person: str) -> dict[str, str]:
    """The channels as an agent lays them down: "on" and "off", and the clipboard's direction."""
    switches = ("usb", "drives", "printing", "watermark")
    said = {name: "on" if getattr(channels, name) else "off" for name in switches}
    return {"clipboard": channels.clipboard.value, **said, PERSON: person}


def is_logged_off_first(pool: Pool, owner_id: str | None) -> bool:
    """Whether the person has to be logged off in the desktop before it is free: it is kept as it
    is. That nobody is known to have seen it says nothing: what was shown may not have been told.
    One that is made fresh or removed ends with its programs."""
    return keeps_work(pool, owner_id)


def owed(
    session: Session,
    pool: Pool,
    tended: Tended,
    policy: Mapping[str, str],
    *,
    now: Instant,
    logs_off: bool,
) -> Owed | None:
    """The next thing; None: nothing. `logs_off`: as `is_logged_off_first`."""
    match session.state:
        case SessionState.ENDING:
            found = [Owed(care=Care.LOG_OFF, key=f"off-{session.id}")] if logs_off else []
        case SessionState.DISCONNECTED:
            found = _without_person(session, pool)
        case SessionState.DELIVERING | SessionState.ACTIVE:
            found = _with_person(session, tended, policy, now)
        case _:
            found = []
    return next((one for one in found if one.key not in tended.settled), None)


def _without_person(session: Session, pool: Pool) -> list[Owed]:
    if session.live_at is None or not pool.settings.lock_on_disconnect:
        return []
    # each disconnect has a deadline of its own
    return [Owed(care=Care.LOCK, key=f"lock-{session.id}-{session.deadline_at}")]


def _with_person(
    session: Session, tended: Tended, policy: Mapping[str, str], now: Instant
) -> list[Owed]:
    found = []
    if tended.policy != policy:
        found.append(Owed(care=Care.POLICY, key=f"policy-{session.id}-{sorted(policy.items())}"))
    notice = session.notice
    live = session.state is SessionState.ACTIVE
    if notice is not None and live and now - notice.at < NOTICE_AGAIN_S * 1000:
        found.append(Owed(care=Care.MESSAGE, key=f"message-{notice.id}"))
    return found
