"""Golden images and desktops' disks in a host's storage pool. Blocking: on a host's thread."""

from __future__ import annotations

import time
from typing import Any, Final

import libvirt

from broker.domain.errors import EngineError
from broker.domain.model import Image
from broker.engines.libvirt import xml
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.kinds import Clone
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.tags import image_volume, volume_name, volume_of

_REFRESH_TRIES: Final = 20
_REFRESH_PAUSE_S: Final = 0.1


class Volumes:
    """The volumes of one host's pool. `host` is its name, for errors."""

    def __init__(self, connection: Any, host: str, place: Place) -> None:
        self._host = host
        self._place = place
        with telling(host, f"find its storage pool {place.pool}"):
            self._pool = connection.storagePoolLookupByName(place.pool)

    def make(
        self, image: Image, desktop_id: str, generation: int, golden_disk: str = ""
    ) -> xml.Disk:
        """A fresh disk for that generation; what an interrupted attempt left of it goes first.
        `golden_disk`: what an instant clone's is an overlay on.

        Raises EngineError where the host has no such image."""
        form = self._place.kind.disk_format
        return self.overlay(image, volume_name(desktop_id, generation, form), golden_disk)

    def overlay(self, image: Image, name: str, golden_disk: str = "") -> xml.Disk:
        form = self._place.kind.disk_format
        golden = self.find(golden_disk or image_volume(image, f".{form}"), fresh=True)
        if golden is None:
            text = f"{image.name} version {image.version} in its storage pool"
            raise EngineError(f"{self._host} has no image {text}")
        self.delete(name)
        with telling(self._host, f"make the disk {name}"):
            capacity = int(golden.info()[1])
            if self._place.clone is Clone.FULL:
                made = self._pool.createXMLFrom(xml.volume(name, capacity, form=form), golden)
            else:
                made = self._pool.createXML(xml.volume(name, capacity, golden.path(), form))
        return xml.Disk(
            pool=self._place.pool,
            volume=name,
            path=str(made.path()),
            kernel=self._beside(image, ".kernel"),
            initrd=self._beside(image, ".initrd"),
        )

    def described(self, image: Image, desktop_id: str, generation: int) -> xml.Disk:
        """The disk of that generation as it is said in its machine's description, whether or not
        it is there."""
        return xml.Disk(
            pool=self._place.pool,
            volume=volume_name(desktop_id, generation, self._place.kind.disk_format),
            kernel=self._beside(image, ".kernel"),
            initrd=self._beside(image, ".initrd"),
        )

    def path(self, name: str) -> str:
        """Where, at the host, a file of that name would be."""
        with telling(self._host, "describe its storage pool"):
            root = xml.parse(self._pool.XMLDesc(0)).findtext("target/path")
        if not root:
            raise EngineError(f"{self._host} keeps its volumes in no directory")
        return f"{root}/{name}"

    def remove(self, desktop_id: str, *, below: int) -> None:
        """Delete the desktop's disks of generations before `below`."""
        with telling(self._host, "list its volumes"):
            names = self._pool.listVolumes()
        for name in names:
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
