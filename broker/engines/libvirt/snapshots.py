"""Snapshots of QEMU's machines: in the machine's own qcow2, memory and all.

libvirt's own books of snapshots do not survive a move: it refuses to move a machine that has any.
So what it writes there is taken out again at once; what it needs to revert to a snapshot, its
description, is kept in the machine's metadata, which moves with it, and is handed back for as long
as a call takes. What is found in the books is therefore of a call that was interrupted: it is
finished if it is asked for again, and removed otherwise. Snapshots that somebody else made there
bear other names, and are left alone. Blocking: on a host's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from xml.etree import ElementTree as ET

import libvirt

from broker.domain.errors import EngineError, UnsupportedError
from broker.engines.libvirt import xml
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.machines import Found, Machines, switch_off
from broker.engines.libvirt.tags import Tags, read_tags
from broker.engines.libvirt.tuning import DISK
from broker.ports import Operation

NAMESPACE: Final = "urn:trivium:snapshots:1"
PREFIX: Final = "trivium-snapshots"
OURS: Final = "trivium-"
"""how the names of the broker's own begin"""
_ELEMENT: Final = libvirt.VIR_DOMAIN_METADATA_ELEMENT
_CONFIG: Final = libvirt.VIR_DOMAIN_AFFECT_CONFIG
_BOOKS_ONLY: Final = libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
_REDEFINE: Final = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE

