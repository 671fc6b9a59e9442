"""Who sits where: gives each arrival a person, a pool and an endpoint that are free by plan.

Nobody and no endpoint is planned into two sessions at once: between two uses lie the first
one's planned work and the recipe's rest. The longest free are taken first, so that a cast that
is large enough is never used twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from loadtests.arrivals import chance
from loadtests.cast import Cast


class SeatingError(Exception):
    """The cast is too small for the plan; the text says what is missing."""


class _Turns:
    """Names by pool, the longest free first. Entries that went stale are put right on the way."""

    def __init__(
        self, seed: int, kind: str, members: Iterable[tuple[str, tuple[str, ...]]]
    ) -> None:
        self._free_at: dict[str, float] = {}
        self._rank: dict[str, float] = {}
        self._heaps: dict[str, list[tuple[float, float, str]]] = {}
        for name, pools in sorted(members):
            self._free_at[name] = 0.0
            self._rank[name] = chance(seed, f"{kind}:{name}").random()
            for pool in pools:
                self._heaps.setdefault(pool, []).append((0.0, self._rank[name], name))
        for heap in self._heaps.values():
            heapq.heapify(heap)

    def first_free(self, pool: str, at: float) -> str | None:
        heap = self._heaps.get(pool)
        if not heap:
            return None
        while True:
            free_at, rank, name = heap[0]
            if free_at == self._free_at[name]:
                return name if free_at <= at else None
            heapq.heapreplace(heap, (self._free_at[name], rank, name))

    def take(self, name: str, until: float) -> None:
        self._free_at[name] = until


class Seats:
    """The state of a cast while a plan is made."""

    def __init__(self, cast: Cast, seed: int) -> None:
        self._seed = seed
        self._people = _Turns(seed, "person", ((p.username, p.pools) for p in cast.people))
        self._endpoints = _Turns(seed, "endpoint", ((e.name, e.pools) for e in cast.endpoints))
        self._pools: dict[str, list[str]] = {}
        for pool in sorted(cast.pools, key=lambda pool: pool.name):
            self._pools.setdefault(pool.architecture, []).append(pool.name)

    def architectures(self) -> frozenset[str]:
        return frozenset(self._pools)

    def seat(
        self, index: int, architecture: str, *, at: float, until: float, browser: bool
    ) -> tuple[str, str, str | None]:
        """(username, pool, endpoint) for arrival `index`; `browser` needs no endpoint.

        Raises:
            SeatingError: nobody, or no endpoint, is free at `at`.
        """
        pools = list(self._pools.get(architecture, ()))
        chance(self._seed, f"{index}:pool").shuffle(pools)
        for pool in pools:
            person = self._people.first_free(pool, at)
            endpoint = None if browser else self._endpoints.first_free(pool, at)
            if person is None or (endpoint is None and not browser):
                continue
            self._people.take(person, until)
            if endpoint is not None:
                self._endpoints.take(endpoint, until)
            return person, pool, endpoint
        raise SeatingError(self._missing(pools, architecture, at, browser=browser))

    def _missing(self, pools: list[str], architecture: str, at: float, *, browser: bool) -> str:
        if not pools:
            return f"the cast has no {architecture} pool"
        free: Callable[[_Turns], bool] = lambda turns: any(  # noqa: E731
            turns.first_free(pool, at) is not None for pool in pools
        )
        missing = "no person" if not free(self._people) else "no endpoint"
        if free(self._people) and (browser or free(self._endpoints)):
            missing = "no person and endpoint of one pool"
        return (
            f"the cast is too small: {missing} of an {architecture} pool is free "
            f"{at:.1f} s into the campaign; add to the cast, plan fewer sessions, "
            "or a longer window"
        )
