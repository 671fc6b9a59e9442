"""XML for libvirt, built and read as trees.

What comes from a host is read with a limit on its size and without document types, so that
neither entities nor a huge answer hurt the broker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID
from xml.etree import ElementTree as ET

from broker.domain.errors import EngineError
from broker.domain.model import Resources
from broker.engines.libvirt.kinds import Agent
from broker.engines.libvirt.knobs import Accel, Place, Shows
from broker.engines.libvirt.tags import Tags, mac_address, printable
from broker.engines.libvirt.tuning import BALLOON_STATS_S, DISK, Tuning
from broker.guest_wire import PORT_NAME
from broker.limits import LIBVIRT_XML_BYTES_MAX

_KIB_PER_MIB: Final = 1024


def parse(text: str) -> ET.Element:
    """Raises EngineError for what is too long, has a document type, or is no XML."""
    if len(text) > LIBVIRT_XML_BYTES_MAX or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise EngineError("the host described something in a form that is not taken")
    try:
        return ET.fromstring(text)  # noqa: S314 - no document type: no entity to expand
    except ET.ParseError:
        raise EngineError("the host described something that cannot be read") from None


def text_of(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceph:
    """A disk in Ceph. name: pool/image. hosts: monitors, each with its port or none. secret: what
    libvirt keeps the user's key under, by `uuid` or `usage`."""

    name: str
    hosts: tuple[tuple[str, str], ...]
    user: str = ""
    secret: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`path`: of its file at the host, for kinds that know no pools; `form`: as in qcow2 or raw;
    `kernel` and `initrd`: paths at the host of a kernel to boot directly; empty: from disk."""

    pool: str
    volume: str
    form: str = "qcow2"
    ceph: Ceph | None = None
    path: str = ""
    kernel: str = ""
    initrd: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    name: str
    uuid: UUID
    place: Place
    tags: Tags
    resources: Resources
    tuning: Tuning
    share_pages: bool
    disk: Disk
    given: Mapping[str, str] = field(default_factory=dict)
    """variables that its first process finds, of kinds that can be given some"""


def frame(spec: MachineSpec, domain_type: str) -> ET.Element:
    """What machines of every kind have: who they are, and how large."""
    root = ET.Element("domain", {"type": domain_type})
    _text(root, "name", spec.name)
    _text(root, "uuid", str(spec.uuid))
    if spec.tags.name:
        _text(root, "title", printable(spec.tags.name))
    ET.SubElement(root, "metadata").append(spec.tags.element())
    kib = spec.resources.memory_mib * _KIB_PER_MIB
    _text(root, "memory", str(kib), unit="KiB")
    _text(root, "currentMemory", str(kib), unit="KiB")
    _text(root, "vcpu", str(max(1, math.ceil(spec.resources.cpus))), placement="static")
    return root


def what_ends_it(root: ET.Element) -> None:
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _text(root, f"on_{event}", action)


def domain(spec: MachineSpec) -> str:
    """A machine of QEMU's, or of libvirt's test driver."""
    place = spec.place
    kvm = place.accel is Accel.KVM
    root = frame(spec, place.domain_type)
    if place.kind.name != "test":
        if not spec.share_pages:
            ET.SubElement(ET.SubElement(root, "memoryBacking"), "nosharepages")
        spec.tuning.describe(root)
    boot(root, spec)
    if place.kind.name != "test":
        features = ET.SubElement(root, "features")
        for one in ("acpi", "apic"):
            ET.SubElement(features, one)
        _cpu(root, place, kvm=kvm)
    ET.SubElement(root, "clock", {"offset": "utc"})
    what_ends_it(root)
    _devices(root, spec)
    return text_of(root)


def boot(root: ET.Element, spec: MachineSpec) -> None:
    os = ET.SubElement(root, "os")
    machine = {"machine": spec.place.machine} if spec.place.machine else {}
    if spec.place.kind.name != "test":
        machine["arch"] = "x86_64"
    _text(os, "type", "hvm", **machine)
    if spec.disk.kernel:
        _text(os, "kernel", spec.disk.kernel)
        if spec.disk.initrd:
            _text(os, "initrd", spec.disk.initrd)
        _text(os, "cmdline", spec.place.append)
    else:
        ET.SubElement(os, "boot", {"dev": "hd"})


def _cpu(root: ET.Element, place: Place, *, kvm: bool) -> None:
    if kvm and not place.cpu:
        ET.SubElement(root, "cpu", {"mode": "host-passthrough"})
        return
    cpu = ET.SubElement(root, "cpu", {"mode": "custom", "match": "exact", "check": "none"})
    _text(cpu, "model", place.cpu or "qemu64", fallback="forbid")


def _devices(root: ET.Element, spec: MachineSpec) -> None:
    place = spec.place
    devices = ET.SubElement(root, "devices")
    _disk(devices, spec)
    if place.network:
        _interface(devices, spec)
    if place.kind.name == "test":
        return
    # guests write to it, and administrators read it with virsh; nobody else does
    ET.SubElement(devices, "serial", {"type": "pty"})
    if place.agent is Agent.CHANNEL:
        channel = ET.SubElement(devices, "channel", {"type": "unix"})
        ET.SubElement(channel, "source", {"mode": "bind"})
        ET.SubElement(channel, "target", {"type": "virtio", "name": PORT_NAME})
    if place.kind.displays:
        # no port at all, but over TLS: the daemon hands a connection to whoever it trusts, or
        # whoever may sign in at the host as one of QEMU's group opens a socket that libvirt names
        listen = {"type": "socket" if place.shows is Shows.SOCKET else "none"}
        graphics = ET.SubElement(
            devices, "graphics", {"type": "vnc", "sharePolicy": "force-shared"}
        )
        if place.shows is Shows.CERTIFIED:
            # the host was found to ask whoever comes to this port for a certificate (certified.py)
            graphics.set("autoport", "yes")
            at = {"type": "address", "address": str(place.vnc)}
            ET.SubElement(graphics, "listen", at)
        else:
            ET.SubElement(graphics, "listen", listen)
        if place.spice:
            spice = ET.SubElement(devices, "graphics", {"type": "spice"})
            ET.SubElement(spice, "listen", listen)
        ET.SubElement(ET.SubElement(devices, "video"), "model", {"type": "vga"})
        ET.SubElement(devices, "input", {"type": "tablet", "bus": "usb"})
    balloon = ET.SubElement(devices, "memballoon", {"model": "virtio"})
    ET.SubElement(balloon, "stats", {"period": str(BALLOON_STATS_S)})
    rng = ET.SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")


def _disk(devices: ET.Element, spec: MachineSpec) -> None:
    own, ceph = spec.disk, spec.disk.ceph
    sort = "volume" if ceph is None else "network"
    disk = ET.SubElement(devices, "disk", {"type": sort, "device": "disk"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": own.form, "discard": "unmap"})
    if ceph is None:
        ET.SubElement(disk, "source", {"pool": own.pool, "volume": own.volume})
    else:
        _ceph(disk, ceph)
    ET.SubElement(disk, "target", {"dev": DISK, "bus": "virtio"})
    spec.tuning.describe_disk(disk)


def _ceph(disk: ET.Element, ceph: Ceph) -> None:
    source = ET.SubElement(disk, "source", {"protocol": "rbd", "name": ceph.name})
    for name, port in ceph.hosts:
        ET.SubElement(source, "host", {"name": name} | ({"port": port} if port else {}))
    if ceph.user:
        auth = ET.SubElement(source, "auth", {"username": ceph.user})
        ET.SubElement(auth, "secret", {"type": "ceph", **ceph.secret})


def _interface(devices: ET.Element, spec: MachineSpec) -> None:
    interface = ET.SubElement(devices, "interface", {"type": "network"})
    ET.SubElement(interface, "mac", {"address": mac_address(spec.uuid)})
    ET.SubElement(interface, "source", {"network": spec.place.network})
    ET.SubElement(interface, "model", {"type": "virtio"})
    spec.tuning.describe_interface(interface)


def volume(
    name: str, capacity_bytes: int, backing: str = "", form: str = "qcow2", *, whole: bool = False
) -> str:
    """A volume; `backing`: the path, at the host, of the golden image that it is an overlay (of
    LVM's: a snapshot) of. `whole`: it takes its whole size at once."""
    root = ET.Element("volume")
    _text(root, "name", name)
    _text(root, "capacity", str(capacity_bytes), unit="bytes")
    _text(root, "allocation", str(capacity_bytes if whole else 0), unit="bytes")
    ET.SubElement(ET.SubElement(root, "target"), "format", {"type": form})
    if backing:
        store = ET.SubElement(root, "backingStore")
        _text(store, "path", backing)
        ET.SubElement(store, "format", {"type": form})
    return text_of(root)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
