"""What a host says it can do, read from libvirt's descriptions and never assumed.

Blocking where it asks the host (`read`): that runs on one of the host's threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from xml.etree import ElementTree as ET

import libvirt

from broker.domain.features import Feature
from broker.engines.libvirt.certified import refusal
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.kinds import Kind
from broker.engines.libvirt.knobs import Accel, Place
from broker.engines.libvirt.pool_kinds import POOL_KINDS, no_kind
from broker.engines.libvirt.xml import parse

ARCH: Final = "x86_64"
"""of the desktops that the engine makes"""
_NAMES_MAX: Final = 512
"""names of one sort that are kept of one description"""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRoom:
    """A storage pool. capacity, available: bytes; 0 for one that is not running. source: what a
    pool across the network is a pool of; empty: of what is the host's own. silent: the host has
    not answered for it, and the rest is as it was before."""

    name: str
    kind: str
    running: bool
    capacity: int
    available: int
    source: str = ""
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """One host, as it was when it was asked. Empty and 0: the host did not say.

    hypervisor: as the driver names it. hypervisor_version, libvirt_version: as in 7.2.22.
    domain_types: of machines of the kind's sort and of ARCH, as the host offers them; a host that
        offers kvm has the device for it, which does not prove that KVM works there.
    cpu_models: those that its processor, or TCG, can be.
    devices: sorts of devices that its machines may have; described: whether it said so at all.
    migration: ways that a running machine can be sent by; empty: it cannot.
    uncertified: why displays that the profile wants at the host's address would not be safe.
    memory_mib, free_mib: of the host. networks: (name, whether it runs).
    """

    hypervisor: str
    hypervisor_version: str = ""
    libvirt_version: str = ""
    arch: str = ""
    cpus: int = 0
    memory_mib: int = 0
    free_mib: int = 0
    vcpus_max: int = 0
    domain_types: tuple[str, ...] = ()
    machine_types: tuple[str, ...] = ()
    cpu_models: tuple[str, ...] = ()
    graphics: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    described: bool = False
    migration: tuple[str, ...] = ()
    pools: tuple[PoolRoom, ...] = ()
    networks: tuple[tuple[str, bool], ...] = ()
    uncertified: str = ""

    def pool(self, name: str) -> PoolRoom | None:
        return next((one for one in self.pools if one.name == name), None)

    def lacks(self, place: Place) -> dict[Feature, str]:
        """Feature -> why the host does not have it, beyond what its kind does not."""
        found: dict[Feature, str] = {}
        if Feature.MIGRATE in place.kind.features and not self.migration:
            found[Feature.MIGRATE] = "the host names no way to send a running machine"
        return found

    def refuses(self, place: Place) -> str:
        """Why no machine as the profile wants it can be made there; empty: one can."""
        kind = place.kind
        if kind.refuses or not kind.domain_types:
            return kind.refuses
        if place.domain_type not in self.domain_types:
            offered = ", ".join(self.domain_types) or "none"
            return f"it does not offer machines of type {place.domain_type}; it offers {offered}"
        pool = self.pool(place.pool)
        no_disks = keeps_none(place, pool) if pool is not None else ""
        if no_disks or self.uncertified or not self.described:
            return no_disks or self.uncertified
        if place.machine and place.machine not in self.machine_types:
            return f"it knows no machine type {place.machine}"
        if place.cpu and place.cpu not in self.cpu_models:
            return f"it has no CPU model {place.cpu} to give"
        return ""


def read(connection: Any, host: str, place: Place) -> Capabilities:
    """Ask the host. What its driver has no function for is left empty, and so are its storage
    pools: one that hangs would hold up the whole answer.

    Raises EngineError when it does not answer."""
    kind = place.kind
    with telling(host, "say what it can do"):
        info = connection.getInfo()
        hypervisor = connection.getType()
        own = parse(connection.getCapabilities())
    domain = _tried(lambda: _domain_capabilities(connection, place))
    found = guest_of(own, kind)
    return Capabilities(
        hypervisor=hypervisor,
        hypervisor_version=_version(_tried(connection.getVersion) or 0),
        libvirt_version=_version(_tried(connection.getLibVersion) or 0),
        arch=str(info[0]),
        memory_mib=int(info[1]),
        cpus=int(info[2]),
        free_mib=(_tried(connection.getFreeMemory) or 0) // (1024 * 1024),
        domain_types=found[0],
        machine_types=found[1],
        migration=migration_of(own),
        networks=tuple(_networks(connection)),
        uncertified=refusal(connection, place) if place.vnc is not None else "",
        **(domain_facts(domain) if domain is not None else {}),
    )


def guest_of(own: ET.Element, kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(types of machines, machine types) that are offered for the kind's sort of guest."""
    types: dict[str, None] = {}
    machines: dict[str, None] = {}
    for guest in own.iterfind("guest"):
        if guest.findtext("os_type") != kind.os_type:
            continue
        for one in guest.iterfind(f"arch[@name='{ARCH}']"):
            for domain in one.iterfind("domain"):
                types[domain.get("type", "")] = None
            for machine in one.iterfind(".//machine"):
                machines[machine.text or ""] = None
    return _few(types), _few(machines)


