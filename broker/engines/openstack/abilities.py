"""What a place in a cloud can and cannot do for desktops, in words, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from broker.domain.features import Feature
from broker.domain.inspection import HELD, Abilities, Ability, Condition
from broker.engines.openstack.computes import Compute, total
from broker.engines.openstack.knobs import VNC, Agent, Place
from broker.engines.openstack.looks import Quota, Seen

NOT_ALLOWED: Final = "the cloud's account may not look at compute hosts"
_FEATURES: Final[Mapping[Feature, str]] = {
    Feature.SUSPEND: "a desktop's memory is saved, and the compute host's is free",
    Feature.MIGRATE: "a desktop moves to another compute host while it is used",
}
_WITHOUT: Final[Mapping[Feature, str]] = {
    Feature.MIGRATE: "the profile names no compute host (host=)",
    Feature.RESIZE: "Nova's resize restarts the machine",
    Feature.SNAPSHOT: "Nova's snapshot is an image, and a machine cannot go back to one",
    Feature.HOST_POWER: "Nova does not switch compute hosts on and off",
}
_NO_AGENT: Final = "the profile turns it off (agent=none): a machine that runs counts as ready"
_AGENT: Final = "desktops' agents link up over the network, with a ticket among the metadata"
_A_FLAVORS: Final = "this is for a flavor's extra specs to say, which are the cloud's"
_NAMED_MAX: Final = 8
_GIB: Final = 1 << 30


def no_desktops(place: Place, computes: Sequence[Compute] | None) -> str:
    """Why none are made at the place; empty: they are, as far as is known."""
    if computes is None or any(one.takes for one in computes):
        return ""
    if not computes:
        return f"the cloud has no {where(place)}" if place.host or place.zone else "it has no hosts"
    states = "; ".join(f"{one.host}: {one.state}" for one in computes[:_NAMED_MAX])
    return f"Nova makes nothing there ({states})"


_VNC_ONLY: Final = "of a cloud's displays the broker shows those over VNC"


def where(place: Place) -> str:
    if place.host:
        return f"compute host {place.host}"
    return f"availability zone {place.zone}" if place.zone else "place that the cloud chooses"


def abilities(place: Place, seen: Seen) -> Abilities:
    can: list[Ability] = []
    cannot: list[Ability] = []

    def tell(name: str, why_not: str, says: str) -> None:
        (cannot if why_not else can).append(Ability(name=name, says=why_not or says))

    tell("desktops", no_desktops(place, seen.computes), "servers of the cloud's compute service")
    for feature in Feature:
        why_not = "" if feature in place.features else _WITHOUT.get(feature, "not done")
        tell(feature.value, why_not, _FEATURES.get(feature, feature.value))
    off = "" if place.display == VNC else "the profile turns it off (display=none)"
    tell("display", off, "by Nova's console proxy, where the cloud has one")
    tell("display_spice", _VNC_ONLY, "")
    tell("display_rdp", _VNC_ONLY, "")
    tell("agent", _NO_AGENT if place.agent is Agent.NONE else "", _AGENT)
    for name in HELD:
        tell(name, _A_FLAVORS, "")
    return Abilities(facts=_facts(place, seen), can=tuple(can), cannot=tuple(cannot))


def _facts(place: Place, seen: Seen) -> tuple[tuple[str, str], ...]:
    facts = {
        "cloud": f"{place.cloud}, region {place.region}" if place.region else place.cloud,
        "place": where(place),
        "Nova's API": seen.api,
        "the account's quota": _quota(seen.quota),
        **_of_computes(seen.computes),
    }
    return tuple((name, text) for name, text in facts.items() if text)


def _of_computes(found: Sequence[Compute] | None) -> dict[str, str]:
    if found is None:
        return {"compute hosts": f"not known: {NOT_ALLOWED}"}
    kinds = {f"{one.kind} {one.version}".strip() for one in found}
    return {
        "compute hosts": _named([f"{one.host}: {one.state or 'not known'}" for one in found], "; "),
        "hypervisor": _named(sorted(kinds - {""})),
        "CPUs": _of(found, lambda one: one.cpus, lambda one: one.cpus_used, ""),
        "memory": _of(found, lambda one: one.memory_mib, lambda one: one.memory_used_mib, " MiB"),
        "disks": _of(found, lambda one: one.disk_gib, lambda one: one.disk_used_gib, " GiB"),
        "machines": _number(total(found, lambda one: one.machines)),
    }


def condition(computes: Sequence[Compute] | None) -> Condition:
    """Of the place's compute hosts together, everybody's machines counted."""
    found = computes or ()
    unknown = dict.fromkeys(("pressure", "page_sharing"), "Nova does not tell it")
    memory = total(found, lambda one: one.memory_mib)
    used = total(found, lambda one: one.memory_used_mib)
    disk = total(found, lambda one: one.disk_gib)
    disk_used = total(found, lambda one: one.disk_used_gib)
    why = NOT_ALLOWED if computes is None else "Nova does not tell it"
    if memory is None or used is None:
        unknown["memory"] = why
    if disk is None or disk_used is None:
        unknown["disk"] = why
    return Condition(
        memory_mib=memory,
        memory_free_mib=_rest(memory, used),
        disk_total=disk * _GIB if disk is not None else None,
        disk_free=free * _GIB if (free := _rest(disk, disk_used)) is not None else None,
        unknown=unknown,
    )


def _rest(whole: int | None, used: int | None) -> int | None:
    """Nova may give more than there is."""
    return None if whole is None or used is None else max(0, whole - used)


def _of(
    found: Sequence[Compute],
    whole: Callable[[Compute], int | None],
    used: Callable[[Compute], int | None],
    unit: str,
) -> str:
    if not found:
        return ""
    has, taken = _number(total(found, whole)), _number(total(found, used))
    return f"{has or 'not known'}{unit if has else ''}, {taken or 'not known'}" + (
        f"{unit} used" if taken else " how much is used"
    )


def _quota(quota: Quota | None) -> str:
    if quota is None:
        return ""
    parts = (
        ("CPUs", quota.cpus_used, quota.cpus),
        ("MiB of memory", quota.memory_used_mib, quota.memory_mib),
        ("machines", quota.machines_used, quota.machines),
    )
    return "; ".join(
        f"{used:,} of {'any number of' if most is None else f'{most:,}'} {name}"
        for name, used, most in parts
    )


def _named(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - _NAMED_MAX
    return between.join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _number(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
