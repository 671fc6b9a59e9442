"""A libvirt daemon of this machine's own, for the demo's real desktops.

It runs in namespaces of its own with private directories, so it neither sees nor disturbs the
system's daemon; when it ends, the kernel ends its machines with it. Root starts it.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from broker.cli.errors import CommandError
from broker.cli.private import make_folder

PROGRAMS: Final = ("libvirtd", "qemu-system-x86_64", "qemu-img", "unshare", "mount")
IMAGE: Final = "real-desktop"
VERSION: Final = 1
POOL: Final = "trivium"
SOCKET_CHARS_MAX: Final = 107
"""of a UNIX socket's path, on Linux"""
_PRIVATE: Final = ("run/libvirt", "run/lock", "var/lib/libvirt", "etc/libvirt", "var/log/libvirt")

# control groups v2 beside v1 confuse libvirt 9.0; machines need v1's controllers, which stay
_INSIDE: Final = """
set -e
mount --make-rprivate /
umount /sys/fs/cgroup/unified 2>/dev/null || true
for one in run/libvirt run/lock var/lib/libvirt etc/libvirt var/log/libvirt; do
    mkdir -p "/$one"
    mount --bind "$1/$one" "/$one"
done
mkdir -p /var/log/libvirt/qemu
libvirtd --pid-file /run/libvirt/libvirtd.pid --timeout 0 &
wait $!
"""
# the first process of a namespace takes no signal that it did not ask for: whoever holds it dies
_OUTSIDE: Final = """
unshare --mount --uts --pid --fork --kill-child --mount-proc -- sh -c "$1" sh "$2" &
inside=$!
trap 'kill -KILL $inside 2>/dev/null' TERM INT
wait $inside
"""
_QEMU_CONF: Final = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
stdio_handler = "file"
dynamic_ownership = 0
remember_owner = 0
"""
_DAEMON_CONF: Final = 'auth_unix_rw = "none"\nunix_sock_group = "root"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class RealHost:
    """Its files are below `root`, which is kept; its machines are not."""

    root: Path

    @property
    def socket(self) -> Path:
        return self.root / "run/libvirt/libvirt-sock"

    @property
    def volumes(self) -> Path:
        return self.root / "pool"

    @property
    def profile(self) -> str:
        """What its host's record says."""
        uri = quote(f"qemu+unix:///system?socket={self.socket}", safe="")
        return f"qemu?uri={uri}&pool={POOL}&clone=instant"

    @property
    def command(self) -> Sequence[str]:
        """The program that is the daemon until it is told to end."""
        shell = shutil.which("sh") or "/bin/sh"
        return (shell, "-c", _OUTSIDE, "sh", _INSIDE, str(self.root))

    def prepare(self, image: Path) -> None:
        """Have its files, with that golden image, and no machine of an earlier run.

        Raises CommandError: it cannot run here."""
        check(self.socket)
        for one in _PRIVATE:
            shutil.rmtree(self.root / one, ignore_errors=True)
        for one in (*_PRIVATE, "pool", "etc/libvirt/storage/autostart"):
            (self.root / one).mkdir(parents=True, exist_ok=True)
        etc = self.root / "etc/libvirt"
        (etc / "qemu.conf").write_text(_QEMU_CONF, "utf-8")
        host = uuid5(NAMESPACE_URL, str(self.root))
        (etc / "libvirtd.conf").write_text(f'{_DAEMON_CONF}host_uuid = "{host}"\n', "utf-8")
        self._have_pool()
        self._have_image(image)

    def _have_pool(self) -> None:
        storage = self.root / "etc/libvirt/storage"
        described = storage / f"{POOL}.xml"
        uuid = uuid5(NAMESPACE_URL, f"{self.root} {POOL}")
        path = str(self.volumes).replace("&", "&amp;").replace("<", "&lt;")
        described.write_text(
            f"<pool type='dir'><name>{POOL}</name><uuid>{uuid}</uuid>"
            f"<target><path>{path}</path></target></pool>",
            "utf-8",
        )
        # where the daemon sees it
        link = storage / "autostart" / f"{POOL}.xml"
        link.symlink_to(f"/etc/libvirt/storage/{POOL}.xml")

    def _have_image(self, image: Path) -> None:
        """The golden image; a golden desktop of an older one goes with it."""
        golden = self.volumes / f"{IMAGE}-v{VERSION}.qcow2"
        same = golden.exists() and filecmp.cmp(golden, image, shallow=False)
        for path in self.volumes.iterdir():
            if not (same and path.name.startswith(f"{IMAGE}-v{VERSION}")):
                path.unlink()
        if not same:
            shutil.copy(image, golden)


def check(socket: Path) -> None:
    """Raises CommandError where real desktops cannot run on this machine, and says why."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [one for one in PROGRAMS if shutil.which(one, path=path) is None]
    if find_spec("libvirt") is None:
        missing.append("libvirt-python")
    why = ""
    if missing:
        why = f"there is no {', '.join(missing)}"
    elif os.geteuid() != 0:
        why = "only root can start a libvirt daemon with namespaces of its own"
    elif len(str(socket)) > SOCKET_CHARS_MAX:
        why = "the data directory's path is too long for a socket below it"
    if why:
        raise CommandError(
            "Real desktops cannot run here",
            detail=why,
            advice="`make run REAL=1`, as root on Debian, installs what is missing.",
            code="cli.no_real_desktops",
        )


def at(data: Path) -> RealHost:
    """The one of that data directory."""
    root = data.resolve() / "real"
    make_folder(root)
    return RealHost(root=root)
