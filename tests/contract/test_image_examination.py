"""Uploaded images: what qemu-img makes is taken; what would hurt is refused, saying why."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.domain.errors import BadImageError, BodyTooLargeError, UnavailableError
from broker.imaging import examine as examining
from broker.imaging import files as filing
from broker.imaging.examine import Examined, ImageFormat, QemuImgError, examine, qemu_img
from broker.imaging.files import ImageFiles
from broker.limits import IMAGE_FREE_BYTES_MIN, IMAGE_VIRTUAL_BYTES_MAX
from broker.system import SystemIds
from tests.support import disk_images as disks
from tests.support.disk_images import MIB, made
from tests.support.eventually import eventually

Hostile = Callable[[Path], Path]


def look(path: Path, format_: str = "qcow2") -> Examined:
    return asyncio.run(examine(path, ImageFormat(format_)))


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("qcow2", ""),
        ("qcow2", "compat=0.10"),
        ("qcow2", "lazy_refcounts=on"),
        ("qcow2", "cluster_size=2M"),
        ("raw", ""),
        ("vmdk", ""),
        ("vmdk", "subformat=streamOptimized"),
    ],
)
def test_plain_images_are_taken(tmp_path: Path, format_: str, options: str) -> None:
    file = made(tmp_path / "disk", format_, "8M", options)
    found = look(file, format_)
    assert found == Examined(
        format=ImageFormat(format_), virtual_bytes=8 * MIB, file_bytes=file.stat().st_size
    )


def overlay(folder: Path) -> Path:
    made(folder / "base")
    file = folder / "overlay"
    disks.qemu_img("create", "-f", "qcow2", "-b", str(folder / "base"), "-F", "qcow2", str(file))
    return file


def backed_by_host_file(folder: Path) -> Path:
    return disks.with_backing(made(folder / "disk"), b"/etc/hostname")


def backed_by_json(folder: Path) -> Path:
    name = json.dumps({"driver": "nbd", "server": {"type": "unix", "path": "/run/x"}})
    return disks.with_backing(made(folder / "disk"), b"json:" + name.encode())


def data_elsewhere(folder: Path) -> Path:
    file = folder / "disk"
    options = f"data_file={folder / 'elsewhere'},data_file_raw=on"
    disks.qemu_img("create", "-f", "qcow2", "-o", options, str(file), "8M")
    return file


def unknown_features(folder: Path) -> Path:
    return disks.with_features(made(folder / "disk"), 1 << 40)


def encrypted(folder: Path) -> Path:
    file = folder / "disk"
    disks.qemu_img(
        "create", "-f", "qcow2", "--object", "secret,id=s,data=secret",
        "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", str(file), "8M",
    )  # fmt: skip
    return file


def with_snapshot(folder: Path) -> Path:
    file = made(folder / "disk")
    disks.qemu_img("snapshot", "-c", "before", str(file))
    return file


def damaged(folder: Path) -> Path:
    return disks.with_features(made(folder / "disk"), 1 << 1)


def of_exabytes(folder: Path) -> Path:
    return disks.with_size(made(folder / "disk"), 1 << 50)


def size_bomb(folder: Path) -> Path:
    file = folder / "disk"
    disks.qemu_img("create", "-f", "qcow2", str(file), "1T")
    return file


def empty(folder: Path) -> Path:
    file = folder / "disk"
    file.touch()
    return file


def cut_off(folder: Path) -> Path:
    file = made(folder / "disk")
    os.truncate(file, 90)
    return file


def of_another_format(folder: Path) -> Path:
    return made(folder / "disk", "vmdk")


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (overlay, "backing file"),
        (backed_by_host_file, "backing file"),
        (backed_by_json, "backing file"),
        (data_elsewhere, "data lie in another file"),
        (unknown_features, "not known"),
        (encrypted, "encrypted"),
        (with_snapshot, "snapshots"),
        (damaged, "damaged"),
        (of_exabytes, "cannot read it"),
        (size_bomb, "times as large"),
        (empty, "empty"),
        (cut_off, "is raw"),
        (of_another_format, "is vmdk"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_hostile_qcow2_is_refused_and_says_why(
    tmp_path: Path, hostile: Hostile, why: str
) -> None:
    with pytest.raises(BadImageError, match=why) as refused:
        look(hostile(tmp_path))
    assert str(tmp_path) not in refused.value.detail


@pytest.mark.parametrize(
    "hostile", [overlay, backed_by_host_file, backed_by_json, data_elsewhere, unknown_features]
)
def test_what_names_other_files_is_refused_before_qemu_img_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: Hostile
) -> None:
    file = hostile(tmp_path)
    monkeypatch.setattr(examining, "_PROGRAMS", "/nowhere")
    with pytest.raises(BadImageError):
        look(file)


def test_what_is_not_wrong_with_its_format_has_advice_of_its_own(tmp_path: Path) -> None:
    for hostile, advice in ((empty, "Choose the file"), (size_bomb, "smaller"), (overlay, "plain")):
        (place := tmp_path / hostile.__name__).mkdir()
        with pytest.raises(BadImageError) as refused:
            look(hostile(place))
        assert advice in refused.value.advice


def test_a_refusal_is_told_once_and_not_in_the_words_of_the_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BadImageError, match="backing file"):
        look(backed_by_host_file(tmp_path))
    assert [one.getMessage() for one in caplog.records] == []


def test_a_disk_larger_than_any_host_is_refused(tmp_path: Path) -> None:
    # a hole: 3 TiB that take no room, and no bomb by their ratio
    file = tmp_path / "disk"
    file.touch()
    os.truncate(file, IMAGE_VIRTUAL_BYTES_MAX + 512)
    with pytest.raises(BadImageError, match="at most") as refused:
        look(file, "raw")
    assert "smaller" in refused.value.advice


@pytest.mark.parametrize("format_", ["qcow2", "vmdk", "vdi", "vhdx", "qed", "luks"])
def test_another_format_is_no_raw_disk(tmp_path: Path, format_: str) -> None:
    """Whoever guesses formats would open what it names; a raw disk is never guessed at."""
    options = "key-secret=s,iter-time=10" if format_ == "luks" else ""
    file = tmp_path / "disk"
    if format_ == "luks":
        disks.qemu_img(
            "create", "-f", "luks", "--object", "secret,id=s,data=secret", "-o", options,
            str(file), "8M",
        )  # fmt: skip
    else:
        made(file, format_)
    os.truncate(file, -(-file.stat().st_size // 512) * 512)
    with pytest.raises(BadImageError, match="declared as raw"):
        look(file, "raw")


def test_a_raw_disk_is_whole_sectors(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 1000)
    with pytest.raises(BadImageError, match="sectors"):
        look(tmp_path / "disk", "raw")


@pytest.mark.parametrize("subformat", ["monolithicFlat", "monolithicSparse", "streamOptimized"])
@pytest.mark.parametrize("extent", ["/etc/passwd", "beside"])
def test_a_vmdk_that_names_other_files_is_refused(
    tmp_path: Path, subformat: str, extent: str
) -> None:
    (tmp_path / "beside").write_bytes(b"another person's upload".ljust(8 * MIB, b"."))
    (tmp_path / "disk").write_bytes(disks.vmdk_descriptor(extent, subformat))
    with pytest.raises(BadImageError, match="holds its own data"):
        look(tmp_path / "disk", "vmdk")


def test_a_vmdk_whose_embedded_descriptor_names_a_path_is_refused(tmp_path: Path) -> None:
    file = made(tmp_path / "disk", "vmdk")
    descriptor = disks.vmdk_descriptor("/etc/passwd", "monolithicSparse")
    with pytest.raises(BadImageError, match="names other files"):
        look(disks.patched(file, 512, descriptor), "vmdk")


# ------------------------------------------------------------------ how qemu-img is run


async def test_qemu_img_has_no_environment_and_no_rights_to_write(tmp_path: Path) -> None:
    """What is taken from it is what `info` says: a file that it would write ends it."""
    with pytest.raises(QemuImgError):
        await qemu_img(
            ("create", "-f", "raw", "-o", "preallocation=full", str(tmp_path / "x"), "1M"),
            seconds=20, cpu_s=5, file_bytes=0,
        )  # fmt: skip
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size == 0


async def test_a_qemu_img_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, "exec sleep 600")
    with pytest.raises(UnavailableError, match="in time"):
        await qemu_img(("info",), seconds=0.2, cpu_s=5, file_bytes=0)


async def test_a_qemu_img_that_says_too_much_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, "exec yes")
    with pytest.raises(UnavailableError, match="too much"):
        await qemu_img(("info",), seconds=20, cpu_s=5, file_bytes=0)


async def test_its_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the broker")
    _stand_in(tmp_path, monkeypatch, 'ulimit -v; ulimit -t; ulimit -f; ulimit -c; echo "[$SECRET]"')
    answer = await qemu_img(("info",), seconds=20, cpu_s=5, file_bytes=0)
    assert answer.decode().split() == [str(1024 * 1024), "5", "0", "0", "[]"]


async def test_without_qemu_img_nothing_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(tmp_path / "disk")
    monkeypatch.setattr(examining, "_PROGRAMS", str(tmp_path))
    with pytest.raises(UnavailableError, match="qemu-utils"):
        await examine(file, ImageFormat.QCOW2)


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "qemu-img"
    program.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(examining, "_PROGRAMS", f"{folder}:/usr/bin:/bin")


# --------------------------------------------------------------------------- kept


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def kept(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


async def test_what_is_taken_is_kept_whole_and_nothing_else(tmp_path: Path) -> None:
    data = made(tmp_path / "disk").read_bytes()
    files = ImageFiles(tmp_path / "images", SystemIds())
    taken = await files.take(pieces(data), name="school", version=3, format_name="qcow2")
    assert (tmp_path / "images" / "school-v3.qcow2").read_bytes() == data
    assert (taken.file_bytes, taken.virtual_bytes) == (len(data), 8 * MIB)
    assert kept(tmp_path / "images") == ["incoming", "school-v3.qcow2"]
    with pytest.raises(BadImageError, match="here already") as refused:
        await files.take(pieces(data), name="school", version=3, format_name="qcow2")
    assert "another version" in refused.value.advice
    await files.forget("school", 3)
    assert kept(tmp_path / "images") == ["incoming"]


@pytest.mark.parametrize("format_", ["raw", "vmdk"])
async def test_other_formats_are_kept_as_qcow2_with_the_same_content(
    tmp_path: Path, format_: str
) -> None:
    data = made(tmp_path / "disk", format_).read_bytes()
    files = ImageFiles(tmp_path / "images", SystemIds())
    taken = await files.take(pieces(data), name="school", version=1, format_name=format_)
    file = tmp_path / "images" / "school-v1.qcow2"
    assert (await examine(file, ImageFormat.QCOW2)).virtual_bytes == taken.virtual_bytes == 8 * MIB
    disks.qemu_img("compare", "-f", format_, "-F", "qcow2", str(tmp_path / "disk"), str(file))


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "a/b", "", ".hidden", "x" * 101, "a\0b"])
async def test_a_name_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    files = ImageFiles(tmp_path / "images", SystemIds())
    with pytest.raises(BadImageError, match="name") as refused:
        await files.take(pieces(b"x" * 512), name=name, version=1, format_name="raw")
    assert "another name" in refused.value.advice
    assert not (tmp_path / "images").exists()


async def test_what_was_refused_or_broke_off_leaves_nothing(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path / "images", SystemIds(), bytes_max=1000)
    with pytest.raises(BodyTooLargeError):
        await files.take(pieces(b"x" * 1024), name="a", version=1, format_name="raw")
    with pytest.raises(BadImageError):
        await files.take(pieces(b"x" * 100), name="a", version=1, format_name="raw")

    async def gone() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await files.take(gone(), name="a", version=1, format_name="raw")
    assert kept(tmp_path / "images") == ["incoming"]


async def test_a_full_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing, "IMAGE_FREE_BYTES_MIN", 1 << 60)
    files = ImageFiles(tmp_path / "images", SystemIds())
    with pytest.raises(UnavailableError, match="too full"):
        await files.take(pieces(b"x" * 512), name="a", version=1, format_name="raw")


def small_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """The folder's disk has so much room, beside what is to stay free, while it is empty."""

    def usage(_: Path) -> SimpleNamespace:
        taken = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
        return SimpleNamespace(free=IMAGE_FREE_BYTES_MIN + room - taken)

    monkeypatch.setattr(shutil, "disk_usage", usage)


