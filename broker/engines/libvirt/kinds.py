"""The kinds of hypervisors that libvirt speaks to, and what this engine does with each.

What a kind declares is what libvirt's driver for it has (its table of functions), as far as the
engine goes; what one host lacks of that is found out at the host (capabilities.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from broker.domain.features import Feature


class Clone(StrEnum):
    """Linked: an overlay on the golden image. Full: a copy of it. Instant: linked, and resumed
    from the memory of a golden desktop that was booted once (instant.py)."""

    LINKED = "linked"
    FULL = "full"
    INSTANT = "instant"


class Agent(StrEnum):
    """Where the guest's agent is heard: over a port of its machine, or over the network, where it
    links up with a ticket. None: a machine that runs counts as ready."""

    CHANNEL = "channel"
    WEBSOCKET = "websocket"
    NONE = "none"


_ALL_CLONES: Final = (Clone.LINKED, Clone.FULL, Clone.INSTANT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of hypervisor: what libvirt's driver for it can do, as far as this engine goes.

    drivers: names that a libvirt address begins with; the first is the usual one.
    uri: the usual address on the broker's own machine; empty: it is always elsewhere.
    domain_types, os_type: as the host's capabilities must offer them, the first of the types
        unless the profile asks for another; none: not looked at.
    clones: how a desktop's disk can be made of its golden image, the usual way first.
    disk_format: of golden images and disks; also the end of their names.
    agents: where a guest's agent can be heard, the usual place first.
    socket: the daemon's at a host that is reached over SSH; empty: there is none.
    lacks: feature -> why a host of this kind does not have it.
    refuses: why no desktop is made here at all; empty: they are.
    """

    name: str
    title: str
    drivers: tuple[str, ...]
    uri: str = ""
    domain_types: tuple[str, ...] = ()
    os_type: str = "hvm"
    clones: tuple[Clone, ...] = (Clone.FULL,)
    disk_format: str = "qcow2"
    agents: tuple[Agent, ...] = (Agent.NONE,)
    features: frozenset[Feature] = frozenset()
    displays: bool = False
    socket: str = "/run/libvirt/libvirt-sock"
    lacks: Mapping[Feature, str] = field(default_factory=dict)
    refuses: str = ""

    @property
    def agent(self) -> Agent:
        """Where a guest's agent is heard unless the profile says otherwise."""
        return self.agents[0]


_NO_TAGS: Final = (
    "libvirt's driver for it keeps no metadata on a machine, so the broker could not tell whose it "
    "is, nor fence off an older generation of it"
)
_POWER: Final = "its profile does not say how (off and wake)"

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            name="qemu",
            title="QEMU, with KVM where it is asked for",
            drivers=("qemu",),
            uri="qemu:///system",
            domain_types=("qemu", "kvm"),
            clones=_ALL_CLONES,
            agents=(Agent.CHANNEL, Agent.NONE),
            features=frozenset(
                {Feature.SUSPEND, Feature.MIGRATE, Feature.RESIZE, Feature.SNAPSHOT}
            ),
            displays=True,
            lacks={Feature.HOST_POWER: _POWER},
        ),
        Kind(
            name="lxc",
            title="Linux containers",
            drivers=("lxc",),
            uri="lxc:///system",
            domain_types=("lxc",),
            os_type="exe",
            disk_format="raw",
            agents=(Agent.WEBSOCKET, Agent.NONE),
            features=frozenset({Feature.RESIZE}),
            lacks={
                Feature.SUSPEND: "a frozen container keeps its memory, and none can be saved",
                Feature.MIGRATE: "a running container cannot be moved",
                Feature.HOST_POWER: _POWER,
                Feature.SNAPSHOT: "libvirt keeps none of containers",
            },
        ),
        Kind(
            name="xen",
            title="Xen",
            drivers=("xen",),
            uri="xen:///system",
            domain_types=("xen",),
            clones=(Clone.LINKED, Clone.FULL),
            features=frozenset({Feature.SUSPEND}),
            lacks={
                Feature.MIGRATE: "moves between Xen hosts have not been tried",
                Feature.RESIZE: "Xen's scheduler takes other figures than the broker gives",
                Feature.HOST_POWER: _POWER,
                Feature.SNAPSHOT: "libvirt's driver for Xen has none",
            },
        ),
        Kind(
            name="esx",
            title="VMware ESX and vCenter",
            drivers=("esx", "vpx"),
            os_type="hvm",
            socket="",
            refuses=_NO_TAGS,
        ),
        Kind(name="hyperv", title="Hyper-V", drivers=("hyperv",), socket="", refuses=_NO_TAGS),
        Kind(
            name="vbox",
            title="VirtualBox",
            drivers=("vbox",),
            uri="vbox:///session",
            refuses=_NO_TAGS,
        ),
        Kind(
            name="vmware",
            title="VMware Workstation and Player",
            drivers=("vmwarews", "vmwareplayer", "vmwarefusion"),
            uri="vmwarews:///session",
            refuses=_NO_TAGS,
        ),
        Kind(
            name="vz",
            title="Virtuozzo",
            drivers=("vz", "openvz"),
            uri="vz:///system",
            refuses=_NO_TAGS,
        ),
        Kind(
            name="test",
            title="libvirt's test driver: machines in memory",
            drivers=("test",),
            uri="test:///default",
            clones=(Clone.LINKED, Clone.FULL),
            features=frozenset({Feature.SUSPEND, Feature.RESIZE}),
            socket="",
            lacks={
                Feature.MIGRATE: "its machines are of one process",
                Feature.HOST_POWER: _POWER,
                Feature.SNAPSHOT: "its machines have no disks to keep them in",
            },
        ),
    )
}
"""by name; a host's profile begins with it"""
