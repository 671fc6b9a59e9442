"""One connection between an endpoint and a broker process: in order both ways, until it breaks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from broker.simulation.history import History
from broker.simulation.loop import SimLoop
from broker.simulation.weather import Weather

LATENCY_S: Final = 0.03
"""longest ordinary way of a message"""
LATENCY_SLOW_S: Final = 8.0


class End(Protocol):
    """The endpoint's end of a connection."""

    loop: SimLoop
    chance: Random
    history: History
    name: str

    @property
    def endpoint_id(self) -> str | None: ...

    @property
    def weather(self) -> Weather: ...

    def arrived(self, line: SimLine, data: bytes) -> None: ...

    def ended(self, line: SimLine, why: str) -> None: ...


class SimLine:
    """The Line port. `link_no` is the endpoint's own number of the try.

    A dead line (`half_open`) carries nothing either way, and neither end is told.
    """

    __slots__ = (
        "_down_at",
        "_inbox",
        "_up_at",
        "_waiter",
        "closed",
        "end",
        "half_open",
        "link_no",
        "over",
        "taken",
    )

    def __init__(self, end: End, link_no: int) -> None:
        self.end = end
        self.link_no = link_no
        self.closed = False
        self.over = False
        self.half_open = False
        self.taken: Callable[[bytes], None] = lambda _: None
        self._inbox: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._up_at = self._down_at = 0.0

    def _latency(self) -> float:
        draw = self.end.chance.random
        slow = draw() < self.end.weather.link_slow
        return draw() * (LATENCY_SLOW_S if slow else LATENCY_S)

    # --------------------------------------------------------------- the broker's end

    async def receive(self) -> bytes | None:
        while not self._inbox:
            if self.closed:
                return None
            self._waiter = self.end.loop.create_future()
            await self._waiter
        text = self._inbox.popleft()
        self.taken(text)
        return text

    async def send(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("the line is closed")
        self._down_at = max(self._down_at, self.end.loop.time() + self._latency())
        self.end.loop.call_at(self._down_at, self._deliver, data)
        await asyncio.sleep(0)

    def _deliver(self, data: bytes) -> None:
        if not self.over and not self.half_open:
            self.end.arrived(self, data)

    async def close(self, code: int, why: str) -> None:
        if not self.closed:
            self._shut()
            self._down_at = max(self._down_at, self.end.loop.time() + self._latency())
            self.end.loop.call_at(self._down_at, self._tell_end, f"closed with code {code}: {why}")
        await asyncio.sleep(0)

    def _shut(self) -> None:
        self.closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tell_end(self, why: str) -> None:
        if not self.over and not self.half_open:
            self.over = True
            self.end.ended(self, why)

    # ------------------------------------------------------------- the endpoint's end

    def say(self, data: bytes) -> None:
        """The endpoint sends a message."""
        self._up_at = max(self._up_at, self.end.loop.time() + self._latency())
        self.end.loop.call_at(self._up_at, self._take, data)

    def _take(self, data: bytes) -> None:
        if self.closed or self.half_open:
            return
        self._inbox.append(data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hang_up(self) -> None:
        """The endpoint closes; the broker hears of it after what was said before."""
        self.over = True
        if not self.half_open:
            self._up_at = max(self._up_at, self.end.loop.time() + self._latency())
            self.end.loop.call_at(self._up_at, self._shut)

    # ------------------------------------------------------------------- the network

    def broken(self, why: str) -> None:
        """The connection breaks, and both ends notice."""
        self._shut()
        self._inbox.clear()
        if not self.over:
            self.over = True
            self.end.ended(self, why)
