"""Golden images that were uploaded to the broker, brought to the hosts that need them.

An image's file is written behind its first bytes, and these come last: until then it has no header
of qcow2, so nobody, this broker after a crash included, takes half of an image for the whole.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final

import libvirt

from broker.domain.model import Image
from broker.domain.storage import OWN
from broker.engines.libvirt import xml
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.hosts import HostLink
from broker.engines.libvirt.machines import Machines
from broker.engines.libvirt.pool_kinds import POOL_KINDS, Disks
from broker.engines.libvirt.tags import image_volume
from broker.engines.libvirt.turns import Turn
from broker.ports import Clock

_log = logging.getLogger("trivium.libvirt")

FORMAT: Final = "qcow2"
HEAD_BYTES: Final = 64 * 1024
"""written last"""
WAIT_S: Final = 1.0
"""between two looks whether an image that is on its way to a host is there"""
_PIECE_BYTES: Final = 256 * 1024


class GoldenImages:
    """`folder`: where uploaded images are kept; None: this broker keeps none."""

    def __init__(self, folder: Path | None, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._under_way: dict[tuple[str, str, str], threading.Lock] = {}

    async def ensure(self, turn: Turn, home: HostLink, image: Image, storage: str = OWN) -> None:
        """The image is in the host's pool of that class, if it was uploaded here and the pool
        keeps files; else that is as it is. Who comes while it is on its way waits, as long as
        whoever asked him does.

        Raises EngineError: it could not be brought there."""
        if self._folder is None or home.place.kind.disk_format != FORMAT:
            return
        name = image_volume(image)
        file = self._folder / name
        if not file.is_file():
            return
        host, pool = home.host.name, home.place.at(storage).pool
        lock = self._under_way.setdefault((home.host.id, pool, name), threading.Lock())

        def work(connection: Any) -> bool:
            if not lock.acquire(blocking=False):
                return False
            try:
                bring(connection, host, pool, name, file)
            finally:
                lock.release()
            return True

        def begin(machines: Machines) -> bool:
            machines.volumes(storage)  # raises where the pool does not answer
            return work(machines.connection)

        while lock.locked() or not await turn.do(home, begin, pool=pool):
            await self._clock.sleep(WAIT_S)


def bring(connection: Any, host: str, pool_name: str, name: str, file: Path) -> None:
    """Blocking, for as long as the copy takes; nothing is done where the image is there, or in a
    pool of what are no files."""
    with telling(host, f"find its storage pool {pool_name}"):
        pool = connection.storagePoolLookupByName(pool_name)
        kind = POOL_KINDS.get(xml.parse(pool.XMLDesc(0)).get("type", ""))
    if kind is None or kind.disks is not Disks.FILES:
        return
    volume = _look(pool, host, name) or _look(pool, host, name, fresh=True)
    if volume is not None and _format(volume, host) == FORMAT:
        return
    _log.info("%s is brought to %s", name, host)
    with telling(host, f"take the image {name}"):
        if volume is not None:
            volume.delete()  # half of it, from an attempt that broke off
        volume = pool.createXML(xml.volume(name, 0, form="raw"))
        with file.open("rb") as content:
            length = file.stat().st_size
            head = min(HEAD_BYTES, length)
            if length > head:
                _write(connection, volume, content, head, length - head)
            _write(connection, volume, content, 0, head)
        pool.refresh()
    _log.info("%s is at %s", name, host)


def _look(pool: Any, host: str, name: str, *, fresh: bool = False) -> Any:
    try:
        if fresh:
            pool.refresh()
        return pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if is_absent(error):
            return None
        with telling(host, f"look for the image {name}"):
            raise


def _format(volume: Any, host: str) -> str:
    with telling(host, "describe an image"):
        found = xml.parse(volume.XMLDesc(0)).find("target/format")
    return found.get("type", "") if found is not None else ""


def _write(connection: Any, volume: Any, content: BinaryIO, offset: int, length: int) -> None:
    """That part of the file to the same place of the volume."""
    content.seek(offset)
    stream = connection.newStream(0)
    volume.upload(stream, offset, length, 0)
    left = length

    def piece(_stream: Any, wanted: int, _opaque: object) -> bytes:
        nonlocal left
        data = content.read(min(wanted, left, _PIECE_BYTES))
        left -= len(data)
        return data

    try:
        stream.sendAll(piece, None)
        stream.finish()
    except libvirt.libvirtError:
        _give_up(stream)
        raise


def _give_up(stream: Any) -> None:
    try:
        stream.abort()
    except libvirt.libvirtError:
        return  # it is over already
