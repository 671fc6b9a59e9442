"""Classes of storage on a real host: a desktop's disk is made in its class, and goes from there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from broker.domain.errors import UnsupportedError
from broker.domain.model import Desktop
from broker.domain.storage import OWN, StorageClass
from broker.engines.libvirt import hosts, xml
from broker.ports import DriftInspector, Machine, Operation
from tests.support.eventually import eventually
from tests.support.host_storage import directory, file_system
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import IMAGE, LibvirtLab, connected

CLASSES: Final = "fast:fast:1,bulk:bulk:5,nas:nas:2:shared"
_BULK_MIB: Final = 96


@dataclass(frozen=True, slots=True)
class Stores:
    """fast, nas: folders; bulk: a file system that only the daemon sees."""

    lab: LibvirtLab
    fast: Path
    nas: Path

    def disks(self, folder: Path) -> set[str]:
        return {path.name for path in folder.glob("dsk_*")}

    def volumes(self, pool: str) -> set[str]:
        with connected(self.lab.first) as connection:
            names = connection.storagePoolLookupByName(pool).listVolumes()
        return {name for name in names if name.startswith("dsk_")}


@pytest.fixture
def stores(libvirt_lab: LibvirtLab, tmp_path: Path) -> Iterator[Stores]:
    """At the first host all three, at the second nas alone; the golden image in each."""
    fast, nas = libvirt_lab.first.root / "fast", libvirt_lab.first.root / "nas"
    golden = tmp_path / "golden"
    for folder in (fast, nas, golden):
        folder.mkdir()
        for suffix in (".qcow2", ".kernel", ".initrd"):
            shutil.copy(libvirt_lab.first.guests / f"{IMAGE}-v1{suffix}", folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(directory(libvirt_lab.first, "fast", fast))
        for host in (libvirt_lab.first, libvirt_lab.second):
            stack.enter_context(directory(host, "nas", nas))
        stack.enter_context(file_system(libvirt_lab.first, "bulk", _BULK_MIB, golden))
        stack.callback(libvirt_lab.clear)
        yield Stores(libvirt_lab, fast, nas)
    for folder in (fast, nas, libvirt_lab.first.root / "bulk"):
        shutil.rmtree(folder, ignore_errors=True)


def placed(bench: Bench, job: str, desktop: Desktop, storage: str) -> Operation:
    return replace(bench.case.operation(job, desktop), storage=storage)


async def test_a_desktop_is_made_in_its_class_made_fresh_in_another_and_goes(
    stores: Stores,
) -> None:
    async with on_bench(stores.lab, classes=CLASSES) as bench:
        assert isinstance(bench.engine, DriftInspector)
        desktop = bench.desktop()
        made = placed(bench, "job_1", desktop, "fast")
        await bench.engine.create(made)
        await bench.ready(desktop)
        assert stores.disks(stores.fast) == {"dsk_1-g1.qcow2"}
        assert await bench.engine.drift(made) == ()
        # nor is it wrong where it is when its pool names another class by now
        assert await bench.engine.drift(replace(made, storage=OWN)) == ()
        await bench.tell(desktop, "written-in-fast")
        desktop = bench.desktop(generation=2)
        await bench.engine.reset(placed(bench, "job_2", desktop, "bulk"))
        await bench.ready(desktop)
        await eventually(lambda: bench.kept(desktop) == "")
        assert stores.disks(stores.fast) == set()
        assert stores.volumes("bulk") == {"dsk_1-g2.qcow2"}
        # whatever class its pool names by then
        await bench.engine.destroy(placed(bench, "job_3", desktop, OWN))
        assert stores.volumes("bulk") == set()


async def test_an_instant_clone_has_its_golden_desktop_in_its_class(stores: Stores) -> None:
    async with on_bench(stores.lab, classes=CLASSES, clone="instant") as bench:
        desktop = bench.desktop()
        await bench.engine.create(placed(bench, "job_1", desktop, "fast"))
        await bench.ready(desktop)
        [memory] = stores.fast.glob("*-golden-*.save")
        assert memory.stat().st_size > 0
        assert stores.disks(stores.fast) == {"dsk_1-g1.qcow2"}
        await bench.engine.destroy(placed(bench, "job_2", desktop, "fast"))


async def test_how_full_a_class_is_is_told_and_a_full_one_refuses(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "STORAGE_LOOK_S", 0.2)
    async with on_bench(stores.lab, classes=CLASSES) as bench:

        def told() -> StorageClass:
            return bench.engine.storage_classes(bench.case.host)["bulk"]

        bench.engine.features(bench.case.host)
        await eventually(lambda: told().available is not None, within_s=60)
        before = told()
        assert (before.kind, before.cost, before.refusal()) == ("fs", 5.0, None)
        assert before.capacity is not None
        assert before.available is not None
        with connected(stores.lab.first) as connection:
            fill = round(before.available * 0.97)
            pool = connection.storagePoolLookupByName("bulk")
            volume = pool.createXML(xml.volume("fill.raw", fill, form="raw", whole=True))
        try:
            await eventually(lambda: told().refusal() is not None, within_s=60)
            assert "full (limit 95%)" in (told().refusal() or "")
            shown = {
                one.name: one for one in (await bench.engine.condition(bench.case.host)).storage
            }
            assert shown["bulk"].refusal() is not None
            assert (shown["nas"].refusal(), bool(shown["nas"].shared)) == (None, True)
            cannot = (await bench.engine.abilities(bench.case.host)).cannot
            assert "full" in {one.name: one.says for one in cannot}["storage_bulk"]
        finally:
            with connected(stores.lab.first) as connection:
                pool = connection.storagePoolLookupByName("bulk")
                pool.storageVolLookupByName(volume.name()).delete()


async def test_a_desktop_moves_with_its_class_where_both_hosts_have_it_and_only_there(
    stores: Stores,
) -> None:
    async with on_bench(stores.lab, classes=CLASSES) as bench:
        bench.case = replace(
            bench.case,
            other=replace(
                bench.case.other,
                profile=stores.lab.profile(stores.lab.second, classes="nas:nas:2:shared"),
            ),
        )
        movable, bound = bench.desktop(1), bench.desktop(2)
        await bench.engine.create(placed(bench, "job_1", movable, "nas"))
        await bench.engine.create(placed(bench, "job_2", bound, "fast"))
        await eventually(lambda: len(bench.heard) == 2, within_s=100)
        with pytest.raises(UnsupportedError, match="has not the disk"):
            await bench.engine.migrate(placed(bench, "job_3", bound, "fast"), bench.case.other)
        await bench.engine.migrate(placed(bench, "job_4", movable, "nas"), bench.case.other)
        assert await bench.engine.machines() == (
            Machine(desktop_id="dsk_1", generation=1, running=True, host_id="hst_2"),
            Machine(desktop_id="dsk_2", generation=1, running=True, host_id="hst_1"),
        )
        for number, one in enumerate((movable, bound)):
            await bench.engine.destroy(placed(bench, f"job_9{number}", one, OWN))
        assert stores.disks(stores.nas) == stores.disks(stores.fast) == set()
