"""The files of a roster: their columns, and one record type for the lines of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from broker.domain.model import Architecture, EndpointKind, LogOff, PoolKind, Role
from broker.domain.roster import cells

_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. A `required` one has a value in every line.

    In the others a missing column and an empty cell both mean None, "leave it as it is", except
    that a list's empty cell is the empty list.
    """

    name: str
    read: Callable[[str], Any]
    required: bool = False
    is_list: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    line: int
    username: str
    display_name: str | None
    role: Role | None
    groups: tuple[str, ...] | None

    @property
    def key(self) -> str:
        return self.username


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    line: int
    name: str
    title: str | None

    @property
    def key(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    line: int
    name: str
    version: int
    size_gib: float
    boot_mib: float

    @property
    def key(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    line: int
    name: str
    engine: str | None
    profile: str | None
    cpus: float
    memory_mib: int
    overcommit_cpu: float | None
    start_limit: int | None
    disk_mib: int | None
    disk_iops: int | None
    network_mbit: int | None

    @property
    def key(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    line: int
    name: str
    title: str | None
    architecture: Architecture
    kind: PoolKind | None
    image: str
    cpus: float
    memory_mib: int
    spares: int | None
    max: int | None
    log_off: LogOff | None
    disconnect_grace_s: int | None
    lease_s: int | None
    disk_mib: int | None
    disk_iops: int | None
    network_mbit: int | None

    @property
    def key(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class EntitlementRow:
    line: int
    pool: str
    group: str

    @property
    def key(self) -> str:
        return f"{self.pool};{self.group}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    line: int
    name: str
    kind: EndpointKind
    location: str | None
    pools: tuple[str, ...] | None

    @property
    def key(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """One file. `row` has a field for the line number and one for each column; `key` names the
    columns that together name a line's record."""

    file: str
    row: type[Any]
    columns: tuple[Column, ...]
    key: tuple[str, ...]


_CPUS = partial(cells.decimal, 0.1, 4096)
_MEMORY_MIB = partial(cells.whole, 16, 64 * 1024 * 1024)
_DISK_AND_NETWORK = (
    Column(name="disk_mib", read=partial(cells.whole, 0, 1 << 40)),
    Column(name="disk_iops", read=partial(cells.whole, 0, 100_000_000)),
    Column(name="network_mbit", read=partial(cells.whole, 0, 10_000_000)),
)

_SPECS = (
    FileSpec(
        file="groups.csv",
        row=GroupRow,
        key=("name",),
        columns=(
            Column(name="name", read=cells.name, required=True),
            Column(name="title", read=cells.label),
        ),
    ),
    FileSpec(
        file="users.csv",
        row=UserRow,
        key=("username",),
        columns=(
            Column(name="username", read=cells.username, required=True),
            Column(name="display_name", read=cells.label),
            Column(name="role", read=partial(cells.one_of, Role)),
            Column(name="groups", read=cells.name_list, is_list=True),
        ),
    ),
    FileSpec(
        file="images.csv",
        row=ImageRow,
        key=("name", "version"),
        columns=(
            Column(name="name", read=cells.plain_name, required=True),
            Column(name="version", read=partial(cells.whole, 1, 1_000_000_000), required=True),
            Column(name="size_gib", read=partial(cells.decimal, 0.001, 65_536), required=True),
            Column(name="boot_mib", read=partial(cells.decimal, 0.001, 65_536), required=True),
        ),
    ),
    FileSpec(
        file="hosts.csv",
        row=HostRow,
        key=("name",),
        columns=(
            Column(name="name", read=cells.name, required=True),
            Column(name="engine", read=cells.name),
            Column(name="profile", read=cells.profile),
            Column(name="cpus", read=_CPUS, required=True),
            Column(name="memory_mib", read=_MEMORY_MIB, required=True),
            Column(name="overcommit_cpu", read=partial(cells.decimal, 1, 100)),
            Column(name="start_limit", read=partial(cells.whole, 1, 10_000)),
            *_DISK_AND_NETWORK,
        ),
    ),
    FileSpec(
        file="pools.csv",
        row=PoolRow,
        key=("name",),
        columns=(
            Column(name="name", read=cells.name, required=True),
            Column(name="title", read=cells.label),
            Column(name="architecture", read=partial(cells.one_of, Architecture), required=True),
            Column(name="kind", read=partial(cells.one_of, PoolKind)),
            Column(name="image", read=cells.image_reference, required=True),
            Column(name="cpus", read=_CPUS, required=True),
            Column(name="memory_mib", read=_MEMORY_MIB, required=True),
            Column(name="spares", read=partial(cells.whole, 0, 100_000)),
            Column(name="max", read=partial(cells.whole, 0, 100_000)),
            Column(name="log_off", read=partial(cells.one_of, LogOff)),
            Column(name="disconnect_grace_s", read=partial(cells.whole, 0, 30 * _DAY_S)),
            Column(name="lease_s", read=partial(cells.whole, 0, 90 * _DAY_S)),
            *_DISK_AND_NETWORK,
        ),
    ),
    FileSpec(
        file="entitlements.csv",
        row=EntitlementRow,
        key=("pool", "group"),
        columns=(
            Column(name="pool", read=cells.name, required=True),
            Column(name="group", read=cells.name, required=True),
        ),
    ),
    FileSpec(
        file="endpoints.csv",
        row=EndpointRow,
        key=("name",),
        columns=(
            Column(name="name", read=cells.name, required=True),
            Column(name="kind", read=partial(cells.one_of, EndpointKind), required=True),
            Column(name="location", read=cells.label),
            Column(name="pools", read=cells.name_list, is_list=True),
        ),
    ),
)

FILES: Mapping[str, FileSpec] = {spec.file: spec for spec in _SPECS}
"""Every file of a roster by name, in the order in which they depend on each other."""
