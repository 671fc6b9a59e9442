"""Storage pools beside a host's own: a folder, and a file system on a loop device."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import connected

_MIB: Final = 1024 * 1024


def run(*words: str) -> str:
    done = subprocess.run(words, check=True, timeout=120, capture_output=True, text=True)
    return done.stdout.strip()


@contextlib.contextmanager
def loop_device(file: Path, mib: int) -> Iterator[str]:
    with file.open("wb") as made:
        made.truncate(mib * _MIB)
    device = run("losetup", "--find", "--show", str(file))
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def file_system(host: LibvirtHost, name: str, mib: int, golden: Path) -> Iterator[None]:
    """A pool of kind fs, which the daemon mounts, with copies of the files in `golden`."""
    folder = host.root / name
    folder.mkdir()
    with loop_device(host.root / f"{name}.img", mib) as device:
        run("mkfs.ext4", "-q", "-m", "0", device)
        run("mount", device, str(folder))
        try:
            for file in golden.iterdir():
                shutil.copy(file, folder / file.name)
        finally:
            run("umount", str(folder))
        source = f"<source><device path='{device}'/><format type='ext4'/></source>"
        with pool(host, "fs", name, f"{source}{_at(folder)}"):
            yield


@contextlib.contextmanager
def directory(host: LibvirtHost, name: str, folder: Path) -> Iterator[None]:
    with pool(host, "dir", name, _at(folder)):
        yield


@contextlib.contextmanager
def pool(host: LibvirtHost, kind: str, name: str, rest: str) -> Iterator[Any]:
    """Defined and running, while it is wanted."""
    with connected(host) as connection:
        made = connection.storagePoolDefineXML(
            f"<pool type='{kind}'><name>{name}</name>{rest}</pool>"
        )
        made.create()
        try:
            yield made
        finally:
            made.destroy()
            made.undefine()


def _at(folder: Path) -> str:
    return f"<target><path>{escape(str(folder))}</path></target>"
