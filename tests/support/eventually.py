"""Wait for a condition, with a deadline so generous that only a hang reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(holds: Callable[[], object], *, within_s: float = 60.0) -> None:
    """Return once `holds()` is true; AssertionError where it never is."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError("waited in vain") from None
