"""What of a pool's resources machines are held to at a libvirt host, in words; what is not is told,
so that nobody relies on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.tuned import TUNED

_PLACED: Final = "placement never promises more than there is, and nothing at the host holds to it"
_NOT_HERE: Final = "the broker does not do it with this kind of hypervisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One setting of a pool. why_not: empty: machines are held to it, as `says` tells."""

    name: str
    why_not: str = ""
    says: str = ""


def holds(place: Place, groups: Groups | None) -> Iterator[Hold]:
    """`groups`: the host's; None: not known, or it has none."""
    tuned = place.kind.name in TUNED
    unknown = "" if groups is not None else _no_groups(place)
    container = place.kind.name == "lxc"
    yield _hold("guarantee_cpus", tuned, unknown, "by weight, of what is contended")
    yield _hold("guarantee_memory", tuned, unknown or _no_minimum(groups),
                "memory below it is taken last when the host has too little")  # fmt: skip
    yield _hold("guarantee_disk", tuned, _PLACED)
    yield _hold("guarantee_network", tuned, _PLACED)
    yield _hold("weights_cpus", tuned, unknown, "by weight and size, of what is contended")
    yield _hold("weights_memory", tuned, "Linux divides memory by no weight")
    yield _hold("weights_disk", tuned, "",
                "where the disks' scheduler takes weights (BFQ, or io.cost)")  # fmt: skip
    yield _hold("weights_network", tuned, "libvirt gives network cards no weight")
    no_files = "libvirt limits a container's devices, and its root is a file" if container else ""
    yield _hold("limits_disk", tuned, no_files, "operations and MiB a second")
    no_card = "" if place.network else "its machines have no network card (network=)"
    late = ", from when a desktop is made fresh" if container else ""
    yield _hold("limits_network", tuned, no_card, f"average, peak and burst, both ways{late}")
    never = "Linux merges no memory of containers" if container else "QEMU keeps its memory out"
    yield _hold("share_pages", tuned, "", f"where a pool says no: {never}")


def groups_in_words(place: Place, groups: Groups | None) -> str:
    """Empty for a kind whose machines are in none."""
    if place.kind.name not in TUNED:
        return ""
    return f"version {groups.removeprefix('v')}" if groups is not None else _no_groups(place)


def _hold(name: str, tuned: bool, why_not: str, says: str = "") -> Hold:  # noqa: FBT001 - a table
    return Hold(name=name, why_not=why_not if tuned else _NOT_HERE, says=says)


def _no_groups(place: Place) -> str:
    if place.address.path != "/system":
        return "a user's own daemon puts its machines into no control groups"
    if place.is_local:
        return "no control group of this machine divides CPUs"
    return (
        "libvirt does not tell which version of control groups it is: known once a machine runs "
        "there; until then desktops have no weights and no guarantee but that of placement"
    )


def _no_minimum(groups: Groups | None) -> str:
    if groups is not Groups.V2:
        return ""
    return f"libvirt gives no minimum in control groups of version 2: {_PLACED}"
