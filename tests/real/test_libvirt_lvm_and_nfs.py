"""Classes of storage on a real kernel: a volume group of LVM, and an NFS server that goes away.

The machine is the tests' own (tests/support/storage_machine.py); the engine reaches its daemon as
it does any host's.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import libvirt
import pytest

from broker.config import IMAGES_FOLDER
from broker.domain.errors import EngineError
from broker.domain.inspection import Verdict
from broker.domain.model import Desktop, Resources
from broker.domain.storage import OWN, StorageClass
from broker.engines.libvirt import LibvirtEngine, hosts, pools, xml
from broker.engines.libvirt.events import run_events
from broker.ports import Operation
from tests.support.builders import make_desktop, make_host
from tests.support.engines import IMAGE, listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_cases import libvirt_engine
from tests.support.libvirt_lab import remove
from tests.support.storage_machine import EXPORT_MIB, GROUP, GROUP_MIB, StorageMachine

MIB: Final = 1 << 20
GOLDEN_MIB: Final = 16
GOLDEN: Final = f"{IMAGE.name}-v{IMAGE.version}"
CLASSES: Final = "lvm:lvm,nas:nas"
POOLS: Final = {
    "trivium": "<pool type='dir'><name>trivium</name><target><path>/var/lib/desktops</path>"
    "</target></pool>",
    "lvm": f"<pool type='logical'><name>lvm</name><source><name>{GROUP}</name>"
    f"<format type='lvm2'/></source><target><path>/dev/{GROUP}</path></target></pool>",
    "nas": "<pool type='netfs'><name>nas</name><source><host name='127.0.0.1'/><dir path='/'/>"
    "<format type='nfs'/></source><target><path>/mnt</path></target></pool>",
}  # fmt: skip
SMALL: Final = Resources(cpus=1, memory_mib=128)


@dataclass(frozen=True, slots=True)
class Lab:
    machine: StorageMachine
    connection: Any

    def volumes(self, pool: str) -> set[str]:
        return set(self.connection.storagePoolLookupByName(pool).listVolumes())

    def clear(self) -> None:
        """No machine, and no disk but the golden one."""
        for domain in self.connection.listAllDomains(0):
            remove(domain)
        for name in POOLS:
            pool = self.connection.storagePoolLookupByName(name)
            pool.refresh()
            for volume in pool.listAllVolumes():
                if not volume.name().startswith(GOLDEN):
                    volume.delete()


@pytest.fixture(scope="module")
def started(storage_machine: StorageMachine) -> Iterator[Lab]:
    """Its pools, and the golden volume that an administrator puts into the volume group."""
    run_events()
    connection = libvirt.open(storage_machine.uri)
    for text in POOLS.values():
        connection.storagePoolDefineXML(text).create()
    lvm = connection.storagePoolLookupByName("lvm")
    lvm.createXML(xml.volume(f"{GOLDEN}.raw", GOLDEN_MIB * MIB, form="raw", whole=True))
    # the first half is text, the second is nothing
    storage_machine.run(f"yes golden | dd of={at(GOLDEN)} bs=1M count=8 iflag=fullblock")
    try:
        yield Lab(storage_machine, connection)
    finally:
        connection.close()


@pytest.fixture
def lab(started: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(hosts, "STORAGE_LOOK_S", 3.0)
    started.clear()
    return started


@pytest.fixture
def uploaded(tmp_path: Path) -> Path:
    """A broker's data directory with the image in it."""
    folder = tmp_path / IMAGES_FOLDER
    folder.mkdir()
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", folder / f"{GOLDEN}.qcow2", "16M"],
        check=True, timeout=60,
    )  # fmt: skip
    return tmp_path


@dataclass(slots=True)
class Bench:
    lab: Lab
    engine: LibvirtEngine
    profile: str
    heard: list[Any]

    def job(self, name: str, desktop: Desktop, storage: str, deadline_s: float = 90) -> Operation:
        host = make_host(engine="libvirt", profile=self.profile)
        return Operation(
            id=name, desktop=desktop, host=host, image=IMAGE, deadline_s=deadline_s,
            storage=storage,
        )  # fmt: skip

    def told(self, storage: str) -> StorageClass:
        host = make_host(engine="libvirt", profile=self.profile)
        return self.engine.storage_classes(host)[storage]

    async def free(self, storage: str, mib: float) -> None:
        """Until the broker sees that much room."""
        await eventually(lambda: (self.told(storage).available or -1) / MIB == mib, within_s=60)

    async def ready(self, desktop: Desktop) -> None:
        wanted = (desktop.id, desktop.generation, True)
        await eventually(lambda: wanted in said(self.heard), within_s=90)


