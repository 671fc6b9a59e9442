"""Instant clones: desktops resumed from the memory of a golden one that was booted once.

For each image, number of CPUs and memory there is one golden desktop on a host: booted on an
overlay of the golden image, saved as soon as its agent says that it is ready, and never run again.
A clone has an overlay on that frozen disk, and begins with that memory, but with what its own pool
lets it take. It is told who it is, the time, and fresh entropy, as the agent's first thing.
Blocking, but for `GoldenDesktops`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID
from weakref import WeakValueDictionary
from xml.etree import ElementTree as ET

import libvirt

from broker.domain.errors import EngineError
from broker.domain.settings import EQUAL_SHARES, Limits, Share
from broker.engines.libvirt import xml
from broker.engines.libvirt.channel import GuestChannel
from broker.engines.libvirt.errors import is_absent, telling
from broker.engines.libvirt.hosts import HostLink
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.machines import Machines
from broker.engines.libvirt.saved import HEADER_BYTES, SavedHead
from broker.engines.libvirt.tags import Tags, image_volume, machine_uuid
from broker.engines.libvirt.tuning import Tuning
from broker.engines.libvirt.turns import Turn
from broker.guest_wire import FromGuest, Hello, Identify, State
from broker.limits import GOLDEN_BOOT_S
from broker.ports import Clock, Ids, Operation

GOLDEN: Final = "golden"
"""who a golden desktop is told it is"""
_OWN: Final = (
    "name", "uuid", "title", "metadata", "cputune", "memtune", "blkiotune", "memoryBacking",
)  # fmt: skip
"""of a machine's description: what its guest does not see"""
_OWN_OF_DISK: Final = ("source", "backingStore", "iotune")
_OWN_DEVICES: Final = ("graphics",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """`name`: of its disk (.qcow2), its memory (.save) and, while it boots, its machine. Each host
    has its own: what wakes a clone writes into the memory's file, and hosts may share a pool."""

    name: str
    uuid: UUID

    @classmethod
    def of(cls, machines: Machines, operation: Operation) -> Golden:
        """The one whose clone the operation wants."""
        name = golden_name(machines.host, machines.place, operation)
        return cls(name=name, uuid=machine_uuid(machines.installation_id, name))

    @property
    def disk(self) -> str:
        return f"{self.name}.qcow2"

    @property
    def memory(self) -> str:
        return f"{self.name}.save"


def golden_name(host: str, place: Place, operation: Operation) -> str:
    """The same for all desktops that can begin with one memory: the guest sees the same machine.
    What it does not see of its machine, `as_clone` brings from the clone."""
    size = operation.desktop.resources
    seen = (
        host, place.machine, place.cpu, place.accel, place.append, place.kind.displays,
        place.agent, operation.storage, math.ceil(size.cpus), size.memory_mib,
    )  # fmt: skip
    mark = hashlib.sha256("/".join(map(str, seen)).encode()).hexdigest()[:12]
    return f"{image_volume(operation.image, '')}-golden-{mark}"


class InstantClones:
    """Golden desktops and their clones in one class of storage, on one connection."""

    def __init__(self, machines: Machines, storage: str) -> None:
        self._machines = machines
        self._connection = machines.connection
        self._host = machines.host
        self._volumes = machines.volumes(storage)

    def is_saved(self, golden: Golden) -> bool:
        """Whether its disk and its whole memory are there."""
        if self._volumes.find(golden.disk) is None:
            return False
        try:
            self._connection.saveImageGetXMLDesc(self._volumes.path(golden.memory), 0)
        except libvirt.libvirtError:
            return False
        return True

    def is_booting(self, golden: Golden) -> bool:
        try:
            return bool(self._connection.lookupByUUIDString(str(golden.uuid)).isActive())
        except libvirt.libvirtError:
            return False

    def boot(self, golden: Golden, operation: Operation) -> str:
        """Start it anew, whatever an interrupted attempt left; answers its UUID."""
        self.remove(golden)
        disk = self._volumes.overlay(operation.image, golden.disk)
        spec = self._machines.spec(operation, disk)
        nobody = Tags(installation_id="", desktop_id=GOLDEN, generation=0, name=golden.name)
        # it is no pool's: it boots as fast as the host lets it, and holds nobody's data
        size = spec.resources
        whole = replace(size, cpus=math.ceil(size.cpus), disk_iops=0, network_mbit=0)
        spec = replace(
            spec, name=f"trivium-{golden.name}", uuid=golden.uuid, tags=nobody, resources=whole,
            place=replace(spec.place, network=""), share_pages=True,
            tuning=Tuning.of(whole, Share(), EQUAL_SHARES, Limits(), None),
        )  # fmt: skip
        with telling(self._host, f"boot the golden desktop {golden.name}"):
            self._connection.createXML(xml.domain(spec), 0)
        return str(golden.uuid)

    def save(self, golden: Golden) -> None:
        with telling(self._host, f"save the golden desktop {golden.name}"):
            domain = self._connection.lookupByUUIDString(str(golden.uuid))
            path = self._volumes.path(golden.memory)
            domain.saveFlags(path, None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
        self._volumes.refresh()

    def remove(self, golden: Golden) -> None:
        with telling(self._host, f"remove the golden desktop {golden.name}"):
            try:
                self._connection.lookupByUUIDString(str(golden.uuid)).destroy()
            except libvirt.libvirtError as error:
                if not is_absent(error):
                    raise
        self._volumes.refresh()
        for name in (golden.memory, golden.disk):
            self._volumes.delete(name)

    def disk(self, golden: Golden, operation: Operation) -> xml.Disk:
        return self._volumes.make(
            operation.image, operation.desktop.id, operation.desktop.generation, golden.disk
        )

    def wake(self, golden: Golden, domain: Any) -> None:
        """Resume that machine, defined and off, from the golden memory.

        Another broker may write its own clone's description in between: then that one is
        resumed, as it would have been, and this one fails and is asked for again."""
        with telling(self._host, "wake an instant clone"):
            memory = self._volumes.find(golden.memory)
            described = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            head = SavedHead.read(self._download(memory, 0, HEADER_BYTES))
            body = self._download(memory, HEADER_BYTES, head.room)
            text = as_clone(head.description(body), xml.parse(described))
            self._upload(memory, head.with_description(body, text))
            path = self._volumes.path(golden.memory)
            self._connection.restoreFlags(path, None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
            if not domain.isActive():
                raise EngineError(f"{self._host} woke another clone first")
            # the golden desktop has no network card, so that no two clones have the same
            for card in xml.parse(described).iterfind("devices/interface"):
                for address in card.findall("address"):
                    card.remove(address)
                domain.attachDeviceFlags(xml.text_of(card), libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def _download(self, volume: Any, offset: int, length: int) -> bytes:
        stream = self._connection.newStream(0)
        volume.download(stream, offset, length, 0)
        data = b""
        while len(data) < length and (more := stream.recv(length - len(data))):
            data += more
        stream.finish()
        return data

    def _upload(self, volume: Any, data: bytes) -> None:
        stream = self._connection.newStream(0)
        volume.upload(stream, 0, len(data), 0)
        sent = 0
        while sent < len(data):
            sent += stream.send(data[sent : sent + 65536])
        stream.finish()


def as_clone(saved: str, clone: ET.Element) -> str:
    """The saved machine's description with all of the clone's that its guest does not see: who it
    is, its disk, what it may take, whether its memory is shared, how its displays are reached.

    libvirt lets these differ when it restores, too (virDomainDefCheckABIStability, in 9.0); it
    is not asked, for it takes the description at the head of the file as it is."""
    root = xml.parse(saved)
    _take_over(root, clone, _OWN)
    devices, disk, new = root.find("devices"), root.find("devices/disk"), clone.find("devices/disk")
    others = clone.find("devices")
    if devices is None or disk is None or others is None or new is None:
        raise EngineError("the golden desktop has no disk")
    _take_over(disk, new, _OWN_OF_DISK)
    _take_over(devices, others, _OWN_DEVICES)
    return xml.text_of(root)


def _take_over(root: ET.Element, clone: ET.Element, tags: tuple[str, ...]) -> None:
    for tag in tags:
        for old in root.findall(tag):
            root.remove(old)
        root.extend(clone.findall(tag))


class GoldenDesktops:
    """Has a golden desktop's memory on a host, before a clone is made of it."""

    def __init__(self, *, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._booting: dict[str, float] = {}
        """golden desktops that were not saved yet -> when each was started, seconds"""

    def lock(self, link: HostLink, operation: Operation) -> asyncio.Lock:
        """One at a time boots a golden desktop, or writes into its memory's file."""
        key = golden_name(link.host.name, link.place, operation)
        found = self._locks.get(key)
        if found is None:
            found = self._locks[key] = asyncio.Lock()
        return found

    async def ensure(self, turn: Turn, link: HostLink, operation: Operation) -> None:
        """Boot and save it, unless that was done. The caller holds the lock."""

        def look(machines: Machines) -> str:
            golden = Golden.of(machines, operation)
            clones = InstantClones(machines, operation.storage)
            if clones.is_saved(golden):
                return ""
            uuid = str(golden.uuid)
            begun = self._booting.get(uuid, float("-inf"))
            # on a slow host a boot takes longer than an attempt: the next one waits on
            if now - begun < GOLDEN_BOOT_S and clones.is_booting(golden):
                return uuid
            self._booting[uuid] = now
            return clones.boot(golden, operation)

        now = self._clock.monotonic()
        pool = link.place.at(operation.storage).pool
        uuid = await turn.do(link, look, pool=pool)
        if uuid:
            await self._settled(link, uuid)
            await turn.do(
                link,
                lambda machines: InstantClones(machines, operation.storage).save(
                    Golden.of(machines, operation)
                ),
                pool=pool,
            )
            self._booting.pop(uuid, None)

    async def _settled(self, link: HostLink, uuid: str) -> None:
        """Until its agent says that it is ready."""
        ready, ended = asyncio.Event(), asyncio.Event()
        identify = Identify(
            desktop_id=GOLDEN,
            generation=1,
            name=GOLDEN,
            time_ms=self._clock.now(),
            seed=hashlib.sha256(self._ids.secret().encode()).hexdigest(),
        )
        hello = asyncio.Event()

        def said(message: FromGuest) -> None:
            if isinstance(message, State) and message.desktop_id == GOLDEN and message.ready:
                ready.set()
            elif isinstance(message, Hello) and message.desktop_id != GOLDEN:
                hello.set()

        channel = GuestChannel(link.connection, said, ended.set)
        try:
            await channel.open(uuid, force=True)
            await channel.send(identify)
            while not ready.is_set():
                if ended.is_set():
                    raise EngineError("the golden desktop stopped")
                if hello.is_set():
                    hello.clear()
                    await channel.send(identify)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await ready.wait()
        finally:
            with contextlib.suppress(EngineError):
                await channel.close()
