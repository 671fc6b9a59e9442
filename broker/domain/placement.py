"""Which host gets the next desktop: filter, score, choose, and say why.

Pure: the same hosts and the same load give the same answer, whatever their order. A host fits
when, for each resource that it counts, the sum of what its desktops may take stays within
capacity times overcommit, and the sum of what they are guaranteed within capacity. Breadth first
takes the host that keeps the largest free share of its scarcest resource, depth first the one
that keeps the smallest; ties go to the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Final

from broker import limits
from broker.domain.model import Host, HostState, Resources
from broker.domain.settings import Share, Spread
from broker.domain.storage import OWN, SAME, StorageClass

NO_HOST: Final = "no host fits: "
"""what the reasons of several hosts follow"""
_SLACK: Final = 1e-6
"""CPUs are sums of fractions: what differs by less than this is the same"""
_NAMES: Final = ("CPUs", "MiB of memory", "MiB of disk", "disk operations a second", "Mbit/s")

Amounts = tuple[float, float, float, float, float]
"""CPUs, memory MiB, disk MiB, disk operations a second, network Mbit/s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLoad:
    """A host and what is on it: `used` counts machines that are still being made.

    `starting` is held against its limit of starts; `resets_waiting`: desktops that are to be made
    fresh and whose turn has not come. `by_pool`: what the desktops of each pool take; a pool's
    guarantee of it is reserved. `desktops_by_pool`: how many; `spares_by_pool`: of them, ready
    ones that nobody owns; `deleting_by_pool`: those that are being removed; `running`: how many
    are not suspended. `moving`: desktops that migrate from it or to it. `storage`: its classes of
    storage by name; none: it has none. `silent`: it is not heard.
    """

    host: Host
    used: Resources
    starting: int
    by_pool: Mapping[str, Resources] = field(default_factory=dict)
    desktops_by_pool: Mapping[str, int] = field(default_factory=dict)
    moving: int = 0
    spares_by_pool: Mapping[str, int] = field(default_factory=dict)
    deleting_by_pool: Mapping[str, int] = field(default_factory=dict)
    running: int = 0
    resets_waiting: int = 0
    storage: Mapping[str, StorageClass] = field(default_factory=dict)
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One desktop that looks for a host. See PoolSettings for the wishes. `starts` False: it runs
    already (it migrates, or grows), so the host's limit of starts does not matter. `storage`: the
    class that its disk is made in; None: none is made."""

    need: Resources
    pool_id: str = ""
    guarantee: Share = field(default_factory=Share)
    labels: tuple[str, ...] = ()
    prefer_labels: tuple[str, ...] = ()
    apart: bool = False
    spread: Spread = Spread.BREADTH
    starts: bool = True
    storage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The host chosen (or none), why, and a sentence for each host by name, the chosen first; past
    PLACEMENT_REASONS_MAX hosts the rest are counted."""

    host_id: str | None
    why: str
    reasons: tuple[str, ...]


def amounts(resources: Resources) -> Amounts:
    return (
        resources.cpus,
        resources.memory_mib,
        resources.disk_mib,
        resources.disk_iops,
        resources.network_mbit,
    )


def guaranteed(resources: Resources, share: Share) -> Amounts:
    """The part of each resource that is kept for a desktop whatever others do."""
    cpus, memory, disk, iops, network = amounts(resources)
    return (
        cpus * share.cpus,
        memory * share.memory,
        disk * share.disk,
        iops * share.disk,
        network * share.network,
    )


def plus(one: Amounts, other: Amounts) -> Amounts:
    return (
        one[0] + other[0],
        one[1] + other[1],
        one[2] + other[2],
        one[3] + other[3],
        one[4] + other[4],
    )


def minus(one: Amounts, other: Amounts) -> Amounts:
    return (
        one[0] - other[0],
        one[1] - other[1],
        one[2] - other[2],
        one[3] - other[3],
        one[4] - other[4],
    )


