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
import logging
import math
from dataclasses import dataclass, replace
from typing import Any, Final
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
from broker.engines.libvirt.machines import Found, Machines
from broker.engines.libvirt.saved import HEADER_BYTES, SavedHead, is_cut_short
from broker.engines.libvirt.tags import Tags, image_volume, machine_uuid, owner_mark
from broker.engines.libvirt.tuning import Tuning
from broker.engines.libvirt.turns import Turn
from broker.guest_wire import FromGuest, Hello, Identify, State
from broker.limits import GOLDEN_BOOT_S
from broker.ports import Clock, Ids, Operation

_log = logging.getLogger("trivium.libvirt")

GOLDEN: Final = "golden"
"""who a golden desktop is told it is"""
GOLDEN_MARK: Final = "-golden-"
"""in the names of its files, before whose it is"""
_OWN: Final = (
    "name", "uuid", "title", "metadata", "cputune", "memtune", "blkiotune", "memoryBacking",
)  # fmt: skip
"""of a machine's description: what its guest does not see"""
_CARDS: Final = "devices/interface"
_DISK: Final = ".qcow2"
_LOOK_PAUSE_S: Final = 2.0
"""between two looks at a golden desktop that another broker boots"""
_OWN_OF_DISK: Final = ("source", "backingStore", "iotune")
_OWN_DEVICES: Final = ("graphics",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """`disk`: its volume. Each boot has one of its own, whose name is never used again: clones
    stand on it for as long as they live, and one on another disk would be corrupt."""

    disk: str

    @property
    def memory(self) -> str:
        return f"{self.disk.removesuffix(_DISK)}.save"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """A golden desktop that runs, for it was not saved yet."""

    uuid: str
    golden: Golden


def golden_name(installation_id: str, host: str, place: Place, operation: Operation) -> str:
    """The same for all desktops that can begin with one memory: the guest sees the same machine.
    What it does not see of its machine, `as_clone` brings from the clone. Each host has its own:
    what wakes a clone writes into the memory's file, and hosts may share a pool.

    A golden desktop's machine is called so, while it boots; the names of its files begin so."""
    size = operation.desktop.resources
    seen = (
        host, place.machine, place.cpu, place.accel, place.append, place.kind.displays,
        place.agent, operation.storage, math.ceil(size.cpus), size.memory_mib,
    )  # fmt: skip
    mark = hashlib.sha256("/".join(map(str, seen)).encode()).hexdigest()[:12]
    stem = f"{image_volume(operation.image, '')}{GOLDEN_MARK}"
    return f"{stem}{owner_mark(installation_id)}{mark}"


class InstantClones:
    """Golden desktops and their clones in one class of storage, on one connection."""

    def __init__(self, machines: Machines, storage: str) -> None:
        self._machines = machines
        self._connection = machines.connection
        self._host = machines.host
        self._volumes = machines.volumes(storage)

    def latest(self, name: str, *, fresh: bool = False) -> Golden | None:
        """The one of that name that was saved last, whose disk and whole memory are there.
        `fresh`: look into the pool anew. Raises EngineError where that cannot be told then."""
        if fresh:
            self._volumes.refresh()
        with telling(self._host, f"read the memory of {name}"):
            try:
                return next((one for one in self._goldens(name) if self._is_whole(one)), None)
            except libvirt.libvirtError:
                # the pool lists what somebody removed behind its back
                if fresh:
                    raise
                return None

    def _goldens(self, name: str) -> list[Golden]:
        """All whose disks are there, the latest first."""
        own = (f"{name}-", f"{name}.")  # of versions before, without a mark
        names = [one for one in self._volumes.names() if one.startswith(own)]
        stems = sorted(one.removesuffix(_DISK) for one in names if one.endswith(_DISK))
        return [Golden(disk=f"{stem}{_DISK}") for stem in reversed(stems)]

    def _is_whole(self, golden: Golden) -> bool:
        """Whether its memory was saved to the end, and nobody died while writing its head."""
        memory = self._volumes.find(golden.memory)
        if memory is None:
            return False
        header = self._download(memory, 0, HEADER_BYTES)
        if is_cut_short(header):
            return False
        head = SavedHead.read(header)
        try:
            xml.parse(head.description(self._download(memory, HEADER_BYTES, head.room)))
        except EngineError:
            return False
        return True

    def booting(self, name: str) -> Boot | None:
        with telling(self._host, f"look for the golden desktop {name}"):
            try:
                domain = self._connection.lookupByName(machine_of(name))
                if not domain.isActive():
                    return None
                return Boot(uuid=domain.UUIDString(), golden=Golden(disk=_disk_of(domain)))
            except libvirt.libvirtError as error:
                if not is_absent(error):
                    raise
                return None

    def boot(self, name: str, mark: str, operation: Operation) -> Boot:
        """Start one, on a disk with that mark; or answer the one that another broker started at
        the same time: libvirt takes one machine of a name."""
        golden = Golden(disk=f"{name}-{mark}{_DISK}")
        uuid = machine_uuid(self._machines.installation_id, name)
        disk = self._volumes.overlay(operation.image, golden.disk)
        spec = self._machines.spec(operation, disk)
        nobody = Tags(installation_id="", desktop_id=GOLDEN, generation=0, name=name)
        # it is no pool's: it boots as fast as the host lets it, and holds nobody's data
        size = spec.resources
        whole = replace(size, cpus=math.ceil(size.cpus), disk_iops=0, network_mbit=0)
        spec = replace(
            spec, name=machine_of(name), uuid=uuid, tags=nobody, resources=whole,
            place=replace(spec.place, network=""), share_pages=True,
            tuning=Tuning.of(whole, Share(), EQUAL_SHARES, Limits(), None),
        )  # fmt: skip
        with telling(self._host, f"boot the golden desktop {name}"):
            try:
                self._connection.createXML(xml.domain(spec), 0)
            except libvirt.libvirtError:
                self.drop(golden)
                other = self.booting(name)
                if other is None:
                    raise
                return other
        return Boot(uuid=str(uuid), golden=golden)

    def save(self, name: str, boot: Boot) -> None:
        """It; what was left by others of that name goes."""
        with telling(self._host, f"save the golden desktop {name}"):
            domain = self._connection.lookupByUUIDString(boot.uuid)
            path = self._volumes.path(boot.golden.memory)
            domain.saveFlags(path, None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
        self._volumes.refresh()
        others = [one for one in self._goldens(name) if one != boot.golden]
        if others and self.booting(name) is None:
            for one in others:
                self.drop(one)

    def end(self, boot: Boot) -> None:
        """Switch it off."""
        with telling(self._host, "end a golden desktop"):
            try:
                self._connection.lookupByUUIDString(boot.uuid).destroy()
            except libvirt.libvirtError as error:
                if not is_absent(error):
                    raise

    def drop(self, golden: Golden) -> None:
        """Delete its memory; and its disk, unless a clone stands on it. What cannot be deleted
        stays for now."""
        try:
            self._volumes.delete(golden.memory)
            if not self._volumes.is_stood_on(golden.disk):
                self._volumes.delete(golden.disk)
        except EngineError as error:
            _log.warning("%s keeps %s for now: %s", self._host, golden.disk, error)

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
            if memory is None:
                raise EngineError(f"{self._host} has no golden desktop any more")
            described = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            head = SavedHead.read(self._download(memory, 0, HEADER_BYTES))
            body = self._download(memory, HEADER_BYTES, head.room)
            text = as_clone(head.description(body), xml.parse(described))
            self._upload(memory, head.with_description(body, text))
            path = self._volumes.path(golden.memory)
            self._connection.restoreFlags(path, None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
            if not domain.isActive():
                raise EngineError(f"{self._host} woke another clone first")
        attach_cards(self._host, domain)

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


def attach_cards(host: str, domain: Any) -> None:
    """Plug in the network cards of its description that the machine runs without: a golden desktop
    has none, so that no two clones have the same. Whoever asks again for a machine that woke asks
    for this, too: it may be what failed."""
    with telling(host, "plug in a network card"):
        described = xml.parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        there = {_mac(card) for card in xml.parse(domain.XMLDesc(0)).iterfind(_CARDS)}
        for card in described.iterfind(_CARDS):
            if _mac(card) in there:
                continue
            for address in card.findall("address"):
                card.remove(address)
            domain.attachDeviceFlags(xml.text_of(card), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def equip(machines: Machines, found: Found) -> None:
    """`attach_cards` to a machine that an attempt before may have left without."""
    with telling(machines.host, "look for a machine"):
        domain = machines.connection.lookupByUUIDString(found.uuid)
    attach_cards(machines.host, domain)


def _mac(card: ET.Element) -> str:
    mac = card.find("mac")
    return mac.get("address", "") if mac is not None else ""


def machine_of(name: str) -> str:
    """What the golden desktop's machine of that name is called."""
    return f"trivium-{name}"


def _disk_of(domain: Any) -> str:
    source = xml.parse(domain.XMLDesc(0)).find("devices/disk/source")
    if source is None:
        raise EngineError("the golden desktop has no disk")
    return source.get("volume", "")


class GoldenDesktops:
    """Has a golden desktop's memory on a host, before a clone is made of it."""

    def __init__(self, *, clock: Clock, ids: Ids, installation_id: str) -> None:
        self._installation_id = installation_id
        self._clock = clock
        self._ids = ids
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._booting: dict[str, tuple[Golden, float]] = {}
        """name -> the golden desktop that was not saved yet, and since when this process knows of
        it, seconds"""

    def lock(self, link: HostLink, operation: Operation) -> asyncio.Lock:
        """One at a time boots a golden desktop, or writes into its memory's file."""
        key = self._name(link, operation)
        found = self._locks.get(key)
        if found is None:
            found = self._locks[key] = asyncio.Lock()
        return found

    def _name(self, link: HostLink, operation: Operation) -> str:
        return golden_name(self._installation_id, link.host.name, link.place, operation)

    async def ensure(self, turn: Turn, link: HostLink, operation: Operation) -> Golden:
        """Boot and save it, unless that was done, by whichever broker. The caller holds the
        lock."""
        name = self._name(link, operation)
        pool = link.place.at(operation.storage).pool
        boots = 1

        def known(machines: Machines) -> Golden | Boot | None:
            return self.known(InstantClones(machines, operation.storage), name)

        def look(machines: Machines) -> Golden | Boot:
            nonlocal boots
            found = known(machines)
            if found is not None:
                return found
            if not boots:
                raise EngineError("the golden desktop stopped")
            boots -= 1
            return self._boot(InstantClones(machines, operation.storage), name, operation)

        while isinstance(found := await turn.do(link, look, pool=pool), Boot):
            boot = found

            def save(machines: Machines, boot: Boot = boot) -> None:
                InstantClones(machines, operation.storage).save(name, boot)

            if not await self._settled(link, boot.uuid):
                await self._clock.sleep(_LOOK_PAUSE_S)
                continue
            try:
                await turn.do(link, save, pool=pool)
            except EngineError:
                # both brokers heard that it is ready: the other saves it
                if not isinstance(await turn.do(link, known, pool=pool), Golden):
                    raise
        return found

    def known(self, clones: InstantClones, name: str) -> Golden | Boot | None:
        """The one that was saved, or the one that boots, if that is not for too long: on a slow
        host a boot takes longer than an attempt, and it may be another broker's."""
        golden, boot = clones.latest(name), None
        if golden is None:
            boot = clones.booting(name)
        if golden is None and boot is None:
            golden = clones.latest(name, fresh=True)
        if golden is not None:
            self._booting.pop(name, None)
            return golden
        if boot is None:
            return None
        now = self._clock.monotonic()
        known, since = self._booting.get(name, (None, now))
        if known != boot.golden:
            since = now
            self._booting[name] = boot.golden, now
        if now - since < GOLDEN_BOOT_S:
            return boot
        clones.end(boot)
        return None

    def _boot(self, clones: InstantClones, name: str, operation: Operation) -> Boot:
        """Anew; what this process knows of an attempt before goes."""
        before = self._booting.pop(name, None)
        if before is not None:
            clones.drop(before[0])
        boot = clones.boot(name, self._ids.new("gld"), operation)
        self._booting[name] = boot.golden, self._clock.monotonic()
        return boot

    async def _settled(self, link: HostLink, uuid: str) -> bool:
        """Wait until its agent says that it is ready. False: it stopped, or another broker hears
        it, and will save it; nobody takes its port from who has it."""
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
            try:
                await channel.open(uuid, force=False)
                await channel.send(identify)
                while not ready.is_set():
                    if ended.is_set():
                        return False
                    if hello.is_set():
                        hello.clear()
                        await channel.send(identify)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await ready.wait()
            except EngineError:
                return False
            return True
        finally:
            with contextlib.suppress(EngineError):
                await channel.close()
