"""One row of timers for all endpoints of a process, in place of a task or a handle for each."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from math import inf
from typing import Protocol

from agents import limits


class Ringer(Protocol):
    """Something that wants to be woken. The wheel alone writes `rings_at`."""

    rings_at: float

    def ring(self) -> float:
        """Its time may have come. Returns when it wants to be woken next."""


class Wheel:
    """Wakes ringers, at their time or a little later, never much earlier."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Ringer]] = []
        self._pushed = 0
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = inf
        self._closed = False

    def set(self, ringer: Ringer, due: float) -> None:
        """Wake it at `due`, if it would not be woken earlier already: it says then how much
        longer it can sleep."""
        if due < ringer.rings_at:
            ringer.rings_at = due
            self._pushed += 1
            heapq.heappush(self._heap, (due, self._pushed, ringer))
            self._arm()

    def close(self) -> None:
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
        self._heap.clear()

    def _arm(self) -> None:
        if self._closed or not self._heap or self._heap[0][0] >= self._armed_for:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = self._heap[0][0]
        wait = min(max(self._armed_for - self._monotonic(), 0.0), limits.WHEEL_SLEEP_S_MAX)
        self._handle = self._loop.call_later(wait, self._turn)

    def _turn(self) -> None:
        self._handle = None
        self._armed_for = inf
        now = self._monotonic()
        rung = 0
        while self._heap and self._heap[0][0] <= now and rung < limits.WHEEL_BATCH:
            at, _, ringer = heapq.heappop(self._heap)
            if at == ringer.rings_at:
                rung += 1
                ringer.rings_at = inf
                self.set(ringer, ringer.ring())
        self._arm()
