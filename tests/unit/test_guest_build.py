"""Building the test guest: what it says where it cannot, and what a new image hangs on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.guest import build, packages, rootfs


def test_a_machine_without_apt_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(packages.PackagesError, match="no apt"):
        packages.resolve()


def test_apt_without_its_lists_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "apt-cache").write_text("#!/bin/sh\necho 'E: No packages found' >&2\nexit 100\n")
    (tmp_path / "apt-cache").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(packages.PackagesError, match="apt-get update"):
        packages.resolve()


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(rootfs.GuestError, match="mcopy is not installed; `make guest`"):
        rootfs.run(["mcopy"])


def test_packages_are_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text(
        f'#!/bin/sh\nfor last; do :; done\necho "$last" >>{tmp_path}/asked\n: >"x_1%3a2_all.deb"\n'
    )
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    for _ in range(2):
        (file,) = packages.fetch(["x=1:2"], tmp_path / "kept")
        assert file.name == "x_1%3a2_all.deb"
    assert (tmp_path / "asked").read_text() == "x=1:2\n"


def test_a_modules_needs_come_with_it(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(
        "kernel/fs/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2.ko\n"
        "kernel/fs/jbd2.ko:\nkernel/lib/crc16.ko:\nkernel/x/not-wanted.ko:\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/drivers/char/hw-random.ko\n")
    assert rootfs._closure(tmp_path, ["ext4", "hw_random"]) == [
        "kernel/fs/ext4.ko", "kernel/fs/jbd2.ko", "kernel/lib/crc16.ko",
    ]  # fmt: skip
    with pytest.raises(rootfs.GuestError, match="no_such"):
        rootfs._closure(tmp_path, ["no_such"])


def test_another_package_or_file_makes_another_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_text("one")
    monkeypatch.setattr(rootfs, "PROJECT", tmp_path)
    first = build.key(("libc6=1",), [source])
    assert build.key(("libc6=1",), [source]) == first
    assert build.key(("libc6=2",), [source]) != first
    source.write_text("two")
    second = build.key(("libc6=1",), [source])
    assert second != first
    source.chmod(0o755)
    assert build.key(("libc6=1",), [source]) != second


def test_the_image_hangs_on_the_agent_and_on_the_builder() -> None:
    names = {str(path.relative_to(rootfs.PROJECT)) for path in build._sources()}
    assert {"agents/guest/core.py", "tools/guest/disk.py", "tools/guest/initramfs/init"} <= names


def test_only_the_newest_images_are_kept(tmp_path: Path) -> None:
    for number in range(build.KEPT + 2):
        folder = tmp_path / f"image{number}"
        folder.mkdir()
        (folder / "guest.qcow2").touch()
        os.utime(folder, (number, number))
    build._forget_old(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["image2", "image3", "image4"]
