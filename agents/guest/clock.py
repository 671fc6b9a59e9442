"""Clock of this machine: the one file of the guest agent that reads and sets it."""

from __future__ import annotations

import threading
import time


class Clock:
    """The machine's own."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()  # noqa: TID251 -- this is the port

    def wall(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()  # noqa: TID251 -- likewise

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock; OSError where this may not."""
        time.clock_settime(time.CLOCK_REALTIME, seconds)

    def sleep(self, seconds: float) -> None:
        """Of the calling thread only."""
        threading.Event().wait(seconds)