def migration_of(own: ET.Element) -> tuple[str, ...]:
    features = own.find("host/migration_features")
    if features is None or features.find("live") is None:
        return ()
    return _few({one.text or "": None for one in features.iterfind(".//uri_transport")})


def domain_facts(described: ET.Element) -> dict[str, Any]:
    """Fields of Capabilities that the description of what machines may have tells."""
    devices = described.find("devices")
    vcpus = described.find("vcpu")
    most = vcpus.get("max", "0") if vcpus is not None else "0"
    models = described.iterfind("cpu/mode[@name='custom']/model")
    return {
        "described": True,
        "vcpus_max": int(most) if most.isdecimal() else 0,
        "cpu_models": _few({one.text or "": None for one in models if one.get("usable") != "no"}),
        "graphics": _values(described, "graphics", "type"),
        "channels": _values(described, "channel", "type"),
        "devices": _few(
            {one.tag: None for one in devices if one.get("supported") == "yes"}
            if devices is not None
            else {}
        ),
    }


def _values(described: ET.Element, device: str, enum: str) -> tuple[str, ...]:
    path = f"devices/{device}[@supported='yes']/enum[@name='{enum}']/value"
    return _few({one.text or "": None for one in described.iterfind(path)})


def _few(names: dict[str, None]) -> tuple[str, ...]:
    return tuple(name for name in names if name)[:_NAMES_MAX]


def _domain_capabilities(connection: Any, place: Place) -> ET.Element:
    machine = place.machine or None
    text = connection.getDomainCapabilities(None, ARCH, machine, place.domain_type, 0)
    return parse(text)


def rooms_of(connection: Any) -> list[PoolRoom]:
    """All its storage pools, as it knows them; nothing is looked into, but one that hangs holds
    up the answer. Raises libvirt's error."""
    return [_room(one) for one in connection.listAllStoragePools(0)[:_NAMES_MAX]]


def _room(pool: Any) -> PoolRoom:
    state, capacity, _, available = _tried(pool.info) or (0, 0, 0, 0)
    described = parse(_tried(lambda: pool.XMLDesc(0)) or "<pool/>")
    return PoolRoom(
        name=pool.name(),
        kind=described.get("type", ""),
        running=state == libvirt.VIR_STORAGE_POOL_RUNNING,
        capacity=int(capacity),
        available=int(available),
        source=source_of(described),
    )


def look(connection: Any, host: str, name: str) -> PoolRoom | None:
    """One pool, looked into anew; None: it is not there. Raises EngineError."""
    pool = _pool(connection, host, name)
    if pool is None:
        return None
    active = _tried(pool.isActive)
    # one in which a disk is being made cannot be looked into: its figures stay
    _tried(lambda: pool.refresh(0))
    if active and not _tried(pool.isActive):
        # a look that failed stops the pool, and a file server that was away would stay so
        _tried(lambda: pool.create(0))
    return _room(pool)


def glance(connection: Any, host: str, name: str) -> PoolRoom | None:
    """One pool as the host knows it; None: it is not there. Raises EngineError."""
    pool = _pool(connection, host, name)
    return None if pool is None else _room(pool)


def _pool(connection: Any, host: str, name: str) -> Any:
    try:
        return connection.storagePoolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return None
        with telling(host, f"find its storage pool {name}"):
            raise


def source_of(described: ET.Element) -> str:
    """What a pool across the network is a pool of, the same text wherever it is named so."""
    source = described.find("source")
    if source is None:
        return ""
    hosts = sorted(one.get("name", "") for one in source.iterfind("host"))
    if not hosts:
        return ""
    folder = source.find("dir")
    path = folder.get("path", "") if folder is not None else source.findtext("name", "")
    return f"{','.join(hosts)}:{path}"


def keeps_none(place: Place, pool: PoolRoom) -> str:
    """Why no desktop's disk is made in it; empty: one is, or its kind is not known yet."""
    if pool.silent and not pool.kind:
        return ""
    kind = POOL_KINDS.get(pool.kind)
    return kind.refusal(place.kind, place.clone) if kind is not None else no_kind(pool.kind)


def _networks(connection: Any) -> list[tuple[str, bool]]:
    found = (_tried(lambda: connection.listAllNetworks(0)) or ())[:_NAMES_MAX]
    return [(one.name(), bool(_tried(one.isActive))) for one in found]


def _tried(work: Callable[[], _T]) -> _T | None:
    """None where this host's driver cannot do it, or did not."""
    try:
        return work()
    except libvirt.libvirtError:
        return None


def _version(number: int) -> str:
    """libvirt's way of writing a version as one number."""
    if not number:
        return ""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def accelerated(place: Place, found: Capabilities) -> str:
    """In words, how the guests' instructions run, and whether that could be another way."""
    if "qemu" not in place.kind.domain_types:
        return "as the hypervisor has it"
    if place.accel is Accel.KVM:
        return "KVM, as the profile asks"
    if "kvm" in found.domain_types:
        return "TCG; the host offers KVM (accel=kvm), which is no proof that it works"
    return "TCG; the host offers no KVM"
