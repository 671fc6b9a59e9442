"""What removed versions of golden images left in a host's storage pool is deleted. Blocking.

Copies that the broker brought carry a mark beside them, and golden desktops in their names; what
carries none, an administrator brought, and it stays. A file that anything stands on stays, too: the
pool's other volumes say by their headers what they are overlays on, and machines by their
descriptions what they have open. Where one of them does not say, nothing is deleted.

Nobody makes desktops of a removed version any more, so nothing begins to stand on its files while
they are looked at; whoever asks waits until those are done that began before.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree as ET

import libvirt

from broker.domain.errors import EngineError
from broker.domain.model import Image
from broker.domain.storage import OWN
from broker.engines.libvirt import xml
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.golden_images import FORMAT, GoldenImages, is_coming
from broker.engines.libvirt.hosts import HostLink
from broker.engines.libvirt.instant import GOLDEN_MARK, machine_of
from broker.engines.libvirt.machines import Machines
from broker.engines.libvirt.storage import Volumes
from broker.engines.libvirt.tags import image_mark, image_volume, machine_uuid, owner_mark
from broker.engines.libvirt.turns import Turn
from broker.limits import IMAGES_CLEARED_MAX

_log = logging.getLogger("trivium.libvirt")

_DISKS: Final = "devices/disk"
_NAMES: Final = ("volume", "file", "dev", "name")
"""attributes of a disk's source that may name its file"""
_GOLDEN_FILE: Final = re.compile(r"[0-9a-f]{12}(-[\w-]+)?\.(qcow2|save)")
"""behind the stem: which machine it is, and which boot"""
_DESKTOPS: Final = re.compile(r".+-g[0-9]+\.qcow2")


