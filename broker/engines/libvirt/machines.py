"""Machines of one host through libvirt. Blocking: everything here runs on a host's thread.

Each step leaves what a repetition, by this process or another, can go on from: the disk before
the machine, the machine's tag with the machine, the old disk after the new one is in use.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import libvirt

from broker.domain.drift import Difference, differences
from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.features import Feature
from broker.domain.model import Resources
from broker.domain.storage import OWN
from broker.engines.libvirt import describe, xml
from broker.engines.libvirt.connection import connect
from broker.engines.libvirt.drift import facts
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.storage import Volumes, disk_pool, runs
from broker.engines.libvirt.tags import (
    NAMESPACE,
    PREFIX,
    Tags,
    mac_address,
    machine_name,
    machine_uuid,
    read_tags,
)
from broker.engines.libvirt.tuning import CPU_PERIOD_US, Tuning, cpu_quota_us
from broker.ports import Operation

_log = logging.getLogger("trivium.libvirt")

Check = Callable[[], None]
"""raises EngineError when nobody waits for the work any more"""

_ELEMENT: Final = libvirt.VIR_DOMAIN_METADATA_ELEMENT
_UNDEFINE: Final = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
_UNDEFINE_SNAPSHOTS: Final = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
_RUNNING: Final = frozenset({libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED})
_HELD: Final = frozenset({libvirt.VIR_DOMAIN_PAUSED_SAVE, libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT})
"""why a machine stands still for a moment, and runs on by itself"""
_KIB_PER_MIB: Final = 1024
_GRAPHICS: Final = ("vnc", "spice")
"""a machine's displays, in the order of its description"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """How a machine comes to its disk, and from being defined to running."""

    disk: Callable[[], xml.Disk]
    wake: Callable[[Any], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A machine as it is at this moment. `active`: it has a process, whether or not that runs."""

    uuid: str
    tags: Tags
    memory_mib: int
    active: bool
    running: bool
    saved: bool


class Machines:
    """This installation's machines on one host."""

    def __init__(self, connection: Any, host: str, place: Place, installation_id: str) -> None:
        self.connection = connection
        self.host = host
        self.place = place
        self.installation_id = installation_id

    def volumes(self, storage: str = OWN) -> Volumes:
        """Of that class of storage. Raises EngineError where the host has none of that name."""
        return Volumes(self.connection, self.host, self.place.at(storage))

    @property
    def _undefine(self) -> int:
        """What undefining is told: where memory can be saved, that goes, too; and snapshots that
        an interrupted call left in libvirt's books."""
        has = self.place.kind.features
        saved = _UNDEFINE if Feature.SUSPEND in has else 0
        return saved | (_UNDEFINE_SNAPSHOTS if Feature.SNAPSHOT in has else 0)

    # ----------------------------------------------------------------------- looking

    def all(self) -> list[Found]:
        with telling(self.host, "list its machines"):
            domains = self.connection.listAllDomains(0)
        seen = (self._seen(domain) for domain in domains)
        return [found for found in seen if found is not None]

    def find(self, desktop_id: str) -> Found | None:
        return self.at(str(machine_uuid(self.installation_id, desktop_id)))

    def at(self, uuid: str) -> Found | None:
        try:
            domain = self.connection.lookupByUUIDString(uuid)
        except libvirt.libvirtError as error:
            if is_absent(error):
                return None
            with telling(self.host, "look for a machine"):
                raise
        return self._seen(domain)

    def leases(self, found: Found) -> tuple[str, ...]:
        """The addresses that the libvirt network of this host has given the machine."""
        source = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE
        with telling(self.host, "tell a machine's addresses"):
            cards = self._domain(found).interfaceAddresses(source)
        return tuple(one["addr"] for card in cards.values() for one in card["addrs"] or ())

    def _domain(self, found: Found) -> Any:
        """The machine on this thread's own connection."""
        return self.connection.lookupByUUIDString(found.uuid)

    def _seen(self, domain: Any) -> Found | None:
        """None for a machine that is not this installation's, or has gone meanwhile."""
        try:
            tags = read_tags(xml.parse(domain.metadata(_ELEMENT, NAMESPACE, 0)))
            if tags is None or tags.installation_id != self.installation_id:
                return None
            state, why = domain.state()
            held = state == libvirt.VIR_DOMAIN_PAUSED and why in _HELD
            return Found(
                uuid=domain.UUIDString(),
                tags=tags,
                memory_mib=domain.maxMemory() // _KIB_PER_MIB,
                active=bool(domain.isActive()),
                running=state in _RUNNING or held,
                saved=bool(domain.hasManagedSaveImage()),
            )
        except libvirt.libvirtError as error:
            if is_absent(error):
                return None
            with telling(self.host, "describe a machine"):
                raise

    # ------------------------------------------------------------------ made, fresh, gone

    def spec(self, operation: Operation, disk: xml.Disk) -> xml.MachineSpec:
        desktop = operation.desktop
        return xml.MachineSpec(
            name=machine_name(desktop.id),
            uuid=machine_uuid(self.installation_id, desktop.id),
            place=self.place,
            tags=Tags(
                installation_id=self.installation_id,
                desktop_id=desktop.id,
                generation=desktop.generation,
                name=desktop.name,
            ).after(operation.id),
            resources=desktop.resources,
            tuning=_tuning(operation, desktop.resources),
            share_pages=operation.share_pages,
            disk=disk,
        )

    def make(self, operation: Operation, check: Check, how: Begin | None = None) -> Found:
        """A fresh machine of the operation's generation, in place of an earlier one, running.
        `how`: its disk and its start, where they are not the usual ones."""
        desktop = operation.desktop
        volumes = self.volumes(operation.storage)
        check()
        self._take_off(desktop.id)
        check()
        if how is None:
            disk = volumes.make(operation.image, desktop.id, desktop.generation)
        else:
            disk = how.disk()
        spec = self.spec(operation, disk)
        check()
        with telling(self.host, f"make {desktop.name}"):
            domain = self.connection.defineXML(describe.domain(spec))
            if how is None:
                domain.create()
            else:
                how.wake(domain)
        try:
            self._remove_disks(desktop.id, below=desktop.generation)
        except EngineError:
            _log.warning("%s keeps an old disk of %s for now", self.host, desktop.id)
        return Found(
            uuid=str(spec.uuid), tags=spec.tags, memory_mib=desktop.resources.memory_mib,
            active=True, running=True, saved=False,
        )  # fmt: skip

    def start(self, found: Found, operation: Operation) -> None:
        """Start a machine that is off; one that was saved goes on where it was."""
        if found.active:
            return
        with telling(self.host, f"start {operation.desktop.name}"):
            self._domain(found).create()
        self.tag(found, found.tags.after(operation.id))

    def unpause(self, found: Found) -> None:
        """Let a machine run that an interrupted call left standing still."""
        with telling(self.host, f"start {found.tags.name}"):
            self._domain(found).resume()

    def restart(self, found: Found, operation: Operation) -> None:
        """Switch it off, as one pulls the plug, and start it."""
        with telling(self.host, f"restart {operation.desktop.name}"):
            switch_off(self._domain(found))
            self._domain(found).create()
        self.tag(found, found.tags.after(operation.id))

    def remove(self, desktop_id: str, generation: int) -> None:
        """The machine, and its disks up to that generation; nothing there is success."""
        found = self.find(desktop_id)
        own = self.pool_of(found) if found is not None else ""
        if own in self.place.pools and not runs(self.connection, self.host, own):
            # its disk would stay, and nobody would know of it once the machine is gone
            raise EngineError(f"{self.host}: its storage pool {own} is not running")
        self._take_off(desktop_id)
        self._remove_disks(desktop_id, below=generation + 1, own=own)

    def _remove_disks(self, desktop_id: str, *, below: int, own: str = "") -> None:
        """In whatever class they were made. A pool that the host does not have, or that does not
        run, keeps nothing from being removed unless the machine's disk is in it."""
        for name in self.place.pools:
            place = replace(self.place, pool=name)
            if name == (own or self.place.pool) or runs(self.connection, self.host, name):
                Volumes(self.connection, self.host, place).remove(desktop_id, below=below)

    def _take_off(self, desktop_id: str) -> None:
        found = self.find(desktop_id)
        if found is None:
            return
        with telling(self.host, f"remove {found.tags.name}"):
            try:
                if found.active:
                    switch_off(self._domain(found))
                self._domain(found).undefineFlags(self._undefine)
            except libvirt.libvirtError as error:
                if not is_absent(error):
                    raise

    # ------------------------------------------------------------------------- verbs

    def suspend(self, found: Found, operation: Operation) -> None:
        with telling(self.host, f"suspend {operation.desktop.name}"):
            self._domain(found).managedSave(0)
        self.tag(found, found.tags.after(operation.id))

    def migrate(self, found: Found, place: Place, operation: Operation) -> None:
        """`place`: the other host's profile."""
        flags = (
            libvirt.VIR_MIGRATE_LIVE
            | libvirt.VIR_MIGRATE_PERSIST_DEST
            | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
            | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
            # both profiles say that the disks are the same files, which libvirt cannot see
            | libvirt.VIR_MIGRATE_UNSAFE
        )
        parameters = {libvirt.VIR_MIGRATE_PARAM_URI: place.moves} if place.moves else {}
        self.tag(found, found.tags.after(operation.id))
        there = connect(self.host, place)
        with telling(self.host, f"move {operation.desktop.name} away"):
            self._domain(found).migrate3(there, parameters, flags)

    def resize(self, found: Found, operation: Operation, to: Resources) -> None:
        """CPUs by the scheduler's quota (by their number where there is no scheduler), memory by
        the balloon; and the pool's shares and limits, which a resize to the same size brings. More
        than the machine was started with comes with its next start."""
        name = operation.desktop.name
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        with telling(self.host, f"resize {name}"):
            domain = self._domain(found)
            whole = self.place.kind.name == "lxc"
            most_kib = domain.maxMemory()
            # a container has one number of vCPUs, and no function that tells the most
            most_cpus = int(domain.info()[3]) if whole else domain.maxVcpus()
            kib = to.memory_mib * _KIB_PER_MIB
            if kib > most_kib or to.cpus > most_cpus:
                raise EngineError(f"{name} was started with less, and cannot grow while it runs")
            if self.place.kind.name == "test":
                domain.setVcpusFlags(max(1, round(to.cpus)), libvirt.VIR_DOMAIN_AFFECT_LIVE)
                domain.setMemoryFlags(kib, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            else:
                # the binding asks for what is set first, and that takes one of them at a time
                for flag in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
                    if whole:
                        domain.setSchedulerParametersFlags(_quota_of_container(to.cpus), flag)
                    else:
                        tuning = _tuning(operation, to)
                        tuning.apply(
                            domain, flag, cpus=to.cpus, mac=self._card(found),
                            cannot=libvirt.libvirtError,
                        )  # fmt: skip
                domain.setMemoryFlags(kib, live)
        self.tag(found, found.tags.after(operation.id))

    def _card(self, found: Found) -> str:
        """The address of its network card; empty: it has none."""
        return mac_address(UUID(found.uuid)) if self.place.network else ""

    def drift(self, found: Found, operation: Operation) -> tuple[Difference, ...]:
        """How the machine differs from what the operation would make of its present disk."""
        desktop = operation.desktop
        with telling(self.host, f"describe {desktop.name}"):
            now = xml.parse(self._domain(found).XMLDesc(0))
        pool = disk_pool(self.connection, now, self.place.pools)
        if pool not in self.place.pools:
            pool = self.place.at(operation.storage).pool
        # a disk stays in its class, whatever the desktop's pool names by now
        volumes = Volumes(self.connection, self.host, replace(self.place, pool=pool))
        disk = volumes.described(operation.image, desktop.id, found.tags.on_disk)
        wanted = xml.parse(describe.domain(self.spec(operation, disk)))
        return differences(facts(now), facts(wanted))

    def abort(self, found: Found) -> None:
        """Stop the save or the move that the machine is in; it runs on."""
        with contextlib.suppress(libvirt.libvirtError):
            self._domain(found).abortJob()

    def tag(self, found: Found, tags: Tags) -> None:
        """Write these tags on the machine, as it runs and for its next start."""
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        with telling(self.host, f"tag {tags.name}"):
            domain = self._domain(found)
            if domain.isActive():
                flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
            text = xml.text_of(tags.element(bare=True))
            domain.setMetadata(_ELEMENT, text, PREFIX, NAMESPACE, flags)

    def display(self, found: Found, protocol: str = "vnc") -> int:
        """A connected socket to the machine's VNC or SPICE server, for a daemon on the broker's
        machine."""
        with telling(self.host, f"show {found.tags.name}"):
            flags = libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH
            return int(self._domain(found).openGraphicsFD(_GRAPHICS.index(protocol), flags))

    def socket(self, found: Found, protocol: str = "vnc") -> str:
        """Where, at the host, the machine's VNC or SPICE server listens."""
        with telling(self.host, f"show {found.tags.name}"):
            described = xml.parse(self._domain(found).XMLDesc(0))
        path = f"devices/graphics[@type='{protocol}']/listen[@type='socket']"
        listen = described.find(path)
        there = listen.get("socket", "") if listen is not None else ""
        if not there.startswith("/"):
            text = f"{found.tags.name} was made without a display that is reached over SSH"
            raise EngineError(f"{text}: it has one when it is made fresh")
        return there

    def pool_of(self, found: Found) -> str:
        """The storage pool that its disk is in; empty: in none."""
        with telling(self.host, f"describe {found.tags.name}"):
            described = xml.parse(self._domain(found).XMLDesc(0))
        return disk_pool(self.connection, described, self.place.pools)

    def expect(self, pool: str) -> int:
        """Before a machine comes from elsewhere: its disk is in that pool, which looks for it.
        Answers the MiB that are promised to this installation's machines that are on."""
        Volumes(self.connection, self.host, replace(self.place, pool=pool)).refresh()
        return sum(one.memory_mib for one in self.all() if one.active)


def _tuning(operation: Operation, resources: Resources) -> Tuning:
    return Tuning.of(resources, operation.guarantee, operation.weights, operation.limits)


def _quota_of_container(cpus: float) -> dict[str, int]:
    return {"vcpu_period": CPU_PERIOD_US, "vcpu_quota": cpu_quota_us(cpus)}


def switch_off(domain: Any) -> None:
    """One that went off by itself in between is off, too."""
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


def fence(found: Found | None, generation: int, name: str) -> None:
    """Raises StaleGenerationError where the machine is of a later generation."""
    if found is not None and found.tags.generation > generation:
        text = f"{name} is at generation {found.tags.generation} by now"
        raise StaleGenerationError(f"{text}, not {generation}")
