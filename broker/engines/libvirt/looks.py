"""Whether what a host was found to have is what its profile wants: steps of the "add host" look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from broker.domain.inspection import Step, Verdict
from broker.domain.storage import OWN
from broker.engines.libvirt.abilities import HEARD, no_agent, no_display
from broker.engines.libvirt.capabilities import Capabilities, accelerated, keeps_none
from broker.engines.libvirt.classes import classes, describe_class
from broker.engines.libvirt.knobs import Accel, Place
from broker.limits import HOST_CLOCK_OFF_S_MAX, PROBE_ROOM_BYTES_MIN

_BYTES_PER_GIB: Final = 1 << 30
_MS_PER_S: Final = 1000


def ok(name: str, says: str, **found: str) -> Step:
    return Step(name=name, verdict=Verdict.OK, says=says, found=found)


def missing(name: str, says: str, advice: str, **found: str) -> Step:
    return Step(name=name, verdict=Verdict.MISSING, says=says, advice=advice, found=found)


def unknown(name: str, says: str, advice: str = "", **found: str) -> Step:
    return Step(name=name, verdict=Verdict.UNKNOWN, says=says, advice=advice, found=found)


def hypervisor(place: Place, found: Capabilities) -> Step:
    refuses = found.refuses(place)
    if refuses:
        advice = "Install what is missing at the host, or change the profile to what it has."
        return missing("hypervisor", refuses, advice)
    return ok("hypervisor", f"it offers machines of type {place.domain_type}")


def acceleration(place: Place, found: Capabilities) -> Step:
    says = accelerated(place, found)
    if place.accel is not Accel.KVM:
        return ok("acceleration", says)
    if "kvm" not in found.domain_types:
        advice = "Turn virtualisation on in the host's firmware, or use accel=tcg."
        return missing("acceleration", "the profile asks for KVM; the host offers none", advice)
    advice = "Make one desktop there before more: an offer of KVM does not prove that it works."
    return unknown("acceleration", says, advice)


def storage(place: Place, found: Capabilities) -> Step:
    """The pool of desktops, and those of the classes."""
    own = _pool(place, found, place.pool)
    if own.verdict is not Verdict.OK:
        return own
    named = [one for name, one in classes(place, found).items() if name != OWN]
    for one in named:
        if one.refuses:
            text = f"storage class {one.name}: {one.refuses}"
            advice = _pool(place, found, one.place).advice or "Give the class another pool."
            return missing("storage", text, advice)
    told = [f"{one.name}: {describe_class(one)}" for one in named]
    return ok("storage", "; ".join([own.says, *told]))


def _pool(place: Place, found: Capabilities, name: str) -> Step:
    pool = found.pool(name)
    if pool is None:
        have = ", ".join(one.name for one in found.pools) or "none"
        advice = f"Define a pool called {name} at the host, or name one that is there."
        text = f"there is no storage pool {name}; there are: {have}"
        return missing("storage", text, advice)
    no_disks = keeps_none(place, pool)
    if no_disks:
        return missing("storage", no_disks, "Name another pool, or another way to clone.")
    if not pool.running:
        advice = f"Start it: virsh pool-start {pool.name}; and virsh pool-autostart {pool.name}."
        return missing("storage", f"the storage pool {pool.name} is not running", advice)
    room = f"{pool.available / _BYTES_PER_GIB:.1f} of {pool.capacity / _BYTES_PER_GIB:.1f} GiB free"
    if place.kind.name != "test" and pool.available < PROBE_ROOM_BYTES_MIN:
        text = f"the storage pool {pool.name} has {room}"
        return missing("storage", text, "Make room there, or name another pool.")
    return ok("storage", f"the storage pool {pool.name} ({pool.kind}) has {room}")


def network(place: Place, found: Capabilities) -> Step:
    wanted, runs = place.network, dict(found.networks)
    if not wanted:
        return ok("network", "the profile names no network: its desktops have none")
    if wanted not in runs:
        have = ", ".join(runs) or "none"
        text = f"there is no network {wanted}; there are: {have}"
        return missing("network", text, f"Define {wanted} at the host, or name another one.")
    if not runs[wanted]:
        advice = f"Start it: virsh net-start {wanted}; and virsh net-autostart {wanted}."
        return missing("network", f"the network {wanted} is not running", advice)
    return ok("network", f"the network {wanted} is running")


def display(place: Place, found: Capabilities) -> Step:
    why_not = no_display(place, found)
    if why_not:
        advice = (
            "Desktops there are not seen in the console. Over SSH (qemu+ssh) they would be; over "
            "TLS with the knob vnc, and certificates for QEMU's own VNC."
        )
        return unknown("display", why_not, advice)
    return ok("display", "desktops' displays, over VNC")


def agent(place: Place, found: Capabilities) -> Step:
    why_not = no_agent(place, found)
    if why_not:
        return unknown("agent", why_not, "Desktops count as ready as soon as they run.")
    return ok("agent", HEARD[place.agent])


LOOKS: Final[Mapping[str, Callable[[Place, Capabilities], Step]]] = {
    "hypervisor": hypervisor,
    "acceleration": acceleration,
    "storage": storage,
    "network": network,
    "display": display,
    "agent": agent,
}
"""by the step's name, in the order to look"""


def clock(off_ms: int | None) -> Step:
    """off_ms: how much the host's clock is ahead of the broker's, in ms; None: it did not say."""
    if off_ms is None:
        advice = "Have both set their clocks by the network (NTP)."
        return unknown("clock", "the host's clock could not be read", advice)
    off_s = off_ms / _MS_PER_S
    way = "ahead of" if off_s > 0 else "behind"
    if abs(off_s) > HOST_CLOCK_OFF_S_MAX:
        text = f"the host's clock is {abs(off_s):,.0f} s {way} the broker's"
        return missing("clock", text, "Have both set their clocks by the network (NTP).")
    return ok("clock", f"the host's clock is within {HOST_CLOCK_OFF_S_MAX:g} s of the broker's")