class Room:
    """A host's room while a plan is made: what is promised on it, and what still fits.

    `reserved` is the sum of the guarantees of what is there. `starting` None: the limit of starts
    does not matter here. `open` overrides the host's state: it counts as up.
    """

    __slots__ = ("capacity", "desktops", "host", "most", "moving", "open", "promised", "reserved",
                 "silent", "starting", "storage", "used")  # fmt: skip

    def __init__(self, load: HostLoad, guarantees: Mapping[str, Share]) -> None:
        host = load.host
        self.host = host
        self.silent = load.silent
        self.open = host.state is HostState.UP
        self.starting: int | None = load.starting
        self.moving = load.moving
        self.desktops = dict(load.desktops_by_pool)
        self.storage = load.storage
        self.promised: dict[str, float] = {}
        """class of storage -> MiB of disks that are on their way"""
        self.capacity = amounts(host.capacity)
        cpus, memory, disk, iops, network = self.capacity
        settings = host.settings
        self.most: Amounts = (
            cpus * host.overcommit_cpu,
            memory * settings.overcommit_memory,
            disk * settings.overcommit_disk,
            iops * settings.overcommit_disk,
            network * settings.overcommit_network,
        )
        self.used = amounts(load.used)
        self.reserved: Amounts = (0.0, 0.0, 0.0, 0.0, 0.0)
        for pool_id, taken in load.by_pool.items():
            share = guarantees.get(pool_id)
            if share is not None:
                self.reserved = plus(self.reserved, guaranteed(taken, share))

    def take(self, demand: Demand) -> None:
        """One more desktop is on its way here."""
        self.used = plus(self.used, amounts(demand.need))
        self.reserved = plus(self.reserved, guaranteed(demand.need, demand.guarantee))
        self.desktops[demand.pool_id] = self.desktops.get(demand.pool_id, 0) + 1
        if self.starting is not None and demand.starts:
            self.starting += 1
        if demand.storage is not None and demand.storage in self.storage:
            promised = self.promised.get(demand.storage, 0.0)
            self.promised[demand.storage] = promised + demand.need.disk_mib

    def release(self, resources: Resources, guarantee: Share) -> None:
        """As if a desktop that takes this had gone."""
        self.used = minus(self.used, amounts(resources))
        self.reserved = minus(self.reserved, guaranteed(resources, guarantee))

    def copy(self) -> Room:
        """For asking what if."""
        twin = copy(self)
        twin.desktops = dict(self.desktops)
        twin.promised = dict(self.promised)
        return twin

    def lacks(self, need: Resources, guarantee: Share) -> str | None:
        """What is missing for this much more, in words; None if it fits."""
        wants, keeps = amounts(need), guaranteed(need, guarantee)
        for index, name in enumerate(_NAMES):
            # a host that states no capacity for disk or network does not count it
            if index > 1 and not self.capacity[index]:
                continue
            short = self.used[index] + wants[index] - self.most[index]
            if short > _SLACK:
                return f"{self.host.name} lacks {_figure(min(short, wants[index]))} {name}"
            short = self.reserved[index] + keeps[index] - self.capacity[index]
            if short > _SLACK:
                figure = _figure(min(short, keeps[index]))
                return f"{self.host.name} cannot guarantee {figure} {name} more"
        return None

    def fullness(self, more: Amounts = (0.0, 0.0, 0.0, 0.0, 0.0)) -> float:
        """The used share of its scarcest resource (0 to 1, above if it is overfull), after it
        took `more`."""
        fullest = 0.0
        for index, most in enumerate(self.most):
            if index > 1 and not self.capacity[index]:
                continue
            taken = self.used[index] + more[index]
            fullest = max(fullest, taken / most if most > 0 else float(taken > 0))
        return fullest


def _figure(value: float) -> str:
    return f"{round(value, 2):g}" if value < 1000 else f"{value:.0f}"  # noqa: PLR2004 - 4 digits


def refusal(room: Room, demand: Demand) -> str | None:
    """Why this desktop cannot be made on this host, in words; None if it can."""
    host = room.host
    if not room.open:
        return f"{host.name} {_STATES[host.state]}"
    if room.silent:
        return f"{host.name} does not answer"
    missing = [label for label in demand.labels if label not in host.settings.labels]
    if missing:
        return f"{host.name} has no label {missing[0]}"
    return (
        _no_storage(room, demand)
        or over_starts(room, demand)
        or room.lacks(demand.need, demand.guarantee)
    )


def _no_storage(room: Room, demand: Demand) -> str | None:
    """Why its disk cannot be made there, in words."""
    if demand.storage is None:
        return None
    found = room.storage.get(demand.storage)
    if found is None:
        missing = f"{room.host.name} has no storage class {demand.storage}"
        return missing if demand.storage else None
    more_mib = room.promised.get(demand.storage, 0.0) + demand.need.disk_mib
    refused = found.refusal(more_mib)
    return refused and f"{room.host.name}: {found.title}: {refused}"