@contextlib.asynccontextmanager
async def on_bench(lab: Lab, data: Path | None = None, **knobs: str) -> AsyncIterator[Bench]:
    engine = libvirt_engine(data)
    profile = lab.machine.profile(classes=CLASSES, **knobs)
    async with listening(engine) as heard:
        bench = Bench(lab, engine, profile, heard)
        host = make_host(engine="libvirt", profile=profile)
        engine.features(host)
        await eventually(lambda: engine.storage_classes(host)["lvm"].capacity, within_s=90)
        yield bench


def desktop(number: int = 1, generation: int = 1) -> Desktop:
    return make_desktop(
        id=f"dsk_{number}", name=f"library-{number:03}", generation=generation, resources=SMALL
    )


def at(volume: str) -> str:
    """The device of a volume of LVM's."""
    return f"/dev/{GROUP}/{volume}.raw"


async def test_each_class_is_told_with_its_kind_its_size_and_its_room(lab: Lab) -> None:
    async with on_bench(lab) as bench:
        # a slow host's pool counts as silent until it has answered
        await eventually(lambda: bench.told("lvm").kind and bench.told("nas").kind)
        lvm, nas = bench.told("lvm"), bench.told("nas")
        assert (lvm.kind, lvm.cost, lvm.whole, lvm.shared) == ("logical", 2.0, True, "")
        # LVM keeps one extent of 4 MiB for itself
        assert lvm.capacity == (GROUP_MIB - 4) * MIB
        assert lvm.available == lvm.capacity - GOLDEN_MIB * MIB
        assert (nas.kind, nas.cost, nas.whole) == ("netfs", 2.0, False)
        assert nas.shared == "netfs 127.0.0.1:/, as nas"
        assert nas.capacity == EXPORT_MIB * MIB
        assert lvm.refusal() is None
        assert nas.refusal() is None
        host = make_host(engine="libvirt", profile=bench.profile)
        can = {one.name: one.says for one in (await bench.engine.abilities(host)).can}
        assert "an LVM volume group" in can["storage_lvm"]
        assert "a network file system" in can["storage_nas"]
        steps = {one.name: one async for one in bench.engine.probe(host)}
        assert "an LVM volume group" in steps["storage"].says
        assert steps["storage"].verdict is Verdict.OK


async def test_on_lvm_a_desktop_is_a_snapshot_that_can_be_written_to_the_end(lab: Lab) -> None:
    run = lab.machine.run
    async with on_bench(lab) as bench:
        free = GROUP_MIB - 4 - GOLDEN_MIB
        await bench.engine.create(bench.job("job_1", desktop(), "lvm"))
        await bench.ready(desktop())
        assert run(f"lvs --noheadings -o origin {GROUP}/dsk_1-g1.raw") == f"{GOLDEN}.raw"
        run(f"cmp {at(GOLDEN)} {at('dsk_1-g1')}")
        # all of it anew: a snapshot that is full is lost, with all that was written
        run(
            f"yes mine | dd of={at('dsk_1-g1')} bs=1M count={GOLDEN_MIB} iflag=fullblock conv=fsync"
        )
        assert run(f"dd if={at('dsk_1-g1')} bs=1M skip=15 | head -c 4").endswith("mine")
        await bench.free("lvm", free - GOLDEN_MIB - 4)
        fresh = desktop(generation=2)
        await bench.engine.reset(bench.job("job_2", fresh, "lvm"))
        await bench.ready(fresh)
        assert lab.volumes("lvm") == {f"{GOLDEN}.raw", "dsk_1-g2.raw"}
        run(f"cmp {at(GOLDEN)} {at('dsk_1-g2')}")
        await bench.engine.destroy(bench.job("job_3", fresh, OWN))
        assert await bench.engine.machines() == ()
        assert lab.volumes("lvm") == {f"{GOLDEN}.raw"}
        assert run(f"lvs --noheadings -o name {GROUP}") == f"{GOLDEN}.raw"
        await bench.free("lvm", free)


async def test_on_lvm_a_copy_has_nothing_of_what_lay_there_before(lab: Lab) -> None:
    run = lab.machine.run
    run(
        f"lvcreate -q -y -n last -l 100%FREE {GROUP}; "
        f"yes secret | dd of=/dev/{GROUP}/last bs=4M conv=fsync; lvremove -q -y {GROUP}/last"
    )
    async with on_bench(lab, clone="full") as bench:
        await bench.engine.create(bench.job("job_1", desktop(), "lvm"))
        await bench.ready(desktop())
        assert run(f"lvs --noheadings -o origin {GROUP}/dsk_1-g1.raw") == ""
        run(f"cmp {at(GOLDEN)} {at('dsk_1-g1')}")
        await bench.engine.destroy(bench.job("job_2", desktop(), "lvm"))
        assert lab.volumes("lvm") == {f"{GOLDEN}.raw"}


