"""The ready desktops that a decision may give away."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from broker.domain.model import Desktop, Pool, PoolKind


class Ready:
    """Ready desktops that no live session holds, each given once, lowest name first."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], Desktop] = {}
        self._owned: defaultdict[tuple[str, str], deque[Desktop]] = defaultdict(deque)
        self._free: defaultdict[str, deque[Desktop]] = defaultdict(deque)
        self._given: set[str] = set()
        self.ids: set[str] = set()

    def add(self, desktops: Iterable[Desktop]) -> None:
        """Take desktops in, those of one pool ordered by name."""
        for desktop in desktops:
            self.ids.add(desktop.id)
            if desktop.endpoint_id is not None:
                self._at[desktop.pool_id, desktop.endpoint_id] = desktop
            if desktop.owner_id is not None:
                self._owned[desktop.pool_id, desktop.owner_id].append(desktop)
            else:
                self._free[desktop.pool_id].append(desktop)

    def has_own(self, pool_id: str, user_id: str) -> bool:
        return bool(self._owned.get((pool_id, user_id)))

    def take(self, pool: Pool, user_id: str, endpoint_id: str | None) -> Desktop | None:
        """The desktop that fits best, or None. `endpoint_id`: it must be that endpoint's."""
        if endpoint_id is not None:
            found = self._at.get((pool.id, endpoint_id))
            if found is None or found.owner_id not in {None, user_id}:
                return None
            return self._give(found)
        rows = [self._free[pool.id]]
        if pool.kind is PoolKind.DEDICATED:
            rows.insert(0, self._owned[pool.id, user_id])
        for row in rows:
            while row:
                found = row.popleft()
                if found.id not in self._given:
                    return self._give(found)
        return None

    def _give(self, desktop: Desktop) -> Desktop | None:
        if desktop.id in self._given:
            return None
        self._given.add(desktop.id)
        return desktop
