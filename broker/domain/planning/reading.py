"""Which hosts' desktops are read one by one in this look.

Each kind of reason has its own row of hosts, which goes on where the last look ended, and the rows
are read in turn: no host keeps the others from being read, and no reason the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import HostState
from broker.domain.placement import HostLoad
from broker.domain.planning.awaited import cannot_run, resumption
from broker.domain.planning.evacuate import LEAVES
from broker.domain.planning.excess import misplaced_on, overfull
from broker.domain.planning.rebalance import too_full
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import RUNS, View

AWAITED: Final = "awaited"
_ROWS_MIN: Final = limits.RECONCILE_BATCH_MAX
"""desktops that are read of a host at least, if it has so many"""


def hosts_to_read(view: View) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """(host id -> how many of its desktops at most, reason -> the last host read for it)."""
    loads = {load.host.id: load for load in view.hosts}
    found: dict[str, int] = {}
    after = dict(view.memory.read_after)
    rows = {kind: _rotated(ids, after.get(kind)) for kind, ids in _kinds(view).items()}
    while rows and len(found) < limits.HOSTS_READ_PER_LOOK_MAX:
        for kind in tuple(rows):
            host_id = next(rows[kind], None)
            if host_id is None:
                del rows[kind]
            elif len(found) < limits.HOSTS_READ_PER_LOOK_MAX:
                after[kind] = host_id
                found[host_id] = max(_ROWS_MIN, sum(loads[host_id].desktops_by_pool.values()))
    return found, after


def _kinds(view: View) -> Mapping[str, Sequence[str]]:
    """Reason to read -> ids of hosts."""
    rooms = Rooms(view)
    return {
        AWAITED: sorted(set(_awaited(view, rooms))),
        "leaving": sorted(load.host.id for load in view.hosts if _may_leave(view, load)),
        "full": sorted(too_full(view, rooms)),
        "excess": sorted({*overfull(rooms), *misplaced_on(view)}),
        "emptying": sorted(host_id for host_id in view.memory.emptying if host_id in rooms.by_id),
    }


def _awaited(view: View, rooms: Rooms) -> Iterator[str]:
    """Where a person waits for room."""
    pools = {pool.id: pool for pool in view.pools}
    for desktop in view.awaited:
        pool = pools.get(desktop.pool_id)
        room = rooms.by_id.get(desktop.host_id or "")
        if pool is None or room is None or room.host.state not in RUNS:
            continue
        if cannot_run(room, resumption(desktop, pool)):
            yield room.host.id


def _may_leave(view: View, load: HostLoad) -> bool:
    """Whether anything could leave a host that is to be emptied."""
    if load.host.state not in LEAVES:
        return False
    there = sum(load.desktops_by_pool.values())
    if load.host.state is HostState.MAINTENANCE and view.can(load.host.id, Feature.MIGRATE):
        return there > 0
    return bool(load.spares_by_pool) or there > load.running


def _rotated(ids: Sequence[str], after: str | None) -> Iterator[str]:
    later: Iterable[str] = (one for one in ids if after is None or one > after)
    yield from later
    if after is not None:
        yield from (one for one in ids if one <= after)
