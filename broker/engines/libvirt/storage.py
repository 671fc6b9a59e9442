"""Golden images and desktops' disks in a host's storage pools. Blocking: on a host's thread.

In directories and other file systems a linked clone is a qcow2 file over its golden image, in an
LVM volume group a snapshot of the golden volume with room for all of it to be written anew, and in
Ceph RBD a layered clone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import Any, Final
from xml.etree import ElementTree as ET

import libvirt

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.model import Image
from broker.engines.libvirt import xml
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.kinds import Clone
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.pool_kinds import POOL_KINDS, Disks, PoolKind, pool_kind
from broker.engines.libvirt.tags import image_volume, volume_name, volume_of

_REFRESH_TRIES: Final = 20
_REFRESH_PAUSE_S: Final = 0.1
_OVERLAY_BYTES: Final = 1 << 20
"""that an overlay takes before anything is written to it, at most"""
_SNAPSHOT_HEAD_BYTES: Final = 1 << 20


class Volumes:
    """The volumes of one host's pool. `host` is its name, for errors."""

    def __init__(self, connection: Any, host: str, place: Place) -> None:
        self._host = host
        self._place = place
        with telling(host, f"find its storage pool {place.pool}"):
            self._pool = connection.storagePoolLookupByName(place.pool)

    @property
    def pool(self) -> str:
        """libvirt's name of it."""
        return self._place.pool

    @cached_property
    def _described(self) -> ET.Element:
        with telling(self._host, "describe its storage pool"):
            return xml.parse(self._pool.XMLDesc(0))

    @cached_property
    def _kind(self) -> PoolKind:
        """Raises UnsupportedError for one in which no such disks are made."""
        kind = pool_kind(self._described.get("type", ""), self._host)
        refuses = kind.refusal(self._place.kind, self._place.clone)
        if refuses:
            raise UnsupportedError(f"{self._host}: {refuses}")
        return kind

    @property
    def _format(self) -> str:
        return self._kind.disk_format(self._place.kind)

    def make(
        self, image: Image, desktop_id: str, generation: int, golden_disk: str = ""
    ) -> xml.Disk:
        """A fresh disk for that generation; what an interrupted attempt left of it goes first.
        `golden_disk`: what an instant clone's is an overlay on.

        Raises EngineError where the host has no such image."""
        name = volume_name(desktop_id, generation, self._format)
        return self.overlay(image, name, golden_disk)

    def overlay(self, image: Image, name: str, golden_disk: str = "") -> xml.Disk:
        golden = self.find(golden_disk or image_volume(image, f".{self._format}"), fresh=True)
        if golden is None:
            text = f"{image.name} version {image.version} in its storage pool {self._place.pool}"
            raise EngineError(f"{self._host} has no image {text}")
        self.delete(name)
        with telling(self._host, f"make the disk {name}"):
            try:
                made = self._made(name, golden)
            except libvirt.libvirtError:
                self._check_room(name, golden)
                raise
        return replace(self._disk(image, name), path=str(made.path()))

    def _made(self, name: str, golden: Any) -> Any:
        """By layering, as a snapshot, as an overlay, or as a copy."""
        capacity, form = int(golden.info()[1]), self._format
        whole = self._kind.whole
        if self._linked and self._kind.disks is not Disks.NETWORK:
            size = snapshot_bytes(capacity) if whole else capacity
            text = xml.volume(name, size, golden.path(), form, whole=whole)
            return self._pool.createXML(text)
        text = xml.volume(name, capacity, form=form, whole=whole)
        return self._pool.createXMLFrom(text, golden)

    @property
    def _linked(self) -> bool:
        return self._place.clone is not Clone.FULL

    def _check_room(self, name: str, golden: Any) -> None:
        """Raises EngineError where the pool has not the room that the disk takes."""
        _, capacity, taken = golden.info()
        needed = int(capacity) if self._kind.whole else 0 if self._linked else int(taken)
        if self._kind.whole and self._linked:
            needed = snapshot_bytes(needed)
        self.refresh()
        left = int(self._pool.info()[3])
        if left < max(needed, _OVERLAY_BYTES):
            has = f"{_mib(left)} free of the {_mib(max(needed, _OVERLAY_BYTES))} that {name} takes"
            raise EngineError(f"{self._host}: its storage pool {self._place.pool} has {has}")

    def described(self, image: Image, desktop_id: str, generation: int) -> xml.Disk:
        """The disk of that generation as it is said in its machine's description, whether or not
        it is there."""
        return self._disk(image, volume_name(desktop_id, generation, self._format))

    def _disk(self, image: Image, name: str) -> xml.Disk:
        files = self._kind.disks is Disks.FILES
        return xml.Disk(
            pool=self._place.pool,
            volume=name,
            form=self._format,
            ceph=None if self._kind.disks is not Disks.NETWORK else ceph_of(self._described, name),
            kernel=self._beside(image, ".kernel") if files else "",
            initrd=self._beside(image, ".initrd") if files else "",
        )

    def path(self, name: str) -> str:
        """Where, at the host, a file of that name would be."""
        root = self._described.findtext("target/path")
        if not root:
            raise EngineError(f"{self._host} keeps its volumes in no directory")
        return f"{root}/{name}"

    def remove(self, desktop_id: str, *, below: int) -> None:
        """Delete the desktop's disks of generations before `below`."""
        for name in self.names():
            generation = volume_of(name, desktop_id)
            if generation is not None and generation < below:
                self.delete(name)

    def _beside(self, image: Image, suffix: str) -> str:
        found = self.find(image_volume(image, suffix))
        return "" if found is None else str(found.path())

    def find(self, name: str, *, fresh: bool = False) -> Any:
        """`fresh`: look into the pool anew for what is not known."""
        for looked in (False, True):
            try:
                return self._pool.storageVolLookupByName(name)
            except libvirt.libvirtError as error:
                if not is_absent(error):
                    raise EngineError(f"{self._host} could not look for {name}") from None
            if looked or not fresh:
                return None
            self.refresh()
        return None

    def names(self) -> list[str]:
        """Of all volumes, as the pool was seen last."""
        with telling(self._host, "list its volumes"):
            return list(self._pool.listVolumes())

    @property
    def are_files(self) -> bool:
        """Whether its volumes are files. False for a kind that nobody knows, too."""
        kind = POOL_KINDS.get(self._described.get("type", ""))
        return kind is not None and kind.disks is Disks.FILES

    def layers(self) -> dict[str, tuple[str, str]]:
        """Each volume's format and the name of the file that it is an overlay on (empty: on none),
        as the pool was seen last. Raises EngineError where one does not tell."""
        found: dict[str, tuple[str, str]] = {}
        with telling(self._host, "look what stands on what"):
            for volume in self._pool.listAllVolumes():
                form = _form_and_backing(volume)
                if form is not None:
                    found[volume.name()] = form
        return found

    def is_stood_on(self, name: str) -> bool:
        """Whether any volume of the pool is an overlay on the one of that name. Raises EngineError
        where one does not tell."""
        with telling(self._host, f"look what stands on {name}"):
            layers = map(_form_and_backing, self._pool.listAllVolumes())
            return any(one is not None and one[1] == name for one in layers)

    def refresh(self) -> None:
        """See what others put into the pool. One that makes a volume at this moment cannot look:
        it is asked again."""
        for attempt in range(_REFRESH_TRIES):
            try:
                self._pool.refresh()
            except libvirt.libvirtError:
                if attempt == _REFRESH_TRIES - 1:
                    raise EngineError(f"{self._host} could not look into its pool") from None
                time.sleep(_REFRESH_PAUSE_S)  # noqa: TID251 - a thread waits, not the loop
            else:
                return

    def delete(self, name: str) -> None:
        volume = self.find(name)
        if volume is None:
            return
        try:
            volume.delete()
        except libvirt.libvirtError as error:
            if not is_absent(error):
                with telling(self._host, f"delete the disk {name}"):
                    raise


