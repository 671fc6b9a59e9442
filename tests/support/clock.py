"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools

_TURNS = 25
"""turns of the loop that whoever was woken gets before the clock goes on"""


class ManualClock:
    """The Clock port. `advance` wakes sleepers in the order of their times."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return int(self._now_s * 1000)

    def monotonic(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let time pass; everything that falls due meanwhile happens at its own moment."""
        end_s = self._now_s + seconds
        await self.turns()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            at_s, _, woken = heapq.heappop(self._sleepers)
            self._now_s = max(self._now_s, at_s)
            if not woken.done():
                woken.set_result(None)
                await self.turns()
        self._now_s = end_s
        await self.turns()

    async def turns(self) -> None:
        """Let everybody run who can without time passing."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
