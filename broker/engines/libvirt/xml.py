"""XML for libvirt, built and read as trees.

What comes from a host is read with a limit on its size and without document types, so that
neither entities nor a huge answer hurt the broker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from uuid import UUID
from xml.etree import ElementTree as ET

from broker.domain.errors import EngineError
from broker.domain.model import Resources
from broker.domain.settings import EQUAL_SHARES, Share
from broker.engines.libvirt.knobs import Accel, Agent, Place
from broker.engines.libvirt.tags import Tags, mac_address, printable
from broker.guest_wire import PORT_NAME
from broker.limits import LIBVIRT_XML_BYTES_MAX

CPU_PERIOD_US: Final = 100_000
"""of the scheduler's bandwidth control; Linux's own default"""
CPU_SHARES: Final = 1024
"""of a machine of weight 1; Linux's own default"""
_QUOTA_MIN_US: Final = 1000
"""libvirt takes no less"""
_KIB_PER_MIB: Final = 1024
_MBIT_KIB_S: Final = 1_000_000 / 8 / 1024
"""KiB/s, libvirt's unit, in a Mbit/s"""


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
class Disk:
    """`kernel` and `initrd`: paths at the host of a kernel to boot directly; empty: from disk."""

    pool: str
    volume: str
    kernel: str = ""
    initrd: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    name: str
    uuid: UUID
    place: Place
    tags: Tags
    resources: Resources
    guarantee: Share
    weights: Share
    disk: Disk


def cpu_quota_us(cpus: float) -> int:
    """What so many CPUs are in one period; for the whole machine, whatever its vCPUs."""
    return max(_QUOTA_MIN_US, round(cpus * CPU_PERIOD_US))


def domain(spec: MachineSpec) -> str:
    """The machine as libvirt wants it described."""
    place = spec.place
    kvm = place.accel is Accel.KVM
    kind = "test" if place.kind.name == "test" else ("kvm" if kvm else "qemu")
    root = ET.Element("domain", {"type": kind})
    _text(root, "name", spec.name)
    _text(root, "uuid", str(spec.uuid))
    if spec.tags.name:
        _text(root, "title", printable(spec.tags.name))
    ET.SubElement(root, "metadata").append(spec.tags.element())
    kib = spec.resources.memory_mib * _KIB_PER_MIB
    _text(root, "memory", str(kib), unit="KiB")
    _text(root, "currentMemory", str(kib), unit="KiB")
    _text(root, "vcpu", str(max(1, math.ceil(spec.resources.cpus))), placement="static")
    if place.kind.name != "test":
        _tuning(root, spec)
    _boot(root, spec)
    if place.kind.name != "test":
        features = ET.SubElement(root, "features")
        for one in ("acpi", "apic"):
            ET.SubElement(features, one)
        _cpu(root, place, kvm=kvm)
    ET.SubElement(root, "clock", {"offset": "utc"})
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _text(root, f"on_{event}", action)
    _devices(root, spec)
    return text_of(root)


def _boot(root: ET.Element, spec: MachineSpec) -> None:
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


def _tuning(root: ET.Element, spec: MachineSpec) -> None:
    """Only what differs from a machine like any other, so that hosts without control groups
    carry those."""
    resources, weights = spec.resources, spec.weights
    if weights.cpus != EQUAL_SHARES.cpus or resources.cpus != math.ceil(resources.cpus):
        tune = ET.SubElement(root, "cputune")
        _text(tune, "shares", str(max(2, round(weights.cpus * CPU_SHARES))))
        if resources.cpus != math.ceil(resources.cpus):
            _text(tune, "global_period", str(CPU_PERIOD_US))
            _text(tune, "global_quota", str(cpu_quota_us(resources.cpus)))
    if spec.guarantee.memory > 0:
        tune = ET.SubElement(root, "memtune")
        kib = round(resources.memory_mib * _KIB_PER_MIB * min(spec.guarantee.memory, 1.0))
        _text(tune, "soft_limit", str(kib), unit="KiB")


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
        # no port at all: the daemon hands a connection to whoever it trusts
        graphics = ET.SubElement(
            devices, "graphics", {"type": "vnc", "sharePolicy": "force-shared"}
        )
        ET.SubElement(graphics, "listen", {"type": "none"})
        ET.SubElement(ET.SubElement(devices, "video"), "model", {"type": "vga"})
        ET.SubElement(devices, "input", {"type": "tablet", "bus": "usb"})
    ET.SubElement(devices, "memballoon", {"model": "virtio"})
    rng = ET.SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")


def _disk(devices: ET.Element, spec: MachineSpec) -> None:
    disk = ET.SubElement(devices, "disk", {"type": "volume", "device": "disk"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": "qcow2", "discard": "unmap"})
    ET.SubElement(disk, "source", {"pool": spec.disk.pool, "volume": spec.disk.volume})
    ET.SubElement(disk, "target", {"dev": "vda", "bus": "virtio"})
    if spec.resources.disk_iops:
        tune = ET.SubElement(disk, "iotune")
        _text(tune, "total_iops_sec", str(spec.resources.disk_iops))


def _interface(devices: ET.Element, spec: MachineSpec) -> None:
    interface = ET.SubElement(devices, "interface", {"type": "network"})
    ET.SubElement(interface, "mac", {"address": mac_address(spec.uuid)})
    ET.SubElement(interface, "source", {"network": spec.place.network})
    ET.SubElement(interface, "model", {"type": "virtio"})
    if spec.resources.network_mbit:
        average = str(max(1, math.floor(spec.resources.network_mbit * _MBIT_KIB_S)))
        bandwidth = ET.SubElement(interface, "bandwidth")
        for way in ("inbound", "outbound"):
            ET.SubElement(bandwidth, way, {"average": average})


def volume(name: str, capacity_bytes: int, backing: str = "") -> str:
    """A volume; `backing`: the path, at the host, of the golden image that it is an overlay of."""
    root = ET.Element("volume")
    _text(root, "name", name)
    _text(root, "capacity", str(capacity_bytes), unit="bytes")
    _text(root, "allocation", "0", unit="bytes")
    ET.SubElement(ET.SubElement(root, "target"), "format", {"type": "qcow2"})
    if backing:
        store = ET.SubElement(root, "backingStore")
        _text(store, "path", backing)
        ET.SubElement(store, "format", {"type": "qcow2"})
    return text_of(root)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
