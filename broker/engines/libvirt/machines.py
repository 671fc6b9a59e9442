"""Machines of one host through libvirt. Blocking: everything here runs on a host's thread.

Each step leaves what a repetition, by this process or another, can go on from: the disk before
the machine, the machine's tag with the machine, the old disk after the new one is in use.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from socket import socket as Socket  # noqa: N812 - a class, and a method has its name
from typing import Any, Final

import libvirt

from broker.domain.drift import Difference
from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.features import Feature
from broker.domain.model import Desktop, Resources
from broker.domain.storage import OWN
from broker.engines.libvirt import describe, moves, xml
from broker.engines.libvirt.certified import moved_to, port_of
from broker.engines.libvirt.connection import connect
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.drift import compared
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.groups import HostGroups
from broker.engines.libvirt.kinds import Agent
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.storage import Volumes, disk_pool, runs
from broker.engines.libvirt.tags import (
    NAMESPACE,
    PREFIX,
    Tags,
    machine_name,
    machine_uuid,
    read_tags,
)
from broker.engines.libvirt.tuned import TUNED, described_for, tune, tuning_of
from broker.ports import GuestLinks, Operation

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
    """This installation's machines on one host. `silent`: storage pools that do not answer, which
    are not asked for anything. `groups`: what is known of its control groups."""

    def __init__(
        self, connection: Any, host: str, place: Place, installation_id: str,
        silent: frozenset[str] = frozenset(), guest_links: GuestLinks | None = None,
        groups: HostGroups | None = None,
    ) -> None:  # fmt: skip
        self._groups = groups or HostGroups()
        self._guest_links = guest_links
        self.connection = connection
        self.host = host
        self.place = place
        self.installation_id = installation_id
        self._silent = silent

    def volumes(self, storage: str = OWN) -> Volumes:
        """Of that class of storage. Raises EngineError where the host has none of that name, or
        its pool does not answer."""
        return self._volumes(self.place.at(storage).pool)

    def _volumes(self, pool: str) -> Volumes:
        self._check_answers(pool)
        return Volumes(self.connection, self.host, replace(self.place, pool=pool))

    def _check_answers(self, pool: str) -> None:
        if pool in self._silent:
            raise EngineError(f"{self.host}: its storage pool {pool} does not answer")

    @property
    def _answering(self) -> tuple[str, ...]:
        return tuple(name for name in self.place.pools if name not in self._silent)

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

    @property
    def groups(self) -> Groups | None:
        """Which version of control groups the host's machines are in, where it is known."""
        return self._groups.of(self.connection, self.place)

    def spec(self, operation: Operation, disk: xml.Disk) -> xml.MachineSpec:
        desktop, groups = operation.desktop, self.groups
        return xml.MachineSpec(
            name=machine_name(desktop.id),
            uuid=machine_uuid(self.installation_id, desktop.id),
            place=self.place,
            tags=Tags(
                installation_id=self.installation_id,
                desktop_id=desktop.id,
                generation=desktop.generation,
                name=desktop.name,
                groups=groups or "",
            ).after(operation.id),
            resources=desktop.resources,
            tuning=tuning_of(operation, desktop.resources, groups),
            share_pages=operation.share_pages,
            disk=disk,
            given=self._given(desktop),
        )

    def _given(self, desktop: Desktop) -> Mapping[str, str]:
        """What the machine's agent must find there, where it reaches the broker by the network."""
        if self.place.agent is not Agent.WEBSOCKET:
            return {}
        if self._guest_links is None:
            raise EngineError("this broker takes no links of guest agents")
        return self._guest_links.given(desktop.id, desktop.generation)

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
        found = Found(
            uuid=str(spec.uuid), tags=spec.tags, memory_mib=desktop.resources.memory_mib,
            active=True, running=True, saved=False,
        )  # fmt: skip
        if not spec.tags.groups and self._groups.learn(domain, self.place):
            self.tune(found, operation)
        try:
            self._remove_disks(desktop.id, below=desktop.generation)
        except EngineError:
            _log.warning("%s keeps an old disk of %s for now", self.host, desktop.id)
        return found

    def start(self, found: Found, operation: Operation) -> None:
        """Start a machine that is off; one that was saved goes on where it was, with what its pool
        lets it take by now."""
        if found.active:
            return
        self._check_answers(self.pool_of(found))
        with telling(self.host, f"start {operation.desktop.name}"):
            self._domain(found).create()
        self.tag(found, found.tags.after(operation.id))
        self.tune(found, operation)

    def unpause(self, found: Found) -> None:
        """Let a machine run that an interrupted call left standing still."""
        with telling(self.host, f"start {found.tags.name}"):
            self._domain(found).resume()

    def restart(self, found: Found, operation: Operation) -> None:
        """Switch it off, as one pulls the plug, and start it."""
        self._check_answers(self.pool_of(found))
        with telling(self.host, f"restart {operation.desktop.name}"):
            switch_off(self._domain(found))
            self._domain(found).create()
        self.tag(found, found.tags.after(operation.id))

    def remove(self, desktop_id: str, generation: int) -> None:
        """The machine, and its disks up to that generation; nothing there is success."""
        found = self.find(desktop_id)
        own = self.pool_of(found) if found is not None else ""
        self._check_answers(own)
        if own in self.place.pools and not runs(self.connection, self.host, own):
            # its disk would stay, and nobody would know of it once the machine is gone
            raise EngineError(f"{self.host}: its storage pool {own} is not running")
        self._take_off(desktop_id)
        self._remove_disks(desktop_id, below=generation + 1, own=own)

    def _remove_disks(self, desktop_id: str, *, below: int, own: str = "") -> None:
        """In whatever class they were made. A pool that the host does not have, or that does not
        run or answer, keeps nothing from being removed unless the machine's disk is in it."""
        for name in self.place.pools:
            if name == (own or self.place.pool) or (
                name not in self._silent and runs(self.connection, self.host, name)
            ):
                self._volumes(name).remove(desktop_id, below=below)

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

    def migrate(
        self, found: Found, place: Place, operation: Operation, groups: Groups | None, check: Check
    ) -> None:
        """`place`, `groups`: of the other host, in whose figures the machine is described."""
        tls = moves.wanted(self.place, place)
        parameters = {libvirt.VIR_MIGRATE_PARAM_URI: place.moves} if place.moves else {}
        there = connect(self.host, place)
        check()  # that may have taken long, and there was no move yet that could be stopped
        self.tag(found, replace(found.tags.after(operation.id), groups=groups or ""))
        with telling(self.host, f"move {operation.desktop.name} away"):
            if groups is not self.groups:
                tuning = tuning_of(operation, operation.desktop.resources, groups)
                parameters |= described_for(self._domain(found), tuning)
            if place.vnc != self.place.vnc:
                parameters = moved_to(self._domain(found), place, parameters)
            moves.move(self._domain(found), there, parameters, tls)

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
                tune(domain, self.place, operation, to, self.groups)
                domain.setMemoryFlags(kib, live)
        self.tag(found, found.tags.after(operation.id))

    def tune(self, found: Found, operation: Operation) -> None:
        """Give a machine that runs the shares and limits that its pool has now. A host that does
        not take them keeps nobody from his desktop: drift tells."""
        if self.place.kind.name not in TUNED:
            return
        try:
            with telling(self.host, f"tune {operation.desktop.name}"):
                domain = self._domain(found)
                tune(domain, self.place, operation, operation.desktop.resources, self.groups)
                tags = read_tags(xml.parse(domain.metadata(_ELEMENT, NAMESPACE, 0)))
        except EngineError as error:
            _log.warning("a desktop goes on as it is: %s", error)
            return
        if tags is not None and tags.groups != (self.groups or ""):
            self.tag(found, replace(tags, groups=self.groups or ""))

    def drift(self, found: Found, operation: Operation) -> tuple[Difference, ...]:
        """How the machine differs from what the operation would make of its present disk."""
        desktop = operation.desktop
        with telling(self.host, f"describe {desktop.name}"):
            now = xml.parse(self._domain(found).XMLDesc(0))
        pool = disk_pool(self.connection, now, self._answering)
        if pool not in self.place.pools:
            pool = self.place.at(operation.storage).pool
        # a disk stays in its class, whatever the desktop's pool names by now
        volumes = self._volumes(pool)
        disk = volumes.described(operation.image, desktop.id, found.tags.on_disk)
        return compared(now, xml.parse(describe.domain(self.spec(operation, disk))))

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

    def display(self, found: Found, protocol: str = "vnc") -> Socket:
        """A connected socket to the machine's VNC or SPICE server, for a daemon on the broker's
        machine."""
        with telling(self.host, f"show {found.tags.name}"):
            flags = libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH
            fd = self._domain(found).openGraphicsFD(_GRAPHICS.index(protocol), flags)
            return Socket(fileno=fd)

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

    def port(self, found: Found) -> int:
        """Where, at the host's address, the machine's VNC server listens for whoever has a
        certificate."""
        with telling(self.host, f"show {found.tags.name}"):
            described = self._domain(found).XMLDesc(0)
        return port_of(described, self.place, found.tags.name)

    def pool_of(self, found: Found) -> str:
        """The storage pool that its disk is in; empty: in none. Raises EngineError where that
        cannot be told while a pool does not answer."""
        with telling(self.host, f"describe {found.tags.name}"):
            described = xml.parse(self._domain(found).XMLDesc(0))
        pool = disk_pool(self.connection, described, self._answering)
        if not pool and self._silent:
            text = f"its storage pool {', '.join(sorted(self._silent))} does not answer"
            raise EngineError(f"{self.host}: {text}, and the disk may be there")
        return pool

    def expect(self, pool: str) -> int:
        """Before a machine comes from elsewhere: its disk is in that pool, which looks for it.
        Answers the MiB that are promised to this installation's machines that are on."""
        self._volumes(pool).refresh()
        return sum(one.memory_mib for one in self.all() if one.active)


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
