"""Golden images that were uploaded to the broker, brought to the hosts that need them.

An image's file is written behind its first bytes, and these come last: until then it has no header
of qcow2, so nobody, this broker after a crash included, takes half of an image for the whole.

Hosts that share storage have one such file, and brokers have no common lock. libvirt renames no
volume, and its copies begin with the header, so the file has its name from the start, and whoever
makes it, which only one can, brings it. Others wait while it is written to, and take it for left
behind once it has stood still for STILL_S, by the clock of where it lies. Whoever was taken for
gone, and was not, finds at its end a file that is not as long as the image, and leaves it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final

import libvirt

from broker.domain.errors import EngineError
from broker.domain.model import Image
from broker.domain.storage import OWN
from broker.engines.libvirt import xml
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.hosts import HostLink
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.machines import Machines
from broker.engines.libvirt.pool_kinds import POOL_KINDS, Disks
from broker.engines.libvirt.storage import Volumes, clock_of
from broker.engines.libvirt.tags import image_mark, image_volume
from broker.engines.libvirt.turns import Turn
from broker.ports import Clock

_log = logging.getLogger("trivium.libvirt")

FORMAT: Final = "qcow2"
HEAD_BYTES: Final = 64 * 1024
"""written last"""
WAIT_S: Final = 1.0
"""between two looks whether an image that this broker brings to a host is there"""
LOOK_S: Final = 5.0
"""between two looks, each at the host, whether one that somebody else brings is there"""
STILL_S: Final = 120.0
"""without a byte of half an image before it counts as left behind: connections that are lost are
noticed, and file systems of the network write what they hold back, in half of that"""
_PIECE_BYTES: Final = 256 * 1024


class GoldenImages:
    """`folder`: where uploaded images are kept; None: this broker keeps none. `owner`: the
    installation's mark."""

    def __init__(self, folder: Path | None, clock: Clock, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        self._clock = clock
        self._under_way: dict[tuple[str, str, str], threading.Lock] = {}
        self._look_at: dict[tuple[str, str, str], float] = {}

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
        beside = image_mark(image, self._owner)
        host, place = home.host.name, home.place.at(storage)
        key, lock = _key(home, place.pool, name), self.lock(home, place.pool, name)
        mark = f"{home.host.id}-{name}-{self._clock.now()}"

        def begin(machines: Machines) -> bool | None:
            volumes = machines.volumes(storage)  # raises where the pool does not answer
            if not lock.acquire(blocking=False):
                return None
            try:
                return bring(machines.connection, volumes, host, place, name, file, mark, beside)
            finally:
                lock.release()

        while True:
            if not lock.locked() and self._clock.monotonic() >= self._look_at.get(key, 0.0):
                found = await turn.do(home, begin, pool=place.pool)
                if found:
                    self._look_at.pop(key, None)
                    return
                if found is not None:
                    self._look_at[key] = self._clock.monotonic() + LOOK_S
            await self._clock.sleep(WAIT_S)

    def lock(self, home: HostLink, pool: str, name: str) -> threading.Lock:
        """Who has it brings that image there, or deletes it."""
        return self._under_way.setdefault(_key(home, pool, name), threading.Lock())


def _key(home: HostLink, pool: str, name: str) -> tuple[str, str, str]:
    """What one lock is for. Pools that hosts share have one name at all of them; two that are
    not the same wait for each other, which only takes longer."""
    return ("" if home.shares(home, pool) else home.host.id, pool, name)


def bring(
    connection: Any, volumes: Volumes, host: str, place: Place, name: str, file: Path, mark: str,
    beside: str,
) -> bool:  # fmt: skip
    """Blocking, for as long as the copy takes. `beside`: the empty file that says who brought it,
    so that he deletes it one day. Whether the image is there now, or the pool is one
    of what are no files; False: somebody else brings it."""
    with telling(host, f"find its storage pool {place.pool}"):
        pool = connection.storagePoolLookupByName(place.pool)
        kind = POOL_KINDS.get(xml.parse(pool.XMLDesc(0)).get("type", ""))
    if kind is None or kind.disks is not Disks.FILES:
        return True
    with contextlib.suppress(EngineError):  # its file may have been removed meanwhile
        volume = volumes.find(name)
        if volume is not None and _format(volume, host) == FORMAT:
            return True
    volumes.refresh()  # the daemon remembers what the file was when it looked last
    volume = volumes.find(name)
    if volume is not None:
        if _format(volume, host) == FORMAT:
            return True
        if is_coming(connection, host, place, volume, mark):
            return False
        _log.info("half of %s is removed at %s", name, host)
        volumes.delete(name)
    volume = _begun(pool, volumes, host, name)
    if volume is None:
        return False
    _log.info("%s is brought to %s", name, host)
    try:
        with telling(host, f"take the image {name}"):
            if volumes.find(beside) is None:
                pool.createXML(xml.volume(beside, 1, form="raw"))
            whole = _upload(connection, volume, file)
    except OSError as error:  # the image was removed at this moment
        _drop(volumes, host, name)
        raise EngineError(f"{name} cannot be read any more: {error.strerror}") from error
    except EngineError:
        _drop(volumes, host, name)
        raise
    if whole:
        volumes.refresh()
        _log.info("%s is at %s", name, host)
    return whole


def is_coming(connection: Any, host: str, place: Place, volume: Any, mark: str) -> bool:
    """Whether somebody wrote to it within STILL_S. What does not tell is left alone."""
    with telling(host, "describe an image"):
        written = xml.parse(volume.XMLDesc(0)).findtext("target/timestamps/mtime")
    now = clock_of(connection, host, place, mark)
    return written is None or now is None or now < (float(written) + STILL_S) * 1000


def _begun(pool: Any, volumes: Volumes, host: str, name: str) -> Any:
    """An empty file, which is nobody else's; None: somebody else has just made one."""
    try:
        return pool.createXML(xml.volume(name, 0, form="raw"))
    except libvirt.libvirtError:
        volumes.refresh()
        if volumes.find(name) is not None:
            return None
        with telling(host, f"take the image {name}"):
            raise


def _upload(connection: Any, volume: Any, file: Path) -> bool:
    """Whether the volume has the whole file now; False: it became somebody else's meanwhile."""
    with file.open("rb") as content:
        length = os.fstat(content.fileno()).st_size
        head = min(HEAD_BYTES, length)
        if length > head:
            _write(connection, volume, content, head, length - head)
            if int(volume.info()[1]) != length:
                return False
        _write(connection, volume, content, 0, head)
    return True


def _drop(volumes: Volumes, host: str, name: str) -> None:
    """What broke off goes at once where the host still answers: it takes room, and the next
    attempt would wait until it counts as left behind."""
    with contextlib.suppress(EngineError):
        volumes.refresh()
        volume = volumes.find(name)
        if volume is not None and _format(volume, host) != FORMAT:
            volumes.delete(name)


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
