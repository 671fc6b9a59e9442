"""Places in the pools' queues and how long they take, as they are told to those who wait.

One change moves everybody, and a thousand people may ask at once: places are worked out once for
all of a pool and kept for PLACES_FRESH_S. How fast a queue moves is what this process has seen of
it: with several brokers each serves a part, and foretells rather too long a wait than too short.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker import limits
from broker.domain.model import DesktopState, Pool, Session, SessionState
from broker.domain.queueing import Supply, expected_wait_s, places, remaining_s
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.tally import Tally

_COMING: Final = (DesktopState.STARTING, DesktopState.RESETTING, DesktopState.RESUMING)
"""states of machines that will be somebody's as soon as they report ready"""
SERVED_MAX: Final = 512
"""services of one pool's queue that are remembered for its rate"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """`wait_s`: about how long it takes, in whole seconds; None when nobody can say."""

    place: int
    wait_s: int | None


@dataclass(frozen=True, slots=True)
class _Row:
    read_at_s: float
    places: Mapping[str, int]
    supply: Supply


class Queues:
    def __init__(self, kit: Kit, pools: Pools, tally: Tally) -> None:
        self._kit = kit
        self._pools = pools
        self._tally = tally
        self._rows: dict[str, _Row] = {}
        self._served: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=SERVED_MAX))

    async def served(self, pool: Pool, number: int) -> None:
        """So many of those who waited have a desktop now; the others have new places."""
        self._served[pool.id].extend([self._kit.clock.monotonic()] * number)
        await self.tell(pool.id)

    async def tell(self, pool_id: str) -> None:
        """Somebody left the queue: everybody may have a new place."""
        self._rows.pop(pool_id, None)
        for session_id in (await self._row(pool_id)).places:
            self._kit.events.publish("place", id=session_id, pool_id=pool_id)

    async def place(self, session: Session) -> int | None:
        """The session's place, 1 being next; None if it does not wait."""
        if session.state is not SessionState.QUEUED:
            return None
        found = (await self._row(session.pool_id)).places.get(session.id)
        if found is None:
            # it came after the others were read
            self._rows.pop(session.pool_id, None)
            found = (await self._row(session.pool_id)).places.get(session.id)
        return found

    async def expected(self, session: Session, place: int | None = None) -> Expected | None:
        """The place and about how long it takes; None if the session does not wait. `place` is
        taken where it is known."""
        if session.state is not SessionState.QUEUED:
            return None
        place = place if place is not None else await self.place(session)
        if place is None:
            return None
        return Expected(place=place, wait_s=await self.wait_s(session.pool_id, place))

    async def wait_s(self, pool_id: str, place: int) -> int | None:
        """About how many seconds somebody at this place of the pool's queue waits."""
        found = expected_wait_s(place, (await self._row(pool_id)).supply)
        return None if found is None else math.ceil(found)

    async def _row(self, pool_id: str) -> _Row:
        now_s = self._kit.clock.monotonic()
        row = self._rows.get(pool_id)
        if row is None or now_s - row.read_at_s >= limits.PLACES_FRESH_S:
            found = places(await self._kit.store.sessions.waiting(pool_id))
            row = self._rows[pool_id] = _Row(now_s, found, await self._supply(pool_id, now_s))
        return row

    async def _supply(self, pool_id: str, now_s: float) -> Supply:
        pool, now = await self._pools.find(pool_id), self._kit.clock.now()
        usual_s = self._tally.mean_s("boot", pool.architecture)
        coming: list[float] = []
        if usual_s is not None:
            desktops = self._kit.store.desktops
            found = await desktops.of_pool(pool_id, _COMING, limits.RECONCILE_BATCH_MAX)
            coming += [remaining_s(usual_s, (now - one.changed_at) / 1000) for one in found]
        served = self._served[pool_id]
        while served and now_s - served[0] > limits.SERVED_WINDOW_S:
            served.popleft()
        span_s = max(now_s - served[0], 1.0) if served else 1.0
        return Supply(coming_s=tuple(coming), served_per_s=len(served) / span_s)