def shares_storage(one: Room, other: Room, name: str) -> bool:
    """Whether disks of that class at one host are the other's, too."""
    found = [
        room.storage[name].shared if name in room.storage else SAME if name == OWN else ""
        for room in (one, other)
    ]
    return bool(found[0]) and found[0] == found[1]


def over_starts(room: Room, demand: Demand) -> str | None:
    """That the host starts as many desktops as it may; None if it can start one more."""
    if not demand.starts or room.starting is None or room.starting < room.host.start_limit:
        return None
    host = room.host
    return f"{host.name} starts {room.starting} desktops already (limit {host.start_limit})"


_STATES: Final = {
    HostState.UP: "is up",
    HostState.DRAINING: "drains",
    HostState.MAINTENANCE: "is under maintenance",
    HostState.DOWN: "is down",
    HostState.OFF: "is off",
    HostState.POWERING_ON: "is switched on just now",
    HostState.POWERING_OFF: "is switched off just now",
    HostState.RETIRED: "is retired",
}

Score = tuple[int, int, float, float, str]
"""lower is better: desktops of its pool there (if they are to be apart), preferred labels that it
lacks, what its class of storage costs there, fullness or emptiness, name"""


def score(room: Room, demand: Demand) -> Score:
    """How well a host that fits suits this desktop."""
    host = room.host
    together = room.desktops.get(demand.pool_id, 0) if demand.apart else 0
    unliked = sum(label not in host.settings.labels for label in demand.prefer_labels)
    full = room.fullness(amounts(demand.need))
    filled = full if demand.spread is Spread.BREADTH else -full
    return (together, unliked, _cost(room, demand), filled, host.name)


def _cost(room: Room, demand: Demand) -> float:
    """Of the class that was asked for; who asks for none is not moved by what things cost."""
    found = room.storage.get(demand.storage) if demand.storage is not None else None
    return found.cost if found is not None else 0.0


def chosen(best: Room, demand: Demand) -> str:
    """Why this host, in words."""
    free = 1 - best.fullness(amounts(demand.need))
    most = "most" if demand.spread is Spread.BREADTH else "least"
    text = f"{best.host.name} has {most} room ({free:.0%} left)"
    if demand.apart and not best.desktops.get(demand.pool_id, 0):
        text = f"{best.host.name} has no desktop of this pool yet ({free:.0%} left)"
    if demand.storage:
        text += f"; {demand.storage} costs {_cost(best, demand):g} there"
    return text


def reason(room: Room, demand: Demand, blocked: str | None = None) -> str:
    """One sentence on one host: why not, or what would be left. `blocked`: why the pool may not
    use it, whatever its room."""
    refused = refusal(room, demand) or blocked
    if refused is not None:
        return refused
    return f"{room.host.name} would keep {1 - room.fullness(amounts(demand.need)):.0%} free"


def some_reasons(reasons: Sequence[str], hosts: int) -> tuple[str, ...]:
    """The sentences that are kept, out of those on so many hosts."""
    kept = tuple(reasons[: limits.PLACEMENT_REASONS_MAX])
    if hosts > len(kept):
        return (*kept, f"and {hosts - len(kept)} more hosts")
    return kept


def choose(
    loads: Sequence[HostLoad], demand: Demand, guarantees: Mapping[str, Share] | None = None
) -> Choice:
    """The host for one more desktop. `guarantees`: pool id -> what its desktops are guaranteed.

    Looks at every host once. Plans that choose often use planning.rooms, which answers the same.
    """
    rooms = sorted((Room(load, guarantees or {}) for load in loads), key=lambda one: one.host.name)
    fitting = [room for room in rooms if refusal(room, demand) is None]
    if not fitting:
        reasons = some_reasons([reason(room, demand) for room in rooms], len(rooms))
        return Choice(host_id=None, why=no_host(reasons), reasons=reasons)
    best = min(fitting, key=lambda room: score(room, demand))
    others = [reason(room, demand) for room in rooms if room is not best]
    return Choice(
        host_id=best.host.id,
        why=chosen(best, demand),
        reasons=some_reasons([reason(best, demand), *others], len(rooms)),
    )


def no_host(reasons: Sequence[str]) -> str:
    return NO_HOST + "; ".join(reasons) if reasons else "no host is known"
