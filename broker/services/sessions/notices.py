"""Messages to the person of a session: from the staff, and the broker's own warnings."""

from __future__ import annotations

from typing import Final

from broker.architectures import rules_of
from broker.domain.errors import BadRequestError
from broker.domain.model import Instant, Notice, Session
from broker.domain.session_time import Limit, Look, warning_id
from broker.domain.settings import PoolSettings, WhenIdle
from broker.limits import NOTICE_CHARS_MAX

_LINE_BREAK: Final = "\n"


def checked_text(text: str) -> str:
    """The text without spaces around it. Raises BadRequestError for one that is empty, longer
    than NOTICE_CHARS_MAX, or holds what no screen shows."""
    text = text.strip()
    if not text or len(text) > NOTICE_CHARS_MAX:
        problem = f"a message has 1 to {NOTICE_CHARS_MAX} characters"
        raise BadRequestError(problem, fields={"field": "text"})
    if not all(one.isprintable() or one == _LINE_BREAK for one in text):
        problem = "a message is plain text: letters, signs, spaces and line breaks"
        raise BadRequestError(problem, fields={"field": "text"})
    return text


def idle_logs_off(session: Session, settings: PoolSettings) -> bool:
    """Whether being idle ends the session: as set, and where there is nothing to disconnect."""
    return settings.when_idle is WhenIdle.LOG_OFF or not rules_of(session.architecture).moves


def warning(session: Session, look: Look, settings: PoolSettings, now: Instant) -> Notice:
    """What the person is told before a limit ends the session."""
    if look.warn is None or look.at is None:
        raise ValueError("there is nothing to warn of")
    soon = _soon(max(look.again_at, look.at) - now)
    if look.warn is Limit.END:
        text = f"Your session ends {soon}: its maximum time is over then. Save your work now."
    elif idle_logs_off(session, settings):
        text = (
            f"You have not used this desktop for a while. It logs you off {soon}; save your work."
        )
    else:
        text = f"You have not used this desktop for a while. It is disconnected {soon}."
    return Notice(id=warning_id(session, look.warn, look.at), text=text, sender="", at=now)


def _soon(ms: int) -> str:
    minutes = max(ms, 0) // 60_000
    if minutes < 1:
        return "in less than a minute"
    return "in about a minute" if minutes == 1 else f"in about {minutes} minutes"
