"""What the person at the endpoint is told and asked, each once however often it is sent."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from agents import limits
from agents.core import commands
from agents.core.timers import Timers
from agents.core.turn import Turn
from broker import wire

OWNER = "person"
"""the owner of the timers of questions, whose names are the wishes' ids"""


class Host(Protocol):
    """The endpoint, as its person's part sees it."""

    @property
    def timers(self) -> Timers: ...

    def tell(self, turn: Turn, message: wire.FromAgent, *, keep: bool = True) -> int: ...

    def pause_s(self) -> float: ...

    def agrees(self, wish_id: str) -> bool | None:
        """What the simulated person says; None where a person must be asked."""


class Person:
    __slots__ = ("_asked", "_host", "_shown")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._shown: deque[str] = deque(maxlen=limits.NOTICES_MAX)
        self._asked: dict[str, wire.AskConsent] = {}

    def notice(self, turn: Turn, notice: wire.Notice) -> None:
        if notice.notice_id in self._shown:
            return
        self._shown.append(notice.notice_id)
        turn.do(
            commands.Show(
                session_id=notice.session_id,
                notice_id=notice.notice_id,
                text=notice.text,
                sender=notice.sender,
            )
        )
        turn.do(commands.Note(what="notice"))

    def ask(self, turn: Turn, question: wire.AskConsent) -> None:
        """Ask, and answer in time: nobody who is not there gives a session away."""
        if question.wish_id in self._asked or len(self._asked) >= limits.QUESTIONS_MAX:
            return
        self._asked[question.wish_id] = question
        turn.do(
            commands.Ask(
                session_id=question.session_id,
                wish_id=question.wish_id,
                endpoint=question.endpoint,
                within_s=question.answer_within_s,
            )
        )
        within_s = min(max(question.answer_within_s, 0.0), limits.CONSENT_S_MAX)
        if self._host.agrees(question.wish_id) is not None:
            within_s = min(self._host.pause_s(), within_s / 2)
        self._host.timers.set(OWNER, question.wish_id, turn.now + within_s)

    def timer(self, turn: Turn, wish_id: str, session_ids: frozenset[str]) -> None:
        """It is time to answer, if the session still is here."""
        question = self._asked.pop(wish_id, None)
        if question is None or question.session_id not in session_ids:
            return
        answer = wire.Consent(
            session_id=question.session_id,
            wish_id=wish_id,
            granted=self._host.agrees(wish_id) or False,
        )
        self._host.tell(turn, answer, keep=False)
        turn.do(commands.Note(what="granted" if answer.granted else "kept"))
