"""Clock and chance of this machine: the one file of the agents that reads them."""

from __future__ import annotations

import os
import resource
import time
from typing import Protocol


class System(Protocol):
    """What an agent takes from the machine. A simulation passes in its own."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess: for keys, and for the spread of retries."""

    def open_files(self, wanted: int) -> int:
        """Ask for so many open files; returns how many there may be."""


class RealSystem:
    """The machine itself. Where the system has it, the clock counts the time of a suspend too,
    so that sleeping does not lengthen a lease."""

    def __init__(self) -> None:
        self._clock: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def monotonic(self) -> float:
        return time.clock_gettime(self._clock)

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def open_files(self, wanted: int) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return soft
