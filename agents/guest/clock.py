"""Clock of this machine: the one file of the guest agent that reads and sets it."""

from __future__ import annotations

import struct
import threading
import time

_TIMEX = "@Illlli"
"""the head of the kernel's struct timex, of which the last is its status (adjtimex(2))"""
_TIMEX_BYTES_MAX = 512
_STA_UNSYNC = 0x40


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

    def is_kept(self) -> bool | None:
        """Whether a time daemon keeps it, by the kernel's word; None where that cannot be had."""
        try:
            import ctypes  # noqa: PLC0415 -- a small Python may lack it

            found = ctypes.create_string_buffer(_TIMEX_BYTES_MAX)
            if ctypes.CDLL(None).adjtimex(found) < 0:
                return None
        except (ImportError, AttributeError, OSError):
            return None
        status: int = struct.unpack_from(_TIMEX, found)[-1]
        return not status & _STA_UNSYNC

    def slew(self, seconds: float) -> None:
        """Add that much to the wall clock little by little (adjtime(3)), in place of what is left
        of the last time; where this may not, nothing happens. At most a second."""
        try:
            import ctypes  # noqa: PLC0415 -- likewise

            by = ctypes.create_string_buffer(struct.pack("@ll", 0, int(seconds * 1e6)))
            ctypes.CDLL(None).adjtime(by, None)
        except (ImportError, AttributeError, OSError):
            return

    def sleep(self, seconds: float) -> None:
        """Of the calling thread only."""
        threading.Event().wait(seconds)
