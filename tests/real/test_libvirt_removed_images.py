"""A version of an uploaded image is removed: its copy and its golden desktop leave the host, once
no desktop stands on them, and desktops of other versions go on."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.config import IMAGES_FOLDER
from broker.domain.model import Desktop, Image
from broker.engines.libvirt.tags import image_mark, owner_mark
from broker.ports import ImageKeeper, Operation
from tests.support.builders import NOW
from tests.support.engines import listening
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench
from tests.support.libvirt_cases import INSTALLATION, libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_lab import IMAGE, LibvirtLab

OLD = Image(id="img_7", name="sent", version=7, size_bytes=1, boot_bytes=1, created_at=NOW)
NEW = replace(OLD, id="img_8", version=8)
DEADLINE_S = 60.0


@pytest.fixture
async def bench(libvirt_lab: LibvirtLab, tmp_path: Path) -> AsyncIterator[Bench]:
    """With the lab's golden image, as if it had been uploaded as two versions of another."""
    folder, guests = tmp_path / IMAGES_FOLDER, libvirt_lab.first.guests
    folder.mkdir()
    for version in (7, 8):
        shutil.copy(guests / f"{IMAGE}-v1.qcow2", folder / f"sent-v{version}.qcow2")
        for suffix in (".kernel", ".initrd"):
            if (guests / f"{IMAGE}-v1{suffix}").exists():
                shutil.copy(guests / f"{IMAGE}-v1{suffix}", guests / f"sent-v{version}{suffix}")
    engine = libvirt_engine(tmp_path)
    async with listening(engine) as heard:
        yield Bench(libvirt_lab, libvirt_qemu_case(libvirt_lab, clone="instant"), engine, heard)


def operation(bench: Bench, job: str, desktop: Desktop, image: Image) -> Operation:
    return replace(bench.case.operation(job, desktop), image=image)


def there(bench: Bench, image: Image) -> set[str]:
    """Files that the broker put on the host for that version: what they are of."""
    stem, own = f"sent-v{image.version}", image_mark(image, owner_mark(INSTALLATION))
    kinds = {f"{stem}.qcow2": "copy", own: "mark"}
    found: set[str] = set()
    for path in bench.lab.first.guests.iterdir():
        if path.name.startswith(f"{stem}-golden-"):
            found.add(f"golden {path.suffix}")
        elif path.name in kinds:
            found.add(kinds[path.name])
    return found


WHOLE = {"copy", "mark", "golden .qcow2", "golden .save"}


async def clear(bench: Bench) -> tuple[str, ...]:
    assert isinstance(bench.engine, ImageKeeper)
    return await bench.engine.clear_images(bench.case.host, (OLD,), DEADLINE_S)


async def test_a_removed_version_leaves_the_host_when_its_last_desktop_does(bench: Bench) -> None:
    old, new = bench.desktop(1), bench.desktop(2)
    for desktop, image in ((old, OLD), (new, NEW)):
        await bench.engine.create(operation(bench, f"job_{desktop.id}", desktop, image))
        await bench.ready(desktop)
        await bench.tell(desktop, f"mine-{image.version}")
    assert there(bench, OLD) == there(bench, NEW) == WHOLE

    # one clone of it lives, suspended: only the memory that nobody wakes from goes
    await bench.engine.suspend(operation(bench, "job_3", old, OLD))
    deleted = await clear(bench)
    assert [one.rpartition(".")[2] for one in deleted] == ["save"]
    assert there(bench, OLD) == WHOLE - {"golden .save"}
    await bench.engine.resume(operation(bench, "job_4", old, OLD))
    await bench.ready(old)
    await eventually(lambda: bench.kept(old) == "mine-7")
    assert await clear(bench) == ()
    assert there(bench, OLD) == WHOLE - {"golden .save"}

    await bench.engine.destroy(operation(bench, "job_5", old, OLD))
    assert len(await clear(bench)) == 3
    assert there(bench, OLD) == set()
    assert await clear(bench) == ()

    # the other version's is whole, and its desktop reads on from it
    assert there(bench, NEW) == WHOLE
    await bench.engine.suspend(operation(bench, "job_6", new, NEW))
    await bench.engine.resume(operation(bench, "job_7", new, NEW))
    await bench.ready(new)
    await eventually(lambda: bench.kept(new) == "mine-8")
    await bench.engine.create(operation(bench, "job_8", bench.desktop(3), NEW))
    await bench.ready(bench.desktop(3))


async def test_what_an_administrator_brought_stays(bench: Bench) -> None:
    guests = bench.lab.first.guests
    desktop = bench.desktop(1)
    shutil.copy(guests / f"{IMAGE}-v1.qcow2", guests / "sent-v7.qcow2")
    await bench.engine.create(operation(bench, "job_1", desktop, OLD))
    await bench.ready(desktop)
    await bench.engine.destroy(operation(bench, "job_2", desktop, OLD))
    await clear(bench)
    assert there(bench, OLD) == {"copy"}
