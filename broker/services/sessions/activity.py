"""Signs of life: a person's input at a live session, a client's calls while it waits.

They come often, so they are gathered and written at most every ACTIVITY_S, all in one statement.
"""

from __future__ import annotations

from collections.abc import Callable

from broker import limits
from broker.domain.errors import TriviumError
from broker.domain.model import Instant
from broker.domain.session_time import Heard, Told, last_input
from broker.services.kit import Kit


class Activity:
    """`told`: what the agent of a desktop's generation told lately of its person's idle time."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.told: Callable[[str, int], Told | None] = lambda _desktop_id, _generation: None
        self._viewers: dict[str, Heard] = {}
        self._heard: dict[str, Instant] = {}
        self._written_s: float | None = None
        self._began_s = kit.clock.monotonic()

    def note(self, session_id: str, at: Instant) -> None:
        """The person did something, or the client called, at that instant. One of the future is
        taken as now."""
        at = min(at, self._kit.clock.now())
        self._heard[session_id] = max(at, self._heard.get(session_id, at))

    def heard(self, session_id: str, heard: Heard) -> None:
        """A viewer's bytes came; whether they are input may have to wait for the agent's word,
        which is some seconds old when it is heard."""
        self._viewers[session_id] = heard
        self._weigh(session_id)

    def _weigh(self, session_id: str) -> None:
        heard = self._viewers[session_id]
        at, settled = last_input(heard, self.told(heard.desktop_id, heard.generation))
        self.note(session_id, at)
        if settled:
            del self._viewers[session_id]

    def latest(self, session_id: str, stored: Instant) -> Instant:
        """The last sign, with those that are not written yet."""
        return max(stored, self._heard.get(session_id, stored))

    @property
    def up_for_s(self) -> float:
        """How long this process has been there to hear."""
        return self._kit.clock.monotonic() - self._began_s

    async def flush(self, *, now: bool = False) -> None:
        """Write down what was heard, if the last time was ACTIVITY_S ago (or `now`)."""
        for session_id in tuple(self._viewers):
            self._weigh(session_id)
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
