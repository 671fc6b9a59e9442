"""What a libvirt host can and cannot do for desktops, in words, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.domain.features import Feature
from broker.domain.inspection import Abilities, Ability
from broker.domain.storage import OWN
from broker.engines.libvirt.capabilities import Capabilities, accelerated
from broker.engines.libvirt.classes import classes, describe_class
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.holds import groups_in_words, holds
from broker.engines.libvirt.kinds import Agent, Clone
from broker.engines.libvirt.knobs import MovesTls, Place, Shows, Storage
from broker.engines.libvirt.pool_kinds import POOL_KINDS

_CLONES: Final[Mapping[Clone, str]] = {
    Clone.LINKED: "a desktop's disk is an overlay on its golden image",
    Clone.FULL: "a desktop's disk is a copy of its golden image",
    Clone.INSTANT: "a desktop is resumed from a golden desktop's memory",
}
_FEATURES: Final[Mapping[Feature, str]] = {
    Feature.SUSPEND: "a desktop's memory is saved, and the host's is free",
    Feature.MIGRATE: "a desktop moves to another host while it is used",
    Feature.RESIZE: "what a desktop may take is changed while it runs",
    Feature.HOST_POWER: "the host is switched on and off",
    Feature.SNAPSHOT: "a desktop is kept as it is, and brought back to that",
}
HEARD: Final[Mapping[Agent, str]] = {
    Agent.CHANNEL: "desktops' agents are heard over a channel",
    Agent.WEBSOCKET: "desktops' agents link up over the network, with a ticket each",
    Agent.NONE: "",
}
_VNC: Final = " where the profile does not say at which address (vnc)"
_MOVES: Final[Mapping[MovesTls, str]] = {
    MovesTls.AUTO: "encrypted where both hosts have QEMU's certificates, else in the clear",
    MovesTls.YES: "encrypted, or the machine stays",
    MovesTls.NO: "in the clear",
}
_NAMED_MAX: Final = 8
"""names of one sort that a fact shows"""


def abilities(
    place: Place, found: Capabilities, lacks: Mapping[Feature, str] | None = None,
    groups: Groups | None = None,
) -> Abilities:  # fmt: skip
    """`lacks`: feature -> why the host was found without it since it was asked. `groups`: the
    version of its control groups; None: not known, or it has none."""
    can: list[Ability] = []
    cannot: list[Ability] = []

    def tell(name: str, why_not: str, says: str) -> None:
        (cannot if why_not else can).append(Ability(name=name, says=why_not or says))

    refuses = found.refuses(place)
    made = f"machines of type {place.domain_type}"
    tell("desktops", refuses, made)
    for clone, says in _CLONES.items():
        tell(f"clone_{clone}", refuses or _no_clone(place, found, clone), says)
    wanting = {one: why for one, why in place.kind.lacks.items() if one not in place.features}
    missing = {**wanting, **found.lacks(place), **(lacks or {})}
    stores = classes(place, found)
    shared = place.storage is Storage.SHARED or any(one.shared for one in stores.values())
    if not shared and Feature.MIGRATE in place.kind.features:
        missing.setdefault(
            Feature.MIGRATE, "its pool is not shared with other hosts (storage=shared)"
        )
    for feature in Feature:
        why_not = missing.get(feature, "")
        if not why_not and feature not in place.features:
            why_not = "the broker does not do it with this kind of hypervisor"
        tell(feature.value, refuses or why_not, _FEATURES.get(feature, feature.value))
    tell("display", refuses or no_display(place, found), "its machines' displays, over VNC")
    tell("display_spice", refuses or no_spice(place, found), "its machines' displays, over SPICE")
    tell("display_rdp", refuses or no_rdp(place), f"RDP servers in its desktops, in {place.rdp}")
    tell("agent", refuses or no_agent(place, found), HEARD[place.agent])
    for name, one in stores.items():
        if name != OWN:
            tell(f"storage_{name}", refuses or one.refusal() or "", describe_class(one))
    for hold in holds(place, groups):
        tell(hold.name, refuses or hold.why_not, hold.says)
    return Abilities(facts=_facts(place, found, groups), can=tuple(can), cannot=tuple(cannot))


def _no_clone(place: Place, found: Capabilities, clone: Clone) -> str:
    if clone not in place.kind.clones:
        has = ", ".join(place.kind.clones)
        return f"the broker makes disks there in other ways: {has}"
    if clone is Clone.INSTANT and place.agent is Agent.NONE:
        return "instant clones need a guest agent that tells them apart"
    pool = found.pool(place.pool)
    kind = POOL_KINDS.get(pool.kind) if pool is not None else None
    return kind.refusal(place.kind, clone) if kind is not None else ""


def no_display(place: Place, found: Capabilities) -> str:
    if not place.kind.displays:
        return "libvirt's driver for it hands over no display"
    if found.described and "vnc" not in found.graphics:
        return "the host's machines have no VNC"
    if place.shows is Shows.NONE:
        way = place.address.transport
        return f"displays come from the broker's own machine and over SSH, not over {way}{_VNC}"
    return ""


def no_spice(place: Place, found: Capabilities) -> str:
    if not place.kind.displays:
        return "libvirt's driver for it hands over no display"
    if found.described and "spice" not in found.graphics:
        return "the host's machines have no SPICE"
    if not place.spice:
        return "the profile does not turn it on (spice=yes)"
    if place.shows not in {Shows.HANDED, Shows.SOCKET}:
        way = place.address.transport
        return f"SPICE comes from the broker's own machine and over SSH, not over {way}"
    return ""


def no_rdp(place: Place) -> str:
    return "" if place.rdp else "the profile does not name the desktops' network (rdp=NETWORK)"


def no_agent(place: Place, found: Capabilities) -> str:
    if place.kind.agents == (Agent.NONE,):
        return "no way to its machines' agents: one that runs counts as ready"
    if place.agent is Agent.NONE:
        return "the profile turns it off (agent=none)"
    if place.agent is Agent.WEBSOCKET:
        return ""
    if found.described and found.channels and "unix" not in found.channels:
        return "the host's machines have no channels of the kind that is needed"
    return ""


def _facts(place: Place, found: Capabilities, groups: Groups | None) -> tuple[tuple[str, str], ...]:
    facts = {
        "hypervisor": f"{place.kind.title} ({found.hypervisor} {found.hypervisor_version})",
        "libvirt": found.libvirt_version,
        "reached by": place.address.transport.value,
        "architecture": found.arch,
        "CPUs": _number(found.cpus),
        "memory": f"{found.memory_mib:,} MiB, {found.free_mib:,} MiB free",
        "instructions": accelerated(place, found),
        "types of machines": _names(found.domain_types),
        "machine types": _names(found.machine_types),
        "CPU models": _names(found.cpu_models),
        "CPUs of one machine, at most": _number(found.vcpus_max),
        "graphics": _names(found.graphics),
        "devices": _names(found.devices),
        "machines can be sent by": _names(found.migration),
        "memory of those": _MOVES[place.moves_tls] if found.migration else "",
        "control groups": groups_in_words(place, groups),
        "storage pools": _names(tuple(one.name for one in found.pools)),
        "networks": _names(tuple(name for name, _ in found.networks)),
    }
    return tuple((name, text) for name, text in facts.items() if text)


def _names(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _number(number: int) -> str:
    return f"{number:,}" if number else ""