@pytest.mark.parametrize("room", [8 * MIB, 12 * MIB], ids=["none is left", "too little is left"])
async def test_a_full_disk_is_not_filled_by_turning_an_image_into_qcow2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    data = bytes(512) + os.urandom(8 * MIB - 512)
    small_disk(tmp_path / "images", monkeypatch, room)
    files = ImageFiles(tmp_path / "images", SystemIds())
    with pytest.raises(UnavailableError, match="too full"):
        await files.take(pieces(data), name="a", version=1, format_name="raw")
    assert kept(tmp_path / "images") == ["incoming"]


async def test_a_disk_with_room_for_an_image_twice_takes_one_that_is_turned_into_qcow2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(512) + os.urandom(8 * MIB - 512)
    small_disk(tmp_path / "images", monkeypatch, 17 * MIB)
    files = ImageFiles(tmp_path / "images", SystemIds())
    taken = await files.take(pieces(data), name="a", version=1, format_name="raw")
    assert taken.virtual_bytes == 8 * MIB


async def test_what_is_turned_into_qcow2_has_its_room_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others wait with theirs, and uploads leave it what it may still take."""
    begun, goes_on, at_once = asyncio.Event(), asyncio.Event(), []
    run = qemu_img

    async def slowly(*words: Any, **limits: Any) -> bytes:
        at_once.append(1)
        begun.set()
        await goes_on.wait()
        at_once.append(-1)
        return await run(*words, **limits)

    monkeypatch.setattr(filing, "qemu_img", slowly)
    small_disk(tmp_path / "images", monkeypatch, 20 * MIB)
    files = ImageFiles(tmp_path / "images", SystemIds())
    data = bytes(MIB)
    async with asyncio.TaskGroup() as group:
        for version in (1, 2):
            taking = files.take(pieces(data), name="a", version=version, format_name="raw")
            group.create_task(taking)
        await begun.wait()
        with pytest.raises(UnavailableError, match="too full"):
            async with asyncio.timeout(10):
                await files.take(pieces(bytes(18 * MIB)), name="b", version=1, format_name="raw")
        goes_on.set()
    assert at_once == [1, -1, 1, -1]


async def test_what_is_kept_after_its_caller_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that keeps it cannot be ended."""
    begun, goes_on = threading.Event(), threading.Event()
    files = ImageFiles(tmp_path / "images", SystemIds())
    keep = files._keep

    def slowly(*words: Any) -> None:
        begun.set()
        assert goes_on.wait(10)
        keep(*words)

    monkeypatch.setattr(files, "_keep", slowly)
    taking = asyncio.create_task(
        files.take(pieces(bytes(1024)), name="school", version=3, format_name="raw")
    )
    assert await asyncio.to_thread(begun.wait, 10)
    taking.cancel()
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await eventually(lambda: kept(tmp_path / "images") == ["incoming"])


async def test_what_is_kept_while_its_caller_leaves_at_the_very_end_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record will come of it, and a later upload of that version would be refused."""
    files = ImageFiles(tmp_path / "images", SystemIds())
    real, times = files._kept, 0

    async def and_leaves(*words: Any) -> None:
        nonlocal times
        await real(*words)
        times += 1
        if times == 1:
            asyncio.get_running_loop().call_soon(taking.cancel)

    async def take() -> None:
        await files.take(pieces(bytes(1024)), name="school", version=3, format_name="raw")

    monkeypatch.setattr(files, "_kept", and_leaves)
    taking = asyncio.create_task(take())
    with pytest.raises(asyncio.CancelledError):
        await taking
    await eventually(lambda: "school-v3.qcow2" not in kept(tmp_path / "images"))
    await take()
    assert "school-v3.qcow2" in kept(tmp_path / "images")


def test_what_a_crash_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "incoming" / "upl_1"
    folder.mkdir(parents=True)
    (folder / "image").touch()
    (tmp_path / "images" / "school-v1.qcow2").touch()
    ImageFiles(tmp_path / "images", SystemIds()).clear()
    assert kept(tmp_path / "images") == ["school-v1.qcow2"]
