"""Images that were uploaded to the broker are brought to the hosts that need them, whole."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from broker.config import IMAGES_FOLDER
from broker.domain.errors import EngineError
from broker.domain.model import Image
from broker.engines.libvirt import golden_images
from broker.engines.libvirt.golden_images import HEAD_BYTES, bring
from broker.ports import Operation
from tests.support.builders import NOW
from tests.support.engines import listening
from tests.support.libvirt_bench import Bench
from tests.support.libvirt_cases import libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_lab import IMAGE, LibvirtLab, connected

SENT = Image(id="img_2", name="sent", version=7, size_bytes=1, boot_bytes=1, created_at=NOW)
NAME = "sent-v7.qcow2"


@pytest.fixture
async def bench(libvirt_lab: LibvirtLab, tmp_path: Path) -> AsyncIterator[Bench]:
    """With the lab's golden image, as if it had been uploaded under another name."""
    folder = tmp_path / IMAGES_FOLDER
    folder.mkdir()
    shutil.copy(libvirt_lab.first.guests / f"{IMAGE}-v1.qcow2", folder / NAME)
    for suffix in (".kernel", ".initrd"):
        beside = libvirt_lab.first.guests / f"{IMAGE}-v1{suffix}"
        if beside.exists():
            shutil.copy(beside, libvirt_lab.first.guests / f"sent-v7{suffix}")
    engine = libvirt_engine(tmp_path)
    async with listening(engine) as heard:
        yield Bench(libvirt_lab, libvirt_qemu_case(libvirt_lab), engine, heard)


def operation(bench: Bench, job: str, number: int) -> Operation:
    desktop = bench.desktop(number)
    return replace(bench.case.operation(job, desktop), image=SENT)


async def test_desktops_of_an_uploaded_image_are_made_where_it_was_not(
    bench: Bench, tmp_path: Path
) -> None:
    there = bench.lab.first.guests / NAME
    assert not there.exists()
    await asyncio.gather(
        bench.engine.create(operation(bench, "job_1", 1)),
        bench.engine.create(operation(bench, "job_2", 2)),
    )
    await bench.ready(bench.desktop(1))
    uploaded = tmp_path / IMAGES_FOLDER / NAME
    assert there.read_bytes() == uploaded.read_bytes()
    before = there.stat().st_mtime_ns
    await bench.engine.create(operation(bench, "job_3", 3))
    assert there.stat().st_mtime_ns == before


def test_half_an_image_is_none_and_is_brought_anew(
    libvirt_lab: LibvirtLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / NAME
    shutil.copy(libvirt_lab.first.guests / f"{IMAGE}-v1.qcow2", file)
    assert file.stat().st_size > HEAD_BYTES
    there = libvirt_lab.first.guests / NAME
    written = golden_images._write

    def breaks_off(*words: object) -> None:
        if words[3] == 0:
            raise libvirt.libvirtError("the connection broke")
        written(*words)  # type: ignore[arg-type]

    with connected(libvirt_lab.first) as connection:
        monkeypatch.setattr(golden_images, "_write", breaks_off)
        with pytest.raises(EngineError):
            bring(connection, "server-1", "trivium", NAME, file)
        assert there.exists()
        pool = connection.storagePoolLookupByName("trivium")
        pool.refresh()
        assert "<format type='qcow2'/>" not in pool.storageVolLookupByName(NAME).XMLDesc()
        monkeypatch.undo()
        bring(connection, "server-1", "trivium", NAME, file)
        assert "<format type='qcow2'/>" in pool.storageVolLookupByName(NAME).XMLDesc()
    assert there.read_bytes() == file.read_bytes()
