"""What desktops take from hosts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from broker.domain.model import Desktop, DesktopState, Host, Resources
from broker.domain.placement import HostLoad

STARTING = frozenset(
    {
        DesktopState.PLANNED,
        DesktopState.CREATING,
        DesktopState.STARTING,
        DesktopState.RESETTING,
        DesktopState.RESUMING,
        DesktopState.UNPARKING,
    }
)
"""states that count against a host's `start_limit`"""
ASLEEP = frozenset({DesktopState.SUSPENDED, DesktopState.PARKED})
"""states in which a machine takes its disk only"""


def waits_for_reset(desktop: Desktop) -> bool:
    """Whether it is to be made fresh and its host's turn for it has not come."""
    on_host = desktop.host_id is not None
    return desktop.state is DesktopState.RESETTING and desktop.deadline_at is None and on_host


TAKES_NOTHING = frozenset({DesktopState.DELETED, DesktopState.FAILED})

NOTHING = Resources(cpus=0.0, memory_mib=0)


def added(one: Resources, other: Resources) -> Resources:
    return Resources(
        cpus=one.cpus + other.cpus,
        memory_mib=one.memory_mib + other.memory_mib,
        disk_mib=one.disk_mib + other.disk_mib,
        disk_iops=one.disk_iops + other.disk_iops,
        network_mbit=one.network_mbit + other.network_mbit,
    )


def taken(desktop: Desktop) -> Resources:
    """What a desktop takes of a host in its state."""
    if desktop.state in ASLEEP:
        return Resources(cpus=0.0, memory_mib=0, disk_mib=desktop.resources.disk_mib)
    return desktop.resources


def host_load(host: Host, desktops: Iterable[Desktop]) -> HostLoad:
    """The load of these desktops, which are on the host or migrate to it."""
    by_pool: defaultdict[str, Resources] = defaultdict(lambda: NOTHING)
    numbers: Counter[str] = Counter()
    spares: Counter[str] = Counter()
    deleting: Counter[str] = Counter()
    starting = moving = running = waiting = 0
    for desktop in desktops:
        if desktop.state in TAKES_NOTHING:
            continue
        by_pool[desktop.pool_id] = added(by_pool[desktop.pool_id], taken(desktop))
        numbers[desktop.pool_id] += 1
        here = desktop.host_id == host.id
        starting += here and desktop.state in STARTING
        waiting += here and waits_for_reset(desktop)
        running += desktop.state not in ASLEEP
        if here and desktop.state is DesktopState.READY and desktop.owner_id is None:
            spares[desktop.pool_id] += 1
        if here and desktop.state is DesktopState.DELETING:
            deleting[desktop.pool_id] += 1
        moving += desktop.moving_to is not None
    tally = Tally(
        starting=starting - waiting, moving=moving, running=running, resets_waiting=waiting
    )
    return replace(load_of(host, by_pool, numbers, spares, tally), deleting_by_pool=dict(deleting))


@dataclass(slots=True, kw_only=True)
class Tally:
    """How many desktops of a host are in each of these ways under way; see HostLoad."""

    starting: int = 0
    moving: int = 0
    running: int = 0
    resets_waiting: int = 0


def load_of(
    host: Host,
    by_pool: Mapping[str, Resources],
    numbers: Mapping[str, int],
    spares: Mapping[str, int],
    tally: Tally,
) -> HostLoad:
    """The load of desktops that are counted already."""
    used = NOTHING
    for pool_id in sorted(by_pool):
        used = added(used, by_pool[pool_id])
    return HostLoad(
        host=host,
        used=used,
        starting=tally.starting,
        moving=tally.moving,
        by_pool=dict(by_pool),
        desktops_by_pool=dict(numbers),
        spares_by_pool={pool_id: count for pool_id, count in spares.items() if count},
        running=tally.running,
        resets_waiting=tally.resets_waiting,
    )
