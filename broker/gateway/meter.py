"""One display's meter: bytes both ways since it was last read, and the last round trip."""

from __future__ import annotations

import asyncio

from broker.domain.measures import DisplayMeasure
from broker.limits import DISPLAY_PING_ANSWER_S, DISPLAY_PING_S
from broker.ports import Clock, DisplayClient


class Meter:
    def __init__(self, session_id: str, clock: Clock) -> None:
        self._session_id = session_id
        self._clock = clock
        self._since = clock.monotonic()
        self._down = 0
        self._up = 0
        self._round_trip_ms: float | None = None

    def down(self, size: int) -> None:
        self._down += size

    def up(self, size: int) -> None:
        self._up += size

    def read(self) -> DisplayMeasure:
        """What it counted since it was last read; it counts from nothing again."""
        since, self._since = self._since, self._clock.monotonic()
        measure = DisplayMeasure(
            session_id=self._session_id,
            at=self._clock.now(),
            seconds=self._since - since,
            bytes_down=self._down,
            bytes_up=self._up,
            round_trip_ms=self._round_trip_ms,
        )
        self._down = self._up = 0
        return measure

    async def ping(self, client: DisplayClient) -> None:
        """Time a ping every DISPLAY_PING_S, until cancelled or the client has gone. One that is
        not answered ends nothing: whoever is slow is still there."""
        while True:
            began = self._clock.monotonic()
            try:
                async with asyncio.timeout(DISPLAY_PING_ANSWER_S):
                    await client.ping()
            except TimeoutError:
                self._round_trip_ms = None
            except ConnectionError:
                return
            else:
                self._round_trip_ms = (self._clock.monotonic() - began) * 1000
            await self._clock.sleep(DISPLAY_PING_S)
