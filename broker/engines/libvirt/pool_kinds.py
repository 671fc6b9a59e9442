"""The kinds of storage pools that desktops are kept in, and how a disk is made in each.

Which kind a pool is, is read from the host. What libvirt's driver for a kind has no way to do is
told here, before it is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker.domain.errors import UnsupportedError
from broker.engines.libvirt.kinds import Clone, Kind


class Disks(StrEnum):
    """What a volume is to a machine: a file, a block device, or something across the network."""

    FILES = "files"
    BLOCKS = "blocks"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolKind:
    """name: libvirt's. cost: of a class in it unless its administrator says otherwise.
    shared: whether what it names is the same at every host that names it."""

    name: str
    title: str
    disks: Disks
    cost: float
    shared: bool = False

    def disk_format(self, kind: Kind) -> str:
        """Of golden images and desktops' disks; also the end of their names."""
        return kind.disk_format if self.disks is Disks.FILES else "raw"

    @property
    def whole(self) -> bool:
        """Whether a disk takes its whole size when it is made."""
        return self.disks is Disks.BLOCKS

    def refusal(self, kind: Kind, clone: Clone) -> str:
        """Why no disk of a machine of that kind is made so in it; empty: one is."""
        if self.disks is Disks.FILES:
            return ""
        if kind.name not in _TAKES_DEVICES:
            return f"disks of {kind.title} are files, and {self.title} has none"
        if clone is Clone.INSTANT:
            return f"a golden desktop's memory is kept in a file, and {self.title} has none"
        if self.disks is Disks.NETWORK and clone is Clone.FULL:
            return f"libvirt makes clones in {self.title} by layering only (clone=linked)"
        return ""


_TAKES_DEVICES: Final = frozenset({"qemu", "test"})
"""kinds of hypervisors whose machines are given disks that are not files"""

POOL_KINDS: Final[Mapping[str, PoolKind]] = {
    kind.name: kind
    for kind in (
        PoolKind(name="dir", title="a directory", disks=Disks.FILES, cost=1.0),
        PoolKind(name="fs", title="a file system of its own", disks=Disks.FILES, cost=1.0),
        PoolKind(
            name="netfs", title="a network file system", disks=Disks.FILES, cost=2.0, shared=True
        ),
        PoolKind(name="logical", title="an LVM volume group", disks=Disks.BLOCKS, cost=2.0),
        PoolKind(name="rbd", title="Ceph RBD", disks=Disks.NETWORK, cost=3.0, shared=True),
    )
}
"""by libvirt's name"""


def pool_kind(name: str, host: str) -> PoolKind:
    """Raises UnsupportedError for a kind in which the broker keeps no desktops."""
    found = POOL_KINDS.get(name)
    if found is None:
        raise UnsupportedError(f"{host}: {no_kind(name)}")
    return found


def no_kind(name: str) -> str:
    return f"the broker keeps no desktops in pools of kind {name}; only in {', '.join(POOL_KINDS)}"
