"""The guest's disk: a boot partition that SeaBIOS can start, and a root file system.

Nothing is mounted and nobody needs to be root: mtools, syslinux and mke2fs write into a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tools.guest.rootfs import HERE, GuestError, run

_SECTOR: Final = 512
_MIB: Final = 1024 * 1024
_BOOT_START: Final = _MIB
_BOOT_BYTES: Final = 40 * _MIB
_ROOT_START: Final = _BOOT_START + _BOOT_BYTES
ROOT_BYTES: Final = 512 * _MIB
"""room of the root file system; an overlay holds only what is written"""
_MBR: Final = ("/usr/lib/syslinux/mbr/mbr.bin", "/usr/lib/SYSLINUX/mbr.bin")
_EPOCH: Final = {"SOURCE_DATE_EPOCH": "1700000000", "E2FSPROGS_FAKE_TIME": "1700000000"}
_FEATURES: Final = "-O ^metadata_csum,^64bit -m 0"
_UUID: Final = "7a1f3c0e-5d1b-4c86-9a55-0f3a5b0c2d11"


def _boot_partition(disk: Path, kernel: Path, initrd: Path) -> None:
    drive = f"{disk}@@{_BOOT_START}"
    env = {**os.environ, **_EPOCH, "MTOOLS_SKIP_CHECK": "1"}
    sectors = str(_BOOT_BYTES // _SECTOR)
    run(["mformat", "-i", drive, "-T", sectors, "-h", "16", "-s", "63", "-N", "7a1f3c0e",
         "-H", str(_BOOT_START // _SECTOR), "::"], env=env)  # fmt: skip
    for source, name in (
        (kernel, "vmlinuz"), (initrd, "initrd"), (HERE / "syslinux.cfg", "syslinux.cfg"),
    ):  # fmt: skip
        run(["mcopy", "-i", drive, source, f"::{name}"], env=env)
    run(["syslinux", "--offset", str(_BOOT_START), "--install", disk], env=env)


def _root_partition(disk: Path, tree: Path) -> None:
    extended = f"hash_seed={_UUID},offset={_ROOT_START},lazy_itable_init=0"
    size = f"{ROOT_BYTES // 1024}k"
    steps = (
        'chown -R 0:0 "$1"',
        'chmod -R u=rwX,go=rX "$1"',
        f'find "$1" -exec touch -h -d @{_EPOCH["SOURCE_DATE_EPOCH"]} {{}} +',
        f'mke2fs -q -F -t ext4 -L root -U {_UUID} -E "{extended}" {_FEATURES} -d "$1" "$2" {size}',
    )
    run(
        ["fakeroot", "sh", "-c", " && ".join(steps), "sh", tree, disk],
        env={**os.environ, **_EPOCH},
    )


def write(image: Path, *, kernel: Path, initrd: Path, tree: Path, work: Path) -> None:
    """Write a bootable qcow2 with these files."""
    disk = work / "disk.raw"
    with disk.open("wb") as raw:
        raw.truncate(_ROOT_START + ROOT_BYTES + _MIB)
    table = (
        f"label: dos\nlabel-id: 0x7a1f3c0e\n"
        f"start={_BOOT_START // _SECTOR}, size={_BOOT_BYTES // _SECTOR}, type=e, bootable\n"
        f"start={_ROOT_START // _SECTOR}, size={ROOT_BYTES // _SECTOR}, type=83\n"
    )
    run(["sfdisk", "-q", disk], input=table)
    loader = next((Path(each) for each in _MBR if Path(each).exists()), None)
    if loader is None:
        raise GuestError("syslinux-common is not installed; `make guest` installs it")
    with disk.open("r+b") as raw:
        raw.write(loader.read_bytes()[:440])
    _boot_partition(disk, kernel, initrd)
    _root_partition(disk, tree)
    run(["qemu-img", "convert", "-O", "qcow2", disk, image])
