"""libvirt daemons of the tests' own: private directories, a private mount namespace, ended by pid.

A daemon's machines run in the same namespaces; they outlive a daemon that is restarted and are
ended with the host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote
from uuid import uuid4

_DIRECTORIES: Final = (
    "run/libvirt", "run/lock", "var/lib/libvirt", "etc/libvirt", "var/log/libvirt/qemu",
)  # fmt: skip
_START_S: Final = 60.0

# cgroup v2 beside v1 confuses this version; machines need v1's controllers, which stay
_SCRIPT: Final = """
set -e
mount --make-rprivate /
umount /sys/fs/cgroup/unified 2>/dev/null || true
for one in run/libvirt run/lock var/lib/libvirt etc/libvirt var/log/libvirt; do
    mkdir -p "/$one"
    mount --bind "$1/$one" "/$one"
done
hostname "$2"
echo $$ >"$1/pid"
exec libvirtd --pid-file "$1/libvirtd.pid" --timeout 0 $3
"""


@dataclass(slots=True)
class LibvirtHost:
    """One daemon. `netns`: the network namespace that it is in, "" for the machine's own.
    `guests`: where its storage pool's files are. `doors`: lines of its configuration that have it
    listen on the network, too; `qemu`: lines about its machines."""

    root: Path
    name: str
    netns: str = ""
    guests: Path = field(default_factory=Path)
    doors: str = ""
    qemu: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.root / "run/libvirt/libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    def profile(self, **knobs: str) -> str:
        """The text of a host's profile for it."""
        given = {"uri": self.uri, **knobs}
        return "qemu?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in given.items())

    def prepare(self) -> None:
        for one in _DIRECTORIES:
            (self.root / one).mkdir(parents=True, exist_ok=True)
        etc = self.root / "etc/libvirt"
        (etc / "libvirtd.conf").write_text(
            f'auth_unix_rw = "none"\nunix_sock_group = "root"\nhost_uuid = "{uuid4()}"\n'
            f"{self.doors}"
        )
        (etc / "qemu.conf").write_text(
            'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nnamespaces = []\n'
            'stdio_handler = "file"\ndynamic_ownership = 0\nremember_owner = 0\n'
            f"{self.qemu}"
        )

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        enter = ["nsenter", f"--net=/run/netns/{self.netns}"] if self.netns else []
        with (self.root / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *enter, "unshare", "-m", "-u", "--", "sh", "-c", _SCRIPT, "sh",
                    str(self.root), self.name, "--listen" if self.doors else "",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(self.socket.exists, _START_S, f"{self.name} did not start")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def answers(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon; its machines run on."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)

    def machine_pids(self) -> dict[str, int]:
        """Name of a machine -> the process that runs it."""
        found: dict[str, int] = {}
        for path in (self.root / "run/libvirt/qemu").glob("*.pid"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(path.read_text())
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                # the daemon's own file lies beside them, and files outlive their processes
                if f"guest={path.stem},".encode() in command:
                    found[path.stem] = pid
        return found

    def kill_machines(self) -> None:
        for pid in self.machine_pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for(done: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.05)


@contextlib.contextmanager
def running_host(name: str = "host-a", *, netns: str = "") -> Iterator[LibvirtHost]:
    """A daemon with an empty directory for its storage pool, ended and removed at the end."""
    # a socket's path is short: not below pytest's directories
    root = Path(tempfile.mkdtemp(prefix="tvl-"))
    root.chmod(0o755)
    host = LibvirtHost(root, name, netns)
    host.guests = root / "guests"
    host.guests.mkdir()
    host.prepare()
    try:
        host.start()
        yield host
    finally:
        host.stop()
        host.kill_machines()
        shutil.rmtree(root, ignore_errors=True)
