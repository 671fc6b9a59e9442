"""Images that were uploaded to the broker are brought to the hosts that need them, whole."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt
import pytest

from broker.config import IMAGES_FOLDER
from broker.domain.errors import EngineError
from broker.domain.model import Image
from broker.engines.libvirt import golden_images
from broker.engines.libvirt.golden_images import HEAD_BYTES, STILL_S, bring
from broker.engines.libvirt.knobs import Place, parse_profile
from broker.engines.libvirt.storage import Volumes
from broker.ports import Operation
from tests.support.builders import NOW
from tests.support.engines import listening
from tests.support.libvirt_bench import Bench
from tests.support.libvirt_cases import libvirt_engine, libvirt_qemu_case
from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import IMAGE, LibvirtLab, connected

SENT = Image(id="img_2", name="sent", version=7, size_bytes=1, boot_bytes=1, created_at=NOW)
NAME = "sent-v7.qcow2"
MARK = f"trivium-0123abcd-{NAME}.mark"


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


async def test_hosts_that_share_their_storage_bring_an_image_once(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[tuple[object, ...]] = []
    written = golden_images._write

    def slowly(*words: object) -> None:
        pieces.append(words)
        time.sleep(1.0)
        written(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(golden_images, "_write", slowly)
    second = replace(operation(bench, "job_2", 2), host=bench.case.other)
    await asyncio.gather(
        bench.engine.create(operation(bench, "job_1", 1)), bench.engine.create(second)
    )
    assert len(pieces) == 2, "once behind its head, and its head"
    there = bench.lab.first.guests / NAME
    assert there.read_bytes() == (tmp_path / IMAGES_FOLDER / NAME).read_bytes()


# ------------------------------------------------------------------ two brokers, one file


@dataclass(frozen=True, slots=True)
class At:
    """One of two hosts that have the same storage, each of another broker."""

    connection: Any
    host: LibvirtHost
    lab: LibvirtLab

    @property
    def place(self) -> Place:
        return parse_profile(self.lab.profile(self.host))

    @property
    def volumes(self) -> Volumes:
        return Volumes(self.connection, "server-1", self.place)

    def bring(self, file: Path) -> bool:
        return bring(
            self.connection, self.volumes, "server-1", self.place, NAME, file, secrets.token_hex(4),
            MARK,
        )  # fmt: skip


@pytest.fixture
def two(libvirt_lab: LibvirtLab) -> Iterator[tuple[At, At]]:
    first, second = libvirt_lab.first, libvirt_lab.second
    with connected(first) as one, connected(second) as other:
        yield At(one, first, libvirt_lab), At(other, second, libvirt_lab)


@pytest.fixture
def file(libvirt_lab: LibvirtLab, tmp_path: Path) -> Path:
    found = tmp_path / NAME
    shutil.copy(libvirt_lab.first.guests / f"{IMAGE}-v1.qcow2", found)
    assert found.stat().st_size > HEAD_BYTES
    return found


def half(lab: LibvirtLab, age_s: float) -> Path:
    """Part of an image, without its head, that was written to so long ago."""
    there = lab.first.guests / NAME
    there.write_bytes(bytes(HEAD_BYTES) + b"x" * HEAD_BYTES)
    os.utime(there, (time.time() - age_s,) * 2)
    return there


def test_half_an_image_that_was_left_behind_is_brought_anew(two: tuple[At, At], file: Path) -> None:
    at, _ = two
    there = half(at.lab, STILL_S + 5)
    assert at.bring(file)
    assert there.read_bytes() == file.read_bytes()
    assert sorted(one.name for one in there.parent.glob("trivium-check-*")) == []


def test_half_an_image_that_somebody_else_still_writes_is_waited_for(
    two: tuple[At, At], file: Path
) -> None:
    at, _ = two
    there = half(at.lab, STILL_S / 2)
    before = there.read_bytes()
    assert not at.bring(file)
    assert there.read_bytes() == before


def test_an_image_on_its_way_from_another_host_is_left_alone_then_and_afterwards(
    two: tuple[At, At], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other daemon saw it without its head, and remembers that."""
    at, other = two
    written, inodes = golden_images._write, []

    def watched(*words: Any) -> None:
        if words[3] == 0:
            monkeypatch.setattr(golden_images, "_write", written)
            assert not other.bring(file)
            inodes.append((at.lab.first.guests / NAME).stat().st_ino)
        written(*words)

    monkeypatch.setattr(golden_images, "_write", watched)
    assert at.bring(file)
    assert other.bring(file)
    there = at.lab.first.guests / NAME
    assert [there.stat().st_ino] == inodes
    assert there.read_bytes() == file.read_bytes()
    seen = other.connection.storagePoolLookupByName("trivium").storageVolLookupByName(NAME)
    assert "<format type='qcow2'/>" in seen.XMLDesc()


def test_who_was_taken_for_gone_puts_no_head_on_what_another_began(
    two: tuple[At, At], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, _ = two
    there = at.lab.first.guests / NAME
    written = golden_images._write

    def taken_over(*words: Any) -> None:
        written(*words)
        if words[3] != 0:
            there.unlink()
            half(at.lab, 0)

    monkeypatch.setattr(golden_images, "_write", taken_over)
    assert not at.bring(file)
    assert there.read_bytes()[:HEAD_BYTES] == bytes(HEAD_BYTES)


def test_of_two_who_begin_at_once_one_is_second_and_harms_nothing(two: tuple[At, At]) -> None:
    at, other = two
    pool = other.connection.storagePoolLookupByName("trivium")
    there = half(at.lab, 0)
    before = there.read_bytes()
    assert golden_images._begun(pool, other.volumes, "server-2", NAME) is None
    assert there.read_bytes() == before


def test_what_broke_off_is_removed_where_the_host_still_answers(
    two: tuple[At, At], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, _ = two
    written = golden_images._write

    def breaks_off(*words: Any) -> None:
        if words[3] == 0:
            raise libvirt.libvirtError("no room")
        written(*words)

    monkeypatch.setattr(golden_images, "_write", breaks_off)
    with pytest.raises(EngineError):
        at.bring(file)
    assert not (at.lab.first.guests / NAME).exists()
    monkeypatch.undo()
    assert at.bring(file)
