"""Enrolment tokens: each works once, and which of a list were used by an earlier run is unknown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import msgspec

from agents.core import events
from broker import wire

Ask: TypeAlias = Callable[[wire.EnrolRequest], Awaitable[events.Enrolled | events.EnrolRefused]]

_REFUSED = "enrolment.refused"


class TokenPool:
    """Tokens that are left, for all endpoints of a process."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._left = list(dict.fromkeys(tokens))
        self._left.reverse()

    async def enrol(
        self, request: wire.EnrolRequest, ask: Ask
    ) -> events.Enrolled | events.EnrolRefused:
        """Enrol with a token that nobody else has. One that was used by an earlier run is passed
        over; one that did not get through is kept for the next try."""
        answer: events.Enrolled | events.EnrolRefused = events.EnrolRefused(
            code="enrolment.no_token",
            detail="make one with `trivium endpoint tokens` or in the console",
            final=True,
        )
        while self._left:
            token = self._left.pop()
            answer = await ask(msgspec.structs.replace(request, token=token))
            if isinstance(answer, events.Enrolled):
                break
            if answer.code != _REFUSED:
                self._left.append(token)
                break
        return answer
