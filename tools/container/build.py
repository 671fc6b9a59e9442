"""Builds the test container and keeps it: `python -m tools.container.build` prints its path.

A file with the file system of a small Debian desktop that people log on to over RDP: busybox,
xrdp, the X server that it starts for each of them, a terminal, the guest agent. Made and kept as
the test guest is (tools/guest/build.py), without root and without mounting anything.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.guest import agent, packages, rootfs
from tools.guest import build as guest

HERE: Final = Path(__file__).resolve().parent
PERSON: Final = "person"
PASSWORD: Final = "a pass phrase 42"  # noqa: S105 -- of a guest that is made for tests
WANTED: Final = (
    "busybox-static",
    "libpam-modules",
    "libpython3-stdlib",
    "openssl",
    "python3-minimal",
    "tigervnc-standalone-server",
    "x11-xkb-utils",
    "xfonts-base",
    "xkb-data",
    "xrdp",
    "xterm",
)
LEFT_OUT: Final = re.compile(
    # as in the test guest, but for what the RDP server and Xvnc are linked with
    rf"(?!(?:libssl3|libgl1|libglvnd0|libglx0)$)(?:{packages.LEFT_OUT.pattern}"
    r"|cdebconf|libdebian-installer.*|libfile-.*|libnewt.*|libpam-runtime|libslang.*|libtextwrap.*"
    r"|lsb-base|ssl-cert|sysvinit-utils|x11-common)"
)
ROOM: Final = "192M"
"""of the file system; a desktop's disk is a copy that holds no empty blocks"""
_FONT: Final = "10x20"


def image() -> Path:
    """The container's golden image (raw, never to be written to), built now if it is not there.

    Raises:
        packages.PackagesError, rootfs.GuestError: it cannot be built here.
    """
    pinned = packages.resolve(WANTED, LEFT_OUT, kernel="")
    folder = guest.cache()
    with guest.locked(folder):
        wanted = folder / f"container-{guest.key(pinned, _sources())}.raw"
        if not wanted.exists():
            _build(wanted, packages.fetch(pinned, folder / "packages"))
            for old in folder.glob("container-*.raw"):
                if old != wanted:
                    old.unlink()
    return wanted


def _sources() -> Iterator[Path]:
    yield from agent.sources()
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _build(wanted: Path, files: list[Path]) -> None:
    with tempfile.TemporaryDirectory(dir=wanted.parent) as name:
        root, new = Path(name) / "root", Path(name) / "image.raw"
        root.mkdir()
        rootfs.unpack(files, root)
        for folder in ("dev", "proc", "sys", "run", "tmp", "root", "var/lib/xkb", "var/log"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        rootfs.lay_out(HERE / "files", root)
        rootfs.only_fonts(root, (_FONT,))
        (root / "usr/bin/Xvnc").symlink_to("Xtigervnc")
        rootfs.install_agent(root)
        rootfs.compile_python(root)
        _write(root, new)
        new.replace(wanted)


def _write(root: Path, image: Path) -> None:
    """The tree as a file system, its files with the owners that they are to have."""
    steps = (
        'chown -R 0:0 "$1"',
        'chmod -R u=rwX,go=rX "$1"',
        'chmod 0600 "$1/etc/shadow"',
        'chmod 1777 "$1/tmp"',
        # what writes down who is logged on at a terminal
        'chgrp 43 "$1"/usr/lib/*/utempter/utempter && chmod 2755 "$1"/usr/lib/*/utempter/utempter',
        f'mkdir -m 0700 -p "$1/home/{PERSON}" && chown 1000:1000 "$1/home/{PERSON}"',
        f'mke2fs -q -F -t ext4 -m 0 -d "$1" "$2" {ROOM}',
    )
    rootfs.run(["fakeroot", "sh", "-c", " && ".join(steps), "sh", root, image], env=os.environ)


def main() -> int:
    try:
        print(image())  # noqa: T201 -- the path is the result
    except (packages.PackagesError, rootfs.GuestError) as problem:
        print(problem, file=sys.stderr)  # noqa: T201 -- for whoever called
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
