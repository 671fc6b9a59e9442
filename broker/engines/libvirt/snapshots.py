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
import re
from collections.abc import Iterator, Mapping
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
_OURS: Final = re.compile(r"trivium-(?P<id>snp_[0-9A-Za-z]+)")
"""what the broker's own are called"""
_WOKEN: Final = frozenset(
    {libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP}
)
"""why a machine stands still that was woken without letting it run"""
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
            known = kept.get(snapshot_id)
            if known is None:
                self._check_disk()
            with self._asleep_again(wake=known is None):
                known = known or self._taken(snapshot_id, kept)
                self._tidy({**kept, snapshot_id: known})
        return known.size_bytes

    @contextlib.contextmanager
    def _asleep_again(self, *, wake: bool) -> Iterator[None]:
        """A machine that sleeps has its memory (`wake`) within, and is saved again afterwards,
        whatever comes of it; so is one that an interrupted call left woken. One that stands still
        for any other reason may be somebody's, who has it on his screen."""
        domain = self._domain
        state, why = domain.state()
        woken = state == libvirt.VIR_DOMAIN_PAUSED and why in _WOKEN
        if wake and not domain.isActive() and domain.hasManagedSaveImage():
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
            woken = True
        try:
            yield
        finally:
            if woken:
                domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)

    def _taken(self, snapshot_id: str, kept: Mapping[str, Kept]) -> Kept:
        before = self._allocated()
        booked = self._booked().get(snapshot_id)
        if booked is None:
            asked = ET.Element("domainsnapshot")
            ET.SubElement(asked, "name").text = f"trivium-{snapshot_id}"
            booked = self._domain.snapshotCreateXML(xml.text_of(asked), 0)
        after = self._allocated()
        size = None if before is None or after is None else max(0, after - before)
        known = Kept(described=_by_itself(booked.getXMLDesc(0)), size_bytes=size)
        self._keep({**kept, snapshot_id: known})
        return known

    def revert(self, snapshot_id: str, operation: Operation) -> None:
        """The machine as it was then, running, under the operation's generation. It is left as it
        is until libvirt has taken the snapshot back into its books."""
        kept = self._kept()
        self._tidy(kept)
        known = kept.get(snapshot_id)
        if known is None:
            raise EngineError(f"{self._name} has no such snapshot")
        domain = self._domain
        text = xml.text_of(self._described(known, kept, operation))
        with telling(self._machines.host, f"revert {self._name}"):
            booked = domain.snapshotCreateXML(text, _REDEFINE)
            try:
                if domain.isActive():
                    switch_off(domain)
                # not after: memory that does not fit the disk any more must never be woken
                if domain.hasManagedSaveImage():
                    domain.managedSaveRemove(0)
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
        named = ((_OURS.fullmatch(name), one) for name, one in self._named().items())
        return {found["id"]: one for found, one in named if found is not None}

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


def _by_itself(described: str) -> str:
    """A snapshot's description without how the machine would have been at its next start, and
    without the snapshots that it had then: these would lie in one another, and libvirt takes no
    description of more than a few MiB."""
    root = xml.parse(described)
    for one in root.findall("inactiveDomain"):
        root.remove(one)
    for said in root.iterfind("domain/metadata"):
        for one in said.findall(f"{{{NAMESPACE}}}snapshots"):
            said.remove(one)
    return xml.text_of(root)


def under(found: Found, generation: int) -> Found:
    """The machine under a later generation of its desktop; its disk stays."""
    tags = replace(found.tags, generation=generation, disk=found.tags.on_disk)
    return replace(found, tags=tags)