def snapshot_bytes(capacity: int) -> int:
    """How large to make LVM's snapshot of a volume of that many bytes, so that all of it can be
    written anew. Beside each changed chunk of 4 KiB LVM keeps 16 bytes (dm-snapshot's
    `struct disk_exception`) in chunks of their own, and one chunk as the head; a snapshot that is
    full is lost. LVM takes no more than it can use."""
    return capacity + capacity // 128 + _SNAPSHOT_HEAD_BYTES


def _form_and_backing(volume: Any) -> tuple[str, str] | None:
    """Its format and the name of the file that it is an overlay on; None: it is gone."""
    try:
        described = xml.parse(volume.XMLDesc(0))
    except libvirt.libvirtError as error:
        if is_absent(error):
            return None
        raise
    form = described.find("target/format")
    backing = described.findtext("backingStore/path", "").rpartition("/")[2]
    return (form.get("type", "") if form is not None else "", backing)


def _mib(number: int) -> str:
    return f"{number / (1 << 20):,.1f} MiB"


def ceph_of(described: ET.Element, volume: str) -> xml.Ceph:
    """Where a volume of a Ceph pool is, for a machine: libvirt does not look that up itself."""
    source = described.find("source")
    if source is None:
        raise EngineError("the host does not say where its storage pool is")
    auth, secret = source.find("auth"), source.find("auth/secret")
    return xml.Ceph(
        name=f"{source.findtext('name', '')}/{volume}",
        hosts=tuple((one.get("name", ""), one.get("port", "")) for one in source.iterfind("host")),
        user=auth.get("username", "") if auth is not None else "",
        secret={
            key: value
            for key in ("uuid", "usage")
            if secret is not None and (value := secret.get(key))
        },
    )


def runs(connection: Any, host: str, name: str) -> bool:
    """Whether the host has that storage pool, and it is running."""
    try:
        return bool(connection.storagePoolLookupByName(name).isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return False
        with telling(host, f"find its storage pool {name}"):
            raise


def disk_pool(connection: Any, described: ET.Element, pools: tuple[str, ...]) -> str:
    """Which of the host's pools that machine's disk is in; empty: in none."""
    source = described.find("devices/disk/source")
    if source is None:
        return ""
    if source.get("protocol") != "rbd":
        return source.get("pool", "")
    ceph_pool = source.get("name", "").partition("/")[0]
    for name in pools:
        try:
            found = xml.parse(connection.storagePoolLookupByName(name).XMLDesc(0))
        except libvirt.libvirtError:
            continue
        if found.get("type") == "rbd" and found.findtext("source/name") == ceph_pool:
            return name
    return ""


def clock_of(connection: Any, host: str, place: Place, mark: str) -> int | None:
    """The host's clock in ms since the epoch, by the time of a file that it makes in its pool for
    that and deletes again; None where it does not tell. It proves, too, that the pool takes files.

    Raises EngineError."""
    with telling(host, f"write to its storage pool {place.pool}"):
        pool = connection.storagePoolLookupByName(place.pool)
        name = f"trivium-check-{mark}.raw"
        volume = pool.createXML(xml.volume(name, 1, form="raw"))
        try:
            stamp = xml.parse(volume.XMLDesc(0)).findtext("target/timestamps/mtime")
        finally:
            volume.delete()
    return None if stamp is None else round(float(stamp) * 1000)
