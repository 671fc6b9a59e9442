"""What is found out about a host: what it can and cannot do, and whether it fits at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from broker.domain.storage import StorageClass


class Verdict(StrEnum):
    """Of one thing that a host needs. Unknown: nobody could look, or it cannot be told."""

    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was looked at before a host is added.

    name: stable, for programs. says: what was found. advice: what to do about it; empty where
    nothing need be done. found: what a person may be asked to confirm or to take over, by name:
    host_key (a fingerprint), public_key (a line for authorized_keys), cpus, memory_mib.
    """

    name: str
    verdict: Verdict
    says: str
    advice: str = ""
    found: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """Something that desktops may want of a host. says: why it can, or cannot."""

    name: str
    says: str


HELD: Final = (
    "guarantee_cpus", "guarantee_memory", "guarantee_disk", "guarantee_network",
    "weights_cpus", "weights_memory", "weights_disk", "weights_network",
    "limits_disk", "limits_network", "share_pages",
)  # fmt: skip
"""abilities of each of a pool's resources: whether machines are held to it, beside by placement"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """A host as it was found. facts: (what, how it is), in the order to show them."""

    facts: tuple[tuple[str, str], ...]
    can: tuple[Ability, ...]
    cannot: tuple[Ability, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """The part of the time, 0 to 1, in which tasks waited for a resource (Linux PSI): some of
    them, or all at once (`full`), over the last 10, 60 and 300 seconds."""

    some: tuple[float, float, float]
    full: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSharing:
    """Equal memory pages that the host keeps once (KSM). `on`: None, it cannot be told. Bytes:
    `kept` once, instead of `kept` + `saved`."""

    on: bool | None
    kept: int
    saved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a host is at this moment. None: nobody could tell; `unknown` says why, by what is
    missing (pressure, page_sharing, memory, disk).

    pressure: resource (cpu, memory, io) -> how much is waited for it.
    memory_free_mib: that no process has, or that could be taken from caches at once.
    disk_free: bytes free of `disk_total`, in the storage of the desktops.
    storage: the host's classes of storage that pools may name.
    """

    pressure: Mapping[str, Pressure] | None = None
    page_sharing: PageSharing | None = None
    memory_mib: int | None = None
    memory_free_mib: int | None = None
    disk_total: int | None = None
    disk_free: int | None = None
    storage: tuple[StorageClass, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