@dataclass(slots=True)
class Uses:
    """What the files of a pool are used for. `overlays`: file -> those that stand on it; `open`:
    files that machines have in their descriptions, with all that these stand on."""

    overlays: dict[str, set[str]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def free(self, name: str) -> bool:
        return not self.overlays.get(name) and name not in self.open

    def deleted(self, name: str) -> None:
        """It stands on nothing any more."""
        for standing in self.overlays.values():
            standing.discard(name)


def uses(connection: Any, host: str, volumes: Volumes) -> Uses:
    """As the host says it at this moment. Raises EngineError where it cannot tell of all."""
    volumes.refresh()
    found = Uses()
    layers = volumes.layers()
    for name, (form, backing) in layers.items():
        if form != FORMAT and _DESKTOPS.fullmatch(name):
            raise EngineError(f"{host} cannot read what {name} stands on")
        if backing:
            found.overlays.setdefault(backing, set()).add(name)
    for described in _machines(connection, host):
        for source in described.iterfind(f"{_DISKS}//source"):
            names = {value.rpartition("/")[2] for key in _NAMES if (value := source.get(key))}
            found.open |= names
            unseen = source.get("pool") == volumes.pool and not names & layers.keys()
            if unseen and source.get("volume"):
                text = f"{host} does not see {source.get('volume')}, which a machine has"
                raise EngineError(text)
    return found


def _machines(connection: Any, host: str) -> Iterator[ET.Element]:
    """How every machine of the host is described, whoever made it: as it is, and as it starts."""
    with telling(host, "describe its machines"):
        for domain in connection.listAllDomains(0):
            for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
                try:
                    yield xml.parse(domain.XMLDesc(flags))
                except libvirt.libvirtError as error:
                    if not is_absent(error):
                        raise


class Clearing:
    """In one class of storage of a host. `lock`: of the copy of that name, which this broker may
    be bringing; `check` raises EngineError when nobody waits any more; `mark`: for a file that
    tells the host's time."""

    def __init__(
        self, machines: Machines, storage: str, *, lock: Callable[[str], threading.Lock],
        check: Callable[[], None], mark: str,
    ) -> None:  # fmt: skip
        self._machines = machines
        self._connection = machines.connection
        self._host = machines.host
        self._place = machines.place.at(storage)
        self._volumes = machines.volumes(storage)
        self._owner = owner_mark(machines.installation_id)
        self._lock = lock
        self._check = check
        self._mark = mark
        self._done: list[str] = []

    def clear(self, removed: Sequence[Image]) -> tuple[str, ...]:
        """The names of what was deleted. Raises EngineError."""
        if not self._volumes.are_files:
            return ()
        mine = [image for image, files in self._left(removed) if files]
        if not mine:
            return ()
        for image in mine:
            self._end_boots(image)
        found = uses(self._connection, self._host, self._volumes)
        for image, files in self._left(mine):  # of the pool as it was looked at just now
            self._goldens(files, found)
            self._copy(image, files, found)
        return tuple(self._done)

    def _left(self, images: Sequence[Image]) -> list[tuple[Image, list[str]]]:
        """Which files of this installation's are there of each."""
        names = set(self._volumes.names())
        own = f"{GOLDEN_MARK}{self._owner}"
        goldens = [one for one in names if own in one]
        left: list[tuple[Image, list[str]]] = []
        for image in images:
            copy, mark = image_volume(image), image_mark(image, self._owner)
            marked = {copy, mark} & names if mark in names else set[str]()
            stem = self._stem(image)
            of_it = {one for one in goldens if _GOLDEN_FILE.fullmatch(one.removeprefix(stem))}
            left.append((image, sorted(marked | of_it)))
        return left

    def _stem(self, image: Image) -> str:
        """With which the names of its golden desktops begin."""
        return f"{image_volume(image, '')}{GOLDEN_MARK}{self._owner}"

    def _goldens(self, files: list[str], found: Uses) -> None:
        """Saved memory is of use to nobody; a disk goes when no clone stands on it."""
        for name in files:
            if GOLDEN_MARK in name and (name.endswith(".save") or found.free(name)):
                self._delete(name, found)

    def _copy(self, image: Image, files: list[str], found: Uses) -> None:
        copy, mark = image_volume(image), image_mark(image, self._owner)
        if mark not in files or not found.free(copy):
            return
        lock = self._lock(copy)
        if not lock.acquire(blocking=False):
            return  # it is on its way still
        try:
            if copy in files and not self._others(copy, mark):
                if self._is_coming(copy):
                    return
                self._delete(copy, found)
            # last: whoever is cut off before it comes back for the rest
            self._delete(mark, found)
        finally:
            lock.release()

    def _others(self, copy: str, mark: str) -> bool:
        """Whether another installation brought the same file."""
        marks = re.compile(rf"trivium-[0-9a-f]+-{re.escape(copy)}\.mark")
        return any(one != mark and marks.fullmatch(one) for one in self._volumes.names())

    def _is_coming(self, copy: str) -> bool:
        volume = self._volumes.find(copy)
        if volume is None or self._volumes.layers().get(copy, ("", ""))[0] == FORMAT:
            return False
        return is_coming(self._connection, self._host, self._place, volume, self._mark)

    def _end_boots(self, image: Image) -> None:
        """Golden desktops of it that whoever booted them has left."""
        with telling(self._host, "look for golden desktops"):
            domains = self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        for domain in domains:
            with telling(self._host, "end a golden desktop"):
                name = domain.name()
                golden = name.removeprefix(machine_of(""))
                own = str(machine_uuid(self._machines.installation_id, golden))
                if name == golden or not golden.startswith(self._stem(image)):
                    continue
                if domain.UUIDString() != own:
                    continue
                self._check()
                try:
                    domain.destroy()
                except libvirt.libvirtError as error:
                    if not is_absent(error):
                        raise

    def _delete(self, name: str, found: Uses) -> None:
        if len(self._done) >= IMAGES_CLEARED_MAX:
            return
        self._check()
        self._volumes.delete(name)
        found.deleted(name)
        self._done.append(name)
        _log.info("%s is deleted at %s: its image was removed", name, self._host)


async def clear_all(
    turn: Turn, link: HostLink, images: GoldenImages, removed: Sequence[Image], mark: str
) -> tuple[str, ...]:
    """In every storage pool of the host; one that does not answer keeps the others from nothing.
    Raises EngineError: one could not be looked through, and nothing was deleted in the others."""
    done: list[str] = []
    failed: EngineError | None = None
    for storage in (OWN, *(one.name for one in link.place.classes)):
        pool = link.place.at(storage).pool

        def clear(machines: Machines, storage: str = storage, pool: str = pool) -> tuple[str, ...]:
            def lock(name: str) -> threading.Lock:
                return images.lock(link, pool, name)

            return Clearing(machines, storage, lock=lock, check=turn.check, mark=mark).clear(
                removed
            )

        try:
            done += await turn.do(link, clear, pool=pool)
        except EngineError as error:
            failed = error
    if failed is not None and not done:
        raise failed
    return tuple(done)
