"""Signs of life: a person's input at a live session, a client's calls while it waits.

They come often, so they are gathered and written at most every ACTIVITY_S, all in one statement.
"""

from __future__ import annotations

from broker import limits
from broker.domain.errors import TriviumError
from broker.domain.model import Instant
from broker.services.kit import Kit


class Activity:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._heard: dict[str, Instant] = {}
        self._written_s: float | None = None
        self._began_s = kit.clock.monotonic()

    def note(self, session_id: str, at: Instant) -> None:
        """The person did something, or the client called, at that instant. One of the future is
        taken as now."""
        at = min(at, self._kit.clock.now())
        self._heard[session_id] = max(at, self._heard.get(session_id, at))

    def latest(self, session_id: str, stored: Instant) -> Instant:
        """The last sign, with those that are not written yet."""
        return max(stored, self._heard.get(session_id, stored))

    @property
    def up_for_s(self) -> float:
        """How long this process has been there to hear."""
        return self._kit.clock.monotonic() - self._began_s

    async def flush(self, *, now: bool = False) -> None:
        """Write down what was heard, if the last time was ACTIVITY_S ago (or `now`)."""
        now_s = self._kit.clock.monotonic()
        early = self._written_s is not None and now_s - self._written_s < limits.ACTIVITY_S
        if not self._heard or (early and not now):
            return
        heard, self._heard = self._heard, {}
        self._written_s = now_s
        try:
            await self._kit.store.sessions.active(heard)
        except TriviumError:
            for session_id, at in heard.items():
                self.note(session_id, at)
            raise
