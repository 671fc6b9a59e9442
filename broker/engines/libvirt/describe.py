"""A machine as libvirt wants it described, by the kind of hypervisor that is to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from xml.etree import ElementTree as ET

from broker.domain.errors import UnsupportedError
from broker.engines.libvirt import xml
from broker.engines.libvirt.tags import mac_address
from broker.engines.libvirt.tuning import CPU_PERIOD_US, cpu_quota_us

_INIT: Final = "/sbin/init"
"""what a container runs first"""


def domain(spec: xml.MachineSpec) -> str:
    """Raises UnsupportedError for a kind on which no machine is made."""
    kind = spec.place.kind
    found = _BY_KIND.get(kind.name)
    if found is None:
        raise UnsupportedError(f"no desktops are made on {kind.title}: {kind.refuses}")
    return found(spec)


def container(spec: xml.MachineSpec) -> str:
    """A Linux container whose root is a file with a file system in it, the desktop's own."""
    root = xml.frame(spec, "lxc")
    spec.tuning.describe_shares(root)
    _quota(root, spec)
    os = ET.SubElement(root, "os")
    _text(os, "type", spec.place.kind.os_type, arch="x86_64")
    _text(os, "init", _INIT)
    for name, value in spec.given.items():
        _text(os, "initenv", value, name=name)
    ET.SubElement(root, "clock", {"offset": "utc"})
    xml.what_ends_it(root)
    devices = ET.SubElement(root, "devices")
    files = ET.SubElement(devices, "filesystem", {"type": "file", "accessmode": "passthrough"})
    ET.SubElement(files, "driver", {"type": "loop", "format": spec.place.kind.disk_format})
    ET.SubElement(files, "source", {"file": spec.disk.path})
    ET.SubElement(files, "target", {"dir": "/"})
    _interface(devices, spec)
    ET.SubElement(devices, "console", {"type": "pty"})
    return xml.text_of(root)


def xen(spec: xml.MachineSpec) -> str:
    """A fully virtualised machine under Xen, with its paravirtual disk and network."""
    root = xml.frame(spec, "xen")
    xml.boot(root, spec)
    features = ET.SubElement(root, "features")
    for one in ("acpi", "apic", "pae"):
        ET.SubElement(features, one)
    ET.SubElement(root, "clock", {"offset": "utc"})
    xml.what_ends_it(root)
    devices = ET.SubElement(root, "devices")
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "disk"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": spec.place.kind.disk_format})
    ET.SubElement(disk, "source", {"file": spec.disk.path})
    ET.SubElement(disk, "target", {"dev": "xvda", "bus": "xen"})
    _interface(devices, spec)
    ET.SubElement(devices, "console", {"type": "pty"})
    graphics = ET.SubElement(devices, "graphics", {"type": "vnc", "autoport": "yes"})
    ET.SubElement(graphics, "listen", {"type": "address", "address": "127.0.0.1"})
    ET.SubElement(ET.SubElement(devices, "video"), "model", {"type": "vga"})
    return xml.text_of(root)


def _quota(root: ET.Element, spec: xml.MachineSpec) -> None:
    """A container has no vCPUs: its quota is the whole container's in each period."""
    tune = root.find("cputune")
    if tune is None:
        tune = ET.SubElement(root, "cputune")
    _text(tune, "period", str(CPU_PERIOD_US))
    _text(tune, "quota", str(cpu_quota_us(spec.resources.cpus)))


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _interface(devices: ET.Element, spec: xml.MachineSpec) -> None:
    if spec.place.network:
        interface = ET.SubElement(devices, "interface", {"type": "network"})
        ET.SubElement(interface, "mac", {"address": mac_address(spec.uuid)})
        ET.SubElement(interface, "source", {"network": spec.place.network})
        if spec.place.kind.name == "lxc":
            spec.tuning.describe_interface(interface)


_BY_KIND: Final[Mapping[str, Callable[[xml.MachineSpec], str]]] = {
    "qemu": xml.domain,
    "test": xml.domain,
    "lxc": container,
    "xen": xen,
}
