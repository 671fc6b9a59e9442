"""How many desktops and waiting people each pool has, for lists of pools.

Everybody's own page asks for it, and the answer is a count over the whole installation; so it is
made at most once in COUNTS_FRESH_S, and those who ask meanwhile share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from broker.services.kit import Kit

COUNTS_FRESH_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """desktops: pool id -> state -> how many. waiting: pool id -> people in its queue."""

    desktops: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)


class PoolCounts:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._counts = Counts()
        self._read_at_s: float | None = None
        self._reading = asyncio.Lock()

    async def now(self, pool_ids: tuple[str, ...]) -> Counts:
        """As of COUNTS_FRESH_S ago at most. `pool_ids`: every pool's."""
        async with self._reading:
            now_s = self._kit.clock.monotonic()
            if self._read_at_s is None or now_s - self._read_at_s >= COUNTS_FRESH_S:
                self._counts = await self._read(pool_ids)
                self._read_at_s = now_s
            return self._counts

    async def _read(self, pool_ids: tuple[str, ...]) -> Counts:
        store = self._kit.store
        desktops: dict[str, dict[str, int]] = {}
        for (pool_id, state), count in (await store.desktops.counts()).items():
            desktops.setdefault(pool_id, {})[str(state)] = count
        sessions = (await store.overview()).sessions
        waiting: dict[str, int] = {}
        if any(count for (_, state), count in sessions.items() if state == "queued"):
            for pool_id in pool_ids:
                waiting[pool_id] = len(await store.sessions.waiting(pool_id))
        return Counts(desktops=desktops, waiting=waiting)