ET.register_namespace(PREFIX, NAMESPACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """`described`: as libvirt describes it, with the machine as it was. `size_bytes`: None: the
    host did not say."""

    described: str
    size_bytes: int | None


class Snapshots:
    """Those of one machine that was found."""

    def __init__(self, machines: Machines, found: Found) -> None:
        self._machines = machines
        self._found = found
        self._name = found.tags.name
        with telling(machines.host, f"find {self._name}"):
            self._domain = machines.connection.lookupByUUIDString(found.uuid)

    def take(self, snapshot_id: str) -> int | None:
        """Keep the machine as it is; answers the bytes that it took. One that sleeps is woken
        without letting it run, and put to sleep again."""
        kept = self._kept()
        self._tidy(kept, but=snapshot_id)
        with telling(self._machines.host, f"keep a snapshot of {self._name}"):
            known = kept.get(snapshot_id) or self._taken(snapshot_id, kept)
            self._tidy({**kept, snapshot_id: known})
            state, why = self._domain.state()
            paused = state == libvirt.VIR_DOMAIN_PAUSED
            if paused and why != libvirt.VIR_DOMAIN_PAUSED_USER:
                self._domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)
        return known.size_bytes

    def _taken(self, snapshot_id: str, kept: Mapping[str, Kept]) -> Kept:
        domain = self._domain
        self._check_disk()
        if not domain.isActive() and domain.hasManagedSaveImage():
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        before = self._allocated()
        booked = self._booked().get(snapshot_id)
        if booked is None:
            asked = ET.Element("domainsnapshot")
            ET.SubElement(asked, "name").text = f"{OURS}{snapshot_id}"
            booked = domain.snapshotCreateXML(xml.text_of(asked), 0)
        after = self._allocated()
        size = None if before is None or after is None else max(0, after - before)
        known = Kept(described=_without_next(booked.getXMLDesc(0)), size_bytes=size)
        self._keep({**kept, snapshot_id: known})
        return known

    def revert(self, snapshot_id: str, operation: Operation) -> None:
        """The machine as it was then, running, under the operation's generation."""
        kept = self._kept()
        self._tidy(kept)
        known = kept.get(snapshot_id)
        if known is None:
            raise EngineError(f"{self._name} has no such snapshot")
        domain = self._domain
        text = xml.text_of(self._described(known, kept, operation))
        with telling(self._machines.host, f"revert {self._name}"):
            if domain.isActive():
                switch_off(domain)
            if domain.hasManagedSaveImage():
                domain.managedSaveRemove(0)
            booked = domain.snapshotCreateXML(text, _REDEFINE)
            try:
                domain.revertToSnapshot(booked, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING)
            finally:
                with contextlib.suppress(libvirt.libvirtError):
                    booked.delete(_BOOKS_ONLY)

    def _described(self, known: Kept, kept: Mapping[str, Kept], operation: Operation) -> ET.Element:
        """The snapshot with the machine's tags as they are to be, and all of its snapshots."""
        root = xml.parse(known.described)
        machine = root.find("domain")
        if machine is None:
            raise EngineError(f"the snapshot of {self._name} does not say what it is of")
        users: tuple[str, ...] = ()
        for said in machine.findall("metadata"):
            found = [read_tags(one) for one in said]
            users = next((one.users for one in found if one is not None), users)
            machine.remove(said)
        tags = Tags(
            installation_id=self._machines.installation_id,
            desktop_id=operation.desktop.id,
            generation=operation.desktop.generation,
            name=operation.desktop.name,
            users=users,
            disk=self._found.tags.on_disk,
        ).after(operation.id)
        metadata = ET.SubElement(machine, "metadata")
        metadata.append(tags.element())
        metadata.append(_element(kept))
        return root

    def drop(self, snapshot_id: str) -> None:
        """It is in the books before it is forgotten, so that an interrupted drop can be ended."""
        kept = self._kept()
        self._tidy(kept, but=snapshot_id)
        known = kept.pop(snapshot_id, None)
        booked = self._booked().get(snapshot_id)
        if known is None and booked is None:
            return
        with telling(self._machines.host, f"drop a snapshot of {self._name}"):
            if known is not None:
                if booked is None:
                    booked = self._domain.snapshotCreateXML(known.described, _REDEFINE)
                self._keep(kept)
            if booked is not None:
                booked.delete(0)

    def tidy(self) -> None:
        """Before the machine moves: nothing in libvirt's books. Raises UnsupportedError for what
        somebody else put there."""
        self._tidy(self._kept())
        if self._named():
            text = "has snapshots that the broker did not make, with which libvirt does not move it"
            raise UnsupportedError(f"{self._name} {text}")

    # ------------------------------------------------------------------------ parts

    def _check_disk(self) -> None:
        root = xml.parse(self._domain.XMLDesc(0))
        forms = [one.get("type") for one in root.iterfind("devices/disk/driver")]
        if forms != ["qcow2"]:
            raise UnsupportedError(f"the disk of {self._name} keeps no snapshots: it is no qcow2")

    def _allocated(self) -> int | None:
        """Bytes of the disk's file at the host."""
        try:
            return int(self._domain.blockInfo(DISK)[1])
        except libvirt.libvirtError:
            return None

    def _booked(self) -> dict[str, Any]:
        """The broker's own in libvirt's books, by id."""
        named = self._named().items()
        return {name.removeprefix(OURS): one for name, one in named if name.startswith(OURS)}

    def _named(self) -> dict[str, Any]:
        with telling(self._machines.host, f"list the snapshots of {self._name}"):
            return {one.getName(): one for one in self._domain.listAllSnapshots(0)}

    def _tidy(self, kept: Mapping[str, Kept], *, but: str = "") -> None:
        """Nothing stays in libvirt's books; what is in them alone was left half-made."""
        for name, booked in self._booked().items():
            if name != but:
                with telling(self._machines.host, f"tidy the snapshots of {self._name}"):
                    booked.delete(_BOOKS_ONLY if name in kept else 0)

    def _kept(self) -> dict[str, Kept]:
        try:
            text = self._domain.metadata(_ELEMENT, NAMESPACE, _CONFIG)
        except libvirt.libvirtError as error:
            if is_absent(error):
                return {}
            with telling(self._machines.host, f"list the snapshots of {self._name}"):
                raise
        found: dict[str, Kept] = {}
        for one in xml.parse(text):
            size = one.get("size", "")
            found[one.get("id", "")] = Kept(
                described=one.text or "", size_bytes=int(size) if size.isdecimal() else None
            )
        return found

    def _keep(self, kept: Mapping[str, Kept]) -> None:
        text = xml.text_of(_element(kept, bare=True))
        self._domain.setMetadata(_ELEMENT, text, PREFIX, NAMESPACE, _CONFIG)


def _element(kept: Mapping[str, Kept], *, bare: bool = False) -> ET.Element:
    """`bare`: without its namespace, which libvirt itself puts on what it is given alone."""
    space = "" if bare else f"{{{NAMESPACE}}}"
    root = ET.Element(f"{space}snapshots")
    for snapshot_id, one in kept.items():
        size = {} if one.size_bytes is None else {"size": str(one.size_bytes)}
        ET.SubElement(root, f"{space}snapshot", {"id": snapshot_id, **size}).text = one.described
    return root


def _without_next(described: str) -> str:
    """A snapshot's description without how the machine would have been at its next start."""
    root = xml.parse(described)
    for one in root.findall("inactiveDomain"):
        root.remove(one)
    return xml.text_of(root)


def under(found: Found, generation: int) -> Found:
    """The machine under a later generation of its desktop; its disk stays."""
    tags = replace(found.tags, generation=generation, disk=found.tags.on_disk)
    return replace(found, tags=tags)
