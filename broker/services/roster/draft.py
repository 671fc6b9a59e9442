"""The draft of a roster's change: what is stored, what the roster makes of it, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from broker.domain import names
from broker.domain.model import (
    Desktop,
    Endpoint,
    Group,
    Host,
    Image,
    Instant,
    Pool,
    Resources,
    User,
)
from broker.domain.roster import HostRow, PoolRow, Problems, Roster
from broker.services.known_profiles import KnownProfiles


class _Record(Protocol):
    @property
    def id(self) -> str: ...


Stored = TypeVar("Stored", bound=_Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The stored records by name; an image's name is `name@version`.

    `profiles`: None leaves hosts' profiles unchecked.
    `reserved`: user names that a roster may not have; `removed`: likewise, images.
    """

    groups: Mapping[str, Group] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    images: Mapping[str, Image] = field(default_factory=dict)
    hosts: Mapping[str, Host] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    profiles: KnownProfiles | None = None
    reserved: Collection[str] = ()
    removed: Collection[str] = ()


@dataclass(slots=True, kw_only=True)
class Count:
    """How many records of a kind are new, changed and the same as stored."""

    new: int = 0
    changed: int = 0
    same: int = 0

    def as_fields(self) -> dict[str, int]:
        return {"new": self.new, "changed": self.changed, "same": self.same}


class Kind(Generic[Stored]):
    """One kind of record while the plan is made: what is stored and what the roster makes of it."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.stored = stored
        self.after: dict[str, Stored] = dict(stored)
        self.change: dict[str, Stored] = {}
        self.count = Count()

    def put(self, name: str, record: Stored) -> None:
        """Take a record up: new, changed or the same as stored. The latest one counts."""
        self.after[name] = record
        if record == self.stored.get(name):
            self.change.pop(name, None)
        else:
            self.change[name] = record

    def tally(self, named: Iterable[str]) -> None:
        """Count the records that the roster named."""
        for name in named:
            if name not in self.change:
                self.count.same += 1
            elif name in self.stored:
                self.count.changed += 1
            else:
                self.count.new += 1

    @property
    def changed(self) -> tuple[Stored, ...]:
        return tuple(self.change.values())


class Draft:
    """Everything that the makers of records share. `new_id` makes an id from a prefix."""

    def __init__(
        self,
        roster: Roster,
        known: Known,
        now: Instant,
        new_id: Callable[[str], str],
        problems: Problems,
    ) -> None:
        self.roster = roster
        self.profiles = known.profiles
        self.reserved = known.reserved
        self.removed = known.removed
        self.now = now
        self.new_id = new_id
        self._problems = problems
        self.groups = Kind(known.groups)
        self.users = Kind(known.users)
        self.images = Kind(known.images)
        self.hosts = Kind(known.hosts)
        self.pools = Kind(known.pools)
        self.endpoints = Kind(known.endpoints)
        self.entitlements = Count()
        self.desktops: list[Desktop] = []

    def bad(self, file: str, line: int, column: str, message: str) -> None:
        self._problems.add(file, line, column, message)

    def refer(
        self, kind: Kind[Stored], target: str, name: str, file: str, line: int, column: str
    ) -> Stored | None:
        """The record that a cell names; None, with a problem, when there is none.

        `target` is the file that would bring it. A record whose own line is bad, or whose file
        could not be read, is not reported a second time.
        """
        record = kind.after.get(name)
        if record is not None:
            return record
        table = self.roster.table(target)
        if table.readable and name not in table.keys:
            where = f"neither in {target} nor stored" if table.present else "not stored"
            self.bad(file, line, column, f"{names.shown(name)} is {where}")
        return None


def same_or(old: tuple[str, ...], new: Iterable[str]) -> tuple[str, ...]:
    """The new ids, in the old order when they are the same ones: order means nothing here."""
    fresh = tuple(new)
    return old if set(old) == set(fresh) and len(old) == len(fresh) else fresh


def sized(old: Resources, row: HostRow | PoolRow) -> Resources:
    """What a line gives; what it leaves out stays."""
    return Resources(
        cpus=row.cpus,
        memory_mib=row.memory_mib,
        disk_mib=old.disk_mib if row.disk_mib is None else row.disk_mib,
        disk_iops=old.disk_iops if row.disk_iops is None else row.disk_iops,
        network_mbit=old.network_mbit if row.network_mbit is None else row.network_mbit,
    )
