"""The idle time by the word of a program: where input passes the machine's devices by."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from agents.guest import helpers, limits
from agents.guest.clock import Clock


class IdleProgram:
    """Asks it every IDLE_LOOK_S, beside the agent; nothing here waits for it."""

    def __init__(self, arguments: Sequence[str], clock: Clock) -> None:
        self._arguments = arguments
        self._clock = clock
        self._due = 0.0
        self._running = False
        self._said: tuple[float, float] | None = None

    def idle_s(self, now: float, user: str) -> float | None:
        """Seconds since the person's last input, as of its last answer; None where that is older
        than IDLE_OLD_S, or was none."""
        if now >= self._due and not self._running:
            self._due, self._running = now + limits.IDLE_LOOK_S, True
            threading.Thread(target=self._ask, args=(now, user), daemon=True).start()
        if self._said is None or now - self._said[1] > limits.IDLE_OLD_S:
            return None
        return self._said[0]

    def _ask(self, now: float, user: str) -> None:
        text = helpers.answer(self._arguments, {"TRIVIUM_USER": user})
        try:
            said = float(text)
        except ValueError:
            said = -1.0
        # a number that is none is not at least 0 either
        self._said = (said, now) if said >= 0 else None
        self._running = False
