"""Builds the test guest and keeps it: `python -m tools.guest.build` prints the image's path.

A disk of a small Debian machine with a screen: kernel, busybox, X with a clock and a terminal in
which somebody called `person` is logged on, and Trivium's guest agent. Made from the packages
that this machine's own apt knows; the same packages and files of the project make the same image,
which is kept under the hash of both.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.guest import agent, disk, packages, rootfs

KEPT: Final = 3
"""images that stay in the cache, the newest ones"""


def cache() -> Path:
    """Where images and packages are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "trivium" / "guest"


def _sources() -> Iterator[Path]:
    yield from agent.sources()
    for path in sorted(rootfs.HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def key(pinned: tuple[str, ...], sources: Iterable[Path]) -> str:
    """Of everything that an image is made of."""
    digest = hashlib.sha256("\n".join(pinned).encode())
    for path in sources:
        mode = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"\n{path.relative_to(rootfs.PROJECT)} {mode}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One build at a time, whoever asks."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def image() -> Path:
    """The guest's disk (qcow2, never to be written to: give a machine an overlay of it), built
    now if it is not there.

    Raises:
        packages.PackagesError, rootfs.GuestError: it cannot be built here.
    """
    pinned = packages.resolve()
    folder = cache()
    with locked(folder):
        wanted = folder / key(pinned, _sources()) / "guest.qcow2"
        if not wanted.exists():
            _build(wanted, packages.fetch(pinned, folder / "packages"))
            _forget_old(folder)
        wanted.parent.touch()
    return wanted


def _build(wanted: Path, files: list[Path]) -> None:
    with tempfile.TemporaryDirectory(dir=wanted.parent.parent) as name:
        work = Path(name)
        kernels = [file for file in files if file.name.startswith("linux-image-")]
        vmlinuz, modules, version = rootfs.kernel(kernels[0], work)
        tree = work / "root"
        tree.mkdir()
        rootfs.fill(tree, [file for file in files if file not in kernels], modules, version)
        initrd = rootfs.initramfs(tree / "bin" / "busybox", modules, version, work)
        new = work / "guest.qcow2"
        disk.write(new, kernel=vmlinuz, initrd=initrd, tree=tree, work=work)
        wanted.parent.mkdir(exist_ok=True)
        new.replace(wanted)


def _forget_old(folder: Path) -> None:
    kept = sorted(folder.glob("*/guest.qcow2"), key=lambda each: each.parent.stat().st_mtime)
    for old in kept[:-KEPT]:
        shutil.rmtree(old.parent)


def main() -> int:
    try:
        print(image())  # noqa: T201 -- the path is the result
    except (packages.PackagesError, rootfs.GuestError) as problem:
        print(problem, file=sys.stderr)  # noqa: T201 -- for whoever called
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
