"""Wait for an event or for the clock, whichever comes first."""

from __future__ import annotations

import asyncio
from typing import Final

from broker.ports import Clock

_SLEEP_S_MIN: Final = 0.001
"""shorter waits round to nothing on a clock that counts from long ago, and would spin"""


async def sleep_or_set(clock: Clock, seconds: float | None, event: asyncio.Event) -> None:
    """Return after `seconds` of the clock (at least a millisecond; None: never), or as soon as
    `event` is set."""
    if seconds is None or event.is_set():
        await event.wait()
        return
    async with asyncio.TaskGroup() as group:
        waits = (
            group.create_task(clock.sleep(max(seconds, _SLEEP_S_MIN))),
            group.create_task(event.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
