"""All hosts' room while one plan is made: each choice counts for the next.

Answers what placement.choose answers, without looking at every host each time: one heap of scores
for each kind of demand (pools that ask for the same share it), to which only the hosts that
changed since are added again. A choice costs O(log hosts) after the first of its kind.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

from broker import limits
from broker.domain.model import Pool
from broker.domain.placement import (
    Choice,
    Demand,
    HostLoad,
    Room,
    Score,
    amounts,
    chosen,
    no_host,
    reason,
    refusal,
    score,
    some_reasons,
)
from broker.domain.planning.breaker import permits, told
from broker.domain.planning.effective import zone_of
from broker.domain.planning.view import View


def demand_of(pool: Pool) -> Demand:
    """One more desktop of this pool."""
    settings = pool.settings
    return Demand(
        need=pool.resources,
        pool_id=pool.id,
        guarantee=settings.guarantee,
        labels=settings.labels,
        prefer_labels=settings.prefer_labels,
        apart=settings.apart,
        spread=settings.spread,
        storage=settings.storage,
    )


class _Ranking:
    """Hosts by their score for one kind of demand; entries of hosts that changed since are
    passed over."""

    __slots__ = ("demand", "heap", "seen")

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.heap: list[tuple[bool, Score, int, str]] = []
        self.seen = 0
        """how much of the log of changes is in the heap"""


class Rooms:
    """`starts` False: the limits of starts are left out, to ask what fits sooner or later."""

    def __init__(
        self, view: View, *, starts: bool = True, loads: Iterable[HostLoad] | None = None
    ) -> None:
        self._view = view
        guarantees = {pool.id: pool.settings.guarantee for pool in view.pools}
        ordered = sorted(view.hosts if loads is None else loads, key=lambda one: one.host.name)
        self.by_id: dict[str, Room] = {one.host.id: Room(one, guarantees) for one in ordered}
        for host_id, growing in view.resizing.items():
            for demand in growing if host_id in self.by_id else ():
                self.by_id[host_id].take(demand)
        if not starts:
            for room in self.by_id.values():
                room.starting = None
        self._stamps = dict.fromkeys(self.by_id, 0)
        self._log: list[str] = list(self.by_id)
        self._rankings: dict[Demand, _Ranking] = {}
        self._asked: dict[str, tuple[Demand, _Ranking]] = {}
        self._trials: dict[tuple[str, str], int] = {}
        for key, breaker in view.breakers.items():
            allowed = permits(breaker, view.now)
            if allowed is not None:
                self._trials[key] = allowed

    def touch(self, host_id: str) -> None:
        """This host's room changed."""
        self._stamps[host_id] += 1
        self._log.append(host_id)

    def take(self, host_id: str, demand: Demand) -> None:
        self.by_id[host_id].take(demand)
        self.touch(host_id)

    def fit(self, pool: Pool) -> str | None:
        """As `choose`, without the words: the host's id."""
        demand, ranking = self._ranking(pool)
        host_id = self._best(ranking, pool)
        if host_id is not None:
            self._use(host_id, demand, pool)
        return host_id

    def choose(self, pool: Pool) -> Choice:
        """A host for one more desktop of the pool, whose room is taken at once."""
        demand, ranking = self._ranking(pool)
        host_id = self._best(ranking, pool)
        if host_id is None:
            return self._none(demand, pool)
        best = self.by_id[host_id]
        reasons = [reason(best, demand)]
        reasons += self._reasons(demand, pool, but=host_id)
        choice = Choice(
            host_id=host_id,
            why=chosen(best, demand),
            reasons=some_reasons(reasons, len(self.by_id)),
        )
        self._use(host_id, demand, pool)
        return choice

    def paced(self, pool: Pool) -> bool:
        """Whether some host would take one more desktop of the pool but for its limit of starts."""
        later = replace(demand_of(pool), starts=False)
        return any(
            room.starting is not None
            and room.starting >= room.host.start_limit
            and refusal(room, later) is None
            and self._blocked(pool, room) is None
            for room in self.by_id.values()
        )

    def _ranking(self, pool: Pool) -> tuple[Demand, _Ranking]:
        known = self._asked.get(pool.id)
        if known is None:
            demand = demand_of(pool)
            # which pool it is matters to the score only where its desktops are to be apart
            kind = demand if demand.apart else replace(demand, pool_id="")
            ranking = self._rankings.setdefault(kind, _Ranking(kind))
            known = self._asked[pool.id] = (demand, ranking)
        return known

    def _use(self, host_id: str, demand: Demand, pool: Pool) -> None:
        self.take(host_id, demand)
        key = (pool.id, host_id)
        if key in self._trials:
            self._trials[key] -= 1

    def _best(self, ranking: _Ranking, pool: Pool) -> str | None:
        for host_id in dict.fromkeys(self._log[ranking.seen :]):
            room = self.by_id[host_id]
            if refusal(room, ranking.demand) is None:
                scored = score(room, ranking.demand)
                stamp = self._stamps[host_id]
                last = self._last_resort(room, ranking.demand)
                heapq.heappush(ranking.heap, (last, scored, stamp, host_id))
        ranking.seen = len(self._log)
        heap, paused = ranking.heap, []
        found: str | None = None
        while heap and found is None:
            _, _, stamp, host_id = heap[0]
            if stamp != self._stamps[host_id]:
                heapq.heappop(heap)
            elif self._trials.get((pool.id, host_id), 1) > 0:
                found = host_id
            else:
                # paused for this pool; another that asks for the same may use it
                paused.append(heapq.heappop(heap))
        for entry in paused:
            heapq.heappush(heap, entry)
        return found

    def _last_resort(self, room: Room, demand: Demand) -> bool:
        """Whether it is taken only where no other fits: it is being emptied, or would have to give
        desktops away at once."""
        above = self._view.site.rebalance_above
        if room.host.id in self._view.memory.emptying:
            return True
        return above > 0 and room.fullness(amounts(demand.need)) > above

    def _none(self, demand: Demand, pool: Pool) -> Choice:
        reasons = some_reasons(self._reasons(demand, pool), len(self.by_id))
        return Choice(host_id=None, why=no_host(reasons), reasons=reasons)

    def _reasons(self, demand: Demand, pool: Pool, but: str | None = None) -> list[str]:
        found: list[str] = []
        for host_id, room in self.by_id.items():
            if len(found) == limits.PLACEMENT_REASONS_MAX:
                break
            if host_id != but:
                found.append(reason(room, demand, self._blocked(pool, room)))
        return found

    def _blocked(self, pool: Pool, room: Room) -> str | None:
        key = (pool.id, room.host.id)
        if self._trials.get(key, 1) > 0:
            return None
        zone = zone_of(pool, self._view.site)
        words = told(self._view.breakers[key], self._view.now, zone)
        return (
            f"{room.host.name} is {words}"
            if words.startswith("paused")
            else (f"{room.host.name} {words}")
        )
