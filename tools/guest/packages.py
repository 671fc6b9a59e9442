"""What the test guest is made of: Debian packages, through this machine's own apt."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

KERNEL: Final = "linux-image-amd64"
"""the full kernel: the one for clouds has no framebuffer and no USB"""
WANTED: Final = (
    "busybox-static",
    "libpython3-stdlib",
    "python3-minimal",
    "xserver-xorg-core",
    "xserver-xorg-input-evdev",
    "xserver-xorg-video-fbdev",
    "x11-apps",  # xclock
    "x11-utils",  # xmessage
    "x11-xkb-utils",  # the X server compiles its keymap with it
    "xfonts-base",
    "xkb-data",
    "xterm",
)
LEFT_OUT: Final = re.compile(
    # what only maintainer scripts need, or only a machine with 3D: 200 MB that nobody would see
    r"adduser|dbus.*|debconf.*|dpkg|dmsetup|fontconfig.*|fonts-.*|gcc-.*-base|groff.*|init-.*"
    r"|install-info|keyboard-configuration|libegl.*|libgl[-0-9].*|libglvnd0|libglx.*|libgles.*"
    r"|libllvm.*|libssl3.*|libsqlite3-0|linux-base|linux-image.*|initramfs.*|login|man-db|media-types"
    r"|mesa.*|mount|passwd|perl.*|python3|sgml-base|shared-mime-info|systemd.*|tzdata|ucf|udev"
    r"|util-linux|xbitmaps|xfonts-utils|xfonts-encodings|xserver-common|libdebconf.*|sensible-utils"
    r"|netbase|readline-common|libreadline.*|libdb5.*|libnsl2|libtirpc.*|.*-data-bin|libsemanage.*"
)
_DEPENDS = re.compile(r"^\s*\|?(?:Pre)?Depends: (?P<name>[^<>\s]+)$")


class PackagesError(Exception):
    """The packages cannot be had here; the text says what to do."""


def _run(arguments: Sequence[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- fixed programs, names from apt itself
            arguments, cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise PackagesError(
            "The test guest is made of Debian packages, and this machine has no apt. "
            "Build it on Debian 12 or newer and copy the image."
        ) from None
    if done.returncode != 0:
        raise PackagesError(
            f"{arguments[0]} says: {done.stderr.strip()[-500:]}. "
            "Fetch the package lists first: apt-get update, as root."
        )
    return done.stdout


def _depends(names: Sequence[str]) -> list[str]:
    """The direct dependencies of all of them."""
    found: list[str] = []
    if not names:
        return found
    for line in _run(["apt-cache", "depends", *names]).splitlines():
        match = _DEPENDS.match(line)
        if match is not None:
            found.append(match["name"])
    return found


def resolve(
    wanted: Sequence[str] = WANTED, left_out: re.Pattern[str] = LEFT_OUT, *, kernel: str = KERNEL
) -> tuple[str, ...]:
    """Every package of a guest as `name=version`, sorted: the same lists, the same answer.
    `kernel`: the package that depends on the newest; empty: without one."""
    kernels = [
        name for name in _depends([kernel] if kernel else []) if name.startswith("linux-image-")
    ][:1]
    if kernel and not kernels:
        raise PackagesError(f"apt knows no kernel by the name {kernel}.")
    names = {*kernels, *wanted}
    fresh = sorted(wanted)
    while fresh:
        fresh = sorted({name for name in _depends(fresh) if not left_out.fullmatch(name)} - names)
        names.update(fresh)
    return tuple(sorted(_versions(sorted(names))))


def _versions(names: Sequence[str]) -> list[str]:
    pinned = []
    name = ""
    for line in _run(["apt-cache", "policy", *names]).splitlines():
        if line and not line[0].isspace():
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:"):
            version = line.split(":", 1)[1].strip()
            if version == "(none)":
                raise PackagesError(f"apt has no version of {name}.")
            pinned.append(f"{name}={version}")
    return pinned


def _file_name(pinned: str) -> str:
    """What apt-get download calls the file, without its architecture."""
    name, version = pinned.split("=", 1)
    return f"{name}_{version.replace(':', '%3a')}_"


def fetch(pinned: Sequence[str], folder: Path) -> list[Path]:
    """The packages' files, in that order; those that are in the folder already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [each for each in pinned if not list(folder.glob(_file_name(each) + "*.deb"))]
    if missing:
        _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *missing], folder)
    return [next(iter(folder.glob(_file_name(each) + "*.deb"))) for each in pinned]
