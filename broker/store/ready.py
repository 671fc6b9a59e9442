"""The ready desktops that a decision may give away."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from broker.domain.keeping import keeps_work
from broker.domain.model import Desktop, HostState, Pool, PoolKind
from broker.domain.planning.view import RUNS


def open_to_take(desktop: Desktop, host: HostState | None) -> bool:
    """Whether its host lets anybody have it. Nobody is given one on a host that drains, is under
    maintenance or does not run; a person's own is his wherever it can run. None: it is on no
    host."""
    if host is None:
        return True
    return host is HostState.UP if desktop.owner_id is None else host in RUNS


class Ready:
    """Ready desktops that no live session holds, each given once, in the order taken in."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], Desktop] = {}
        self._owned: defaultdict[tuple[str, str], deque[Desktop]] = defaultdict(deque)
        self._free: defaultdict[str, deque[Desktop]] = defaultdict(deque)
        self._given: set[str] = set()
        self._owners: set[tuple[str, str]] = set()
        self.ids: set[str] = set()

    def add(self, desktops: Iterable[Desktop]) -> None:
        """Take desktops in, those of one pool in the order in which they are given. An endpoint's
        desktop is given to whoever sits there, and to nobody else."""
        for desktop in desktops:
            self.ids.add(desktop.id)
            if desktop.endpoint_id is not None:
                self._at[desktop.pool_id, desktop.endpoint_id] = desktop
            elif desktop.owner_id is not None:
                self._owned[desktop.pool_id, desktop.owner_id].append(desktop)
            else:
                self._free[desktop.pool_id].append(desktop)

    def add_owners(self, owners: Iterable[tuple[str, str]]) -> None:
        """(pool, user) for each person who owns a desktop of that pool, ready or not."""
        self._owners.update(owners)

    def has_own(self, pool_id: str, user_id: str) -> bool:
        return bool(self._owned.get((pool_id, user_id)))

    def take(
        self, pool: Pool, user_id: str, endpoint_id: str | None, *, owned: bool = False
    ) -> Desktop | None:
        """The desktop that fits best, or None. `endpoint_id`: it must be that endpoint's;
        `owned`: the person's own. Whose work lies in a desktop that is not ready waits for it:
        another one would be empty."""
        if endpoint_id is not None:
            found = self._at.get((pool.id, endpoint_id))
            owners = {user_id} if owned else {None, user_id}
            if found is None or found.owner_id not in owners:
                return None
            return self._give(found)
        waits = (pool.id, user_id) in self._owners and keeps_work(pool, user_id)
        rows = [] if owned or waits else [self._free[pool.id]]
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