async def test_a_full_volume_group_says_so_and_leaves_nothing(lab: Lab) -> None:
    async with on_bench(lab) as bench:
        lab.machine.run(f"lvcreate -q -y -Wn -n fill -L 104M {GROUP}")
        with pytest.raises(EngineError, match=r"lvm has 4\.0 MiB free of the 17\.1 MiB that dsk_1"):
            await bench.engine.create(bench.job("job_1", desktop(), "lvm"))
        assert await bench.engine.machines() == ()
        assert {one for one in lab.volumes("lvm") if one.startswith("dsk_")} == set()
        await eventually(lambda: bench.told("lvm").refusal() == "it is 97% full (limit 95%)")
        assert bench.told("nas").refusal() is None
        lab.machine.run(f"lvremove -q -y {GROUP}/fill")
        await eventually(lambda: bench.told("lvm").refusal() is None)


async def test_on_nfs_an_uploaded_image_is_brought_and_cloned(lab: Lab, uploaded: Path) -> None:
    run = lab.machine.run
    run(f"rm -f /export/{GOLDEN}.qcow2")
    async with on_bench(lab, uploaded) as bench:
        await bench.engine.create(bench.job("job_1", desktop(), "nas"))
        await bench.ready(desktop())
        sent = (uploaded / IMAGES_FOLDER / f"{GOLDEN}.qcow2").stat().st_size
        assert run(f"stat -c %s /export/{GOLDEN}.qcow2") == str(sent)
        backing = run("qemu-img info -U /export/dsk_1-g1.qcow2")
        assert f"backing file: /mnt/{GOLDEN}.qcow2" in backing
        disk, golden, mark = run("ls /export").splitlines()
        assert (disk, golden) == ("dsk_1-g1.qcow2", f"{GOLDEN}.qcow2")
        assert mark.endswith(f"-{GOLDEN}.qcow2.mark"), "who brought it"
        await bench.engine.destroy(bench.job("job_2", desktop(), OWN))
        assert run("ls /export").splitlines() == [golden, mark]
        # somebody tidies up, and libvirt does not know
        run(f"rm /export/{GOLDEN}.qcow2")
        await bench.engine.create(bench.job("job_3", desktop(), "nas"))
        assert run(f"stat -c %s /export/{GOLDEN}.qcow2") == str(sent)
        await bench.engine.destroy(bench.job("job_4", desktop(), OWN))


async def test_a_file_server_that_is_away_stops_its_own_class_only(
    lab: Lab, uploaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "STORAGE_LOOK_S", 6.0)
    monkeypatch.setattr(pools, "STORAGE_ANSWER_S", 8.0)
    monkeypatch.setattr(pools, "STORAGE_GLANCE_S", 8.0)
    async with on_bench(lab, uploaded) as bench:
        there, more, other = desktop(1), desktop(2), desktop(3)
        await bench.engine.create(bench.job("job_1", there, "nas"))
        await bench.ready(there)
        lab.machine.run("rpc.nfsd 0")
        try:
            silent = "the storage pool nas does not answer"
            await eventually(lambda: bench.told("nas").refusal() == silent)
            for verb, one in ((bench.engine.create, more), (bench.engine.destroy, there)):
                with pytest.raises(EngineError, match="its storage pool nas does not answer"):
                    await verb(bench.job(f"job_9{one.id}", one, "nas"))
            host = make_host(engine="libvirt", profile=bench.profile)
            shown = {one.name: one for one in (await bench.engine.condition(host)).storage}
            assert shown["nas"].refusal() == silent
            await goes_on(bench, other)
            # a broker that starts meanwhile reaches the host, too
            async with on_bench(lab, uploaded) as restarted:
                assert restarted.told("nas").refusal() == silent
                [machine] = await restarted.engine.machines()
                assert (machine.desktop_id, machine.running) == (there.id, True)
        finally:
            lab.machine.run("rpc.nfsd -N 3 -V 4 1; echo Y >/proc/fs/nfsd/v4_end_grace")
        await eventually(lambda: bench.told("nas").refusal() is None, within_s=90)
        await bench.engine.destroy(bench.job("job_8", there, "nas"))
        assert await bench.engine.machines() == ()
        left = lab.machine.run("ls /export").splitlines()
        assert [name for name in left if not name.endswith(".mark")] == [f"{GOLDEN}.qcow2"]


async def goes_on(bench: Bench, one: Desktop) -> None:
    """A desktop of the other class is made and removed. Where the machine is so slow that LVM does
    not answer in time, it is asked again, as the broker does."""
    for verb, name in ((bench.engine.create, "make"), (bench.engine.destroy, "take")):
        async with asyncio.timeout(100):
            while True:
                await eventually(lambda: bench.told("lvm").refusal() is None, within_s=90)
                with contextlib.suppress(EngineError):
                    await verb(bench.job(f"job_{name}", one, "lvm"))
                    break
