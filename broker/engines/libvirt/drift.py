"""Whether a machine is what it should be: its description at the host held against the one that
the broker would write today.

Both are read by the same function, which takes out of them what matters and what libvirt leaves
as it was written. Devices that the broker never gives (a host's device, a folder, a second disk)
are there by somebody else's hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree as ET

from broker.domain.drift import Difference, differences
from broker.engines.libvirt.tuning import DISK_WEIGHT

_KIB_PER_MIB: Final = 1024
_WEIGHT: Final = "CPU weight"
_KEPT: Final = "guaranteed memory"
_FOREIGN: Final = (
    "hostdev", "filesystem", "redirdev", "shmem", "parallel", "smartcard", "vsock", "nvram",
    "sound", "tpm", "watchdog", "hub",
)  # fmt: skip
"""kinds of devices that the broker never gives"""


def compared(now: ET.Element, wanted: ET.Element) -> tuple[Difference, ...]:
    """How the machine differs. Where the host's control groups are not known, nobody can say what
    their figures should be."""
    is_like, should_be = facts(now), facts(wanted)
    if not should_be[_WEIGHT]:
        for name in (_WEIGHT, _KEPT):
            del is_like[name], should_be[name]
    return differences(is_like, should_be)


def facts(root: ET.Element) -> dict[str, str]:
    """What a description says of the machine, by name."""
    found = {
        "name": root.findtext("name", ""),
        "CPUs": _cpus(root),
        _WEIGHT: root.findtext("cputune/shares", ""),
        "memory": f"{_kib(root, 'currentMemory') // _KIB_PER_MIB} MiB",
        _KEPT: f"{_kib(root, 'memtune/soft_limit') // _KIB_PER_MIB} MiB",
        "disk weight": root.findtext("blkiotune/weight", str(DISK_WEIGHT)),
        "kernel": root.findtext("os/kernel", ""),
        "kernel's command line": root.findtext("os/cmdline", ""),
    }
    devices = root.find("devices")
    if devices is None:
        return found
    _disks(devices, found)
    _networks(devices, found)
    found["displays"] = _joined(one.get("type", "") for one in devices.iterfind("graphics"))
    found["channels"] = _joined(
        target.get("name", "") for target in devices.iterfind("channel/target")
    )
    for kind in _FOREIGN:
        count = len(devices.findall(kind))
        if count:
            found[f"devices of kind {kind}"] = str(count)
    return found


def _cpus(root: ET.Element) -> str:
    """What the machine may take: its vCPUs, or the part of them that its quota leaves."""
    vcpus = float(root.findtext("vcpu", "1"))
    period = float(root.findtext("cputune/global_period", "0"))
    quota = float(root.findtext("cputune/global_quota", "0"))
    if period > 0 and quota > 0:
        vcpus = min(vcpus, quota / period)
    return f"{vcpus:g}"


def _kib(root: ET.Element, path: str) -> int:
    """libvirt answers sizes in KiB, whatever was written."""
    text = root.findtext(path, "0")
    return int(text) if text.isdecimal() else 0


def _disks(devices: ET.Element, found: dict[str, str]) -> None:
    for disk in devices.iterfind("disk"):
        target, source = disk.find("target"), disk.find("source")
        name = target.get("dev", "?") if target is not None else "?"
        found[f"disk {name}"] = _source(source)
        for limit in ("total_bytes_sec", "total_iops_sec"):
            value = disk.findtext(f"iotune/{limit}", "0")
            if value != "0":
                found[f"disk {name}, {limit}"] = value


def _source(source: ET.Element | None) -> str:
    if source is None:
        return "empty"
    if source.get("volume"):
        return f"{source.get('pool')}/{source.get('volume')}"
    return next((text for name in ("file", "dev", "name") if (text := source.get(name))), "?")


def _networks(devices: ET.Element, found: dict[str, str]) -> None:
    for interface in devices.iterfind("interface"):
        mac, source = interface.find("mac"), interface.find("source")
        name = mac.get("address", "?") if mac is not None else "?"
        kind, where = interface.get("type"), ""
        if source is not None:
            where = source.get("network") or source.get("bridge") or source.get("dev") or "?"
            # of one that runs libvirt says what its network is made of
            kind = "network" if source.get("network") else kind
        found[f"network card {name}"] = f"{kind} {where}".strip()
        for way in ("inbound", "outbound"):
            limits = interface.find(f"bandwidth/{way}")
            if limits is not None:
                text = " ".join(f"{key} {value}" for key, value in sorted(limits.attrib.items()))
                found[f"network card {name}, {way}"] = text


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
