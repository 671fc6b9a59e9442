"""What desktops take from hosts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

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
    starting = moving = 0
    for desktop in desktops:
        if desktop.state in TAKES_NOTHING:
            continue
        by_pool[desktop.pool_id] = added(by_pool[desktop.pool_id], taken(desktop))
        numbers[desktop.pool_id] += 1
        starting += desktop.state in STARTING and desktop.host_id == host.id
        moving += desktop.moving_to is not None
    return load_of(host, by_pool, numbers, starting=starting, moving=moving)


def load_of(
    host: Host,
    by_pool: dict[str, Resources],
    numbers: dict[str, int],
    *,
    starting: int,
    moving: int,
) -> HostLoad:
    """The load of desktops that are counted already."""
    used = NOTHING
    for pool_id in sorted(by_pool):
        used = added(used, by_pool[pool_id])
    return HostLoad(
        host=host,
        used=used,
        starting=starting,
        moving=moving,
        by_pool=dict(by_pool),
        desktops_by_pool=dict(numbers),
    )
