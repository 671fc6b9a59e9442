"""A Linux machine of the tests' own, for storage that this machine's kernel may lack.

QEMU runs Debian's cloud kernel under TCG, with this machine's /usr, read-only, through virtiofs;
LVM's and NFS's programs lie over that. In it libvirt's daemon runs beside a volume group on the
machine's disk and an NFS server that the machine itself mounts from. The daemon is reached over
TCP through QEMU's user network, from this machine only; a shell listens at a virtio-serial port.

Kernel and programs come from the directories of tools/libvirt.sh; nothing is fetched here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from tests.support.libvirt_host import wait_for
from tests.support.libvirt_lab import KERNEL_DIR
from tests.support.process import free_port
from tests.support.tiny_guest import archive, in_order

PACKAGES_DIR: Final = Path(sys.prefix) / "guest-packages"
"""where `make libvirt` unpacks what runs in the machine"""
GROUP: Final = "desktops"
"""the volume group"""
GROUP_MIB: Final = 128
EXPORT_MIB: Final = 128
_BOOT_S: Final = 240.0
_COMMAND_S: Final = 120.0
_MEMORY_MIB: Final = 1024
_MODULES: Final = (
    "virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "virtiofs", "overlay", "dm_mod",
    "dm_snapshot", "nfsd", "nfsv4",
)  # fmt: skip
_FOLDERS: Final = (
    "dev", "proc", "sys", "run", "tmp", "etc/libvirt", "etc/lvm", "var/lib/libvirt", "var/lib/nfs",
    "var/lib/desktops", "var/cache", "var/log/libvirt/qemu", "host", "usr", "modules", "export",
    "mnt",
)  # fmt: skip
_ETC: Final = ("ld.so.cache", "passwd", "group", "nsswitch.conf", "netconfig", "services")
_NOT_PROBED: Final = ("qemu-system-i386", "qemu-system-x86_64-microvm")
"""programs that libvirt would start, each more than once, to ask what they can do"""
_FILES: Final = {
    "etc/hosts": "127.0.0.1 localhost storage\n",
    "etc/exports": "/export *(rw,no_root_squash,fsid=0,no_subtree_check,insecure)\n",
    # there is no udev in it, which would make the devices' names
    "etc/lvm/lvm.conf": "activation { udev_sync=0 udev_rules=0 monitoring=0 }\n"
    "devices { obtain_device_list_from_udev=0 }\nbackup { backup=0 archive=0 }\n",
    "etc/libvirt/libvirtd.conf": 'listen_tls=0\nlisten_tcp=1\nlisten_addr="0.0.0.0"\n'
    'auth_tcp="none"\nauth_unix_rw="none"\nunix_sock_group="root"\n'
    'host_uuid="5f6c8c0e-8f0b-4c56-9d0a-6c4d1a7f5e11"\n',
    "etc/libvirt/qemu.conf": 'user="root"\ngroup="root"\nsecurity_driver="none"\nnamespaces=[]\n'
    'stdio_handler="file"\ndynamic_ownership=0\nremember_owner=0\n',
}
_INIT: Final = r"""#!/busybox sh
/busybox mkdir /bb; /busybox --install -s /bb; export PATH=/usr/sbin:/usr/bin:/bb
/bb/mount -t proc proc /proc; /bb/mount -t sysfs sysfs /sys; /bb/mount -t devtmpfs dev /dev
exec >/dev/console 2>&1 </dev/null
while read -r module; do /bb/insmod "/modules/$module"; done </modules/order
/bb/mount -t virtiofs -o ro usr /host
/bb/mount -t overlay -o lowerdir=/packages:/host overlay /usr
ln -s /proc/self/mounts /etc/mtab; ln -s /run /var/run; mkdir /dev/shm /dev/pts
mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /run; mkdir /run/lock
mount -t tmpfs -o size=2g tmpfs /var/lib/desktops
mount -t tmpfs -o size=@EXPORT_MIB@m tmpfs /export
hostname storage; ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0
libvirtd --listen --timeout 0 &
pvcreate -q /dev/vda; vgcreate -q @GROUP@ /dev/vda
mount -t nfsd nfsd /proc/fs/nfsd; : >/var/lib/nfs/etab; exportfs -a
rpc.nfsd -N 3 -V 4 1; rpc.mountd -N 3; echo Y >/proc/fs/nfsd/v4_end_grace
while [ ! -S /run/libvirt/libvirt-sock ]; do sleep 0.1; done
for port in /sys/class/virtio-ports/*; do exec 9<>"/dev/${port##*/}"; done
while true; do
    # nobody is at the other end yet, or any more
    read -r line <&9 || { sleep 0.1; continue; }
    timeout 100 sh -c "$line" >/tmp/said 2>&1 </dev/null 9>&-; how=$?
    cat /tmp/said >&9; printf '\004%s\n' "$how" >&9
done
"""


@dataclass(frozen=True, slots=True)
class StorageMachine:
    """`port`: where its daemon listens, on this machine. `log`: what it said when it started."""

    port: int
    shell: Path
    log: Path

    @property
    def uri(self) -> str:
        return f"qemu+tcp://127.0.0.1:{self.port}/system"

    def profile(self, **knobs: str) -> str:
        """The text of a host's profile for it. No agent is in its desktops: under TCG in TCG one
        that runs is all that is waited for."""
        given = {"uri": self.uri, "plain": "yes", "agent": "none", **knobs}
        return "qemu?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in given.items())

    def run(self, line: str) -> str:
        """What a line of shell says in the machine; CalledProcessError where it fails."""
        said = b""
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(_COMMAND_S)
            end.connect(str(self.shell))
            end.sendall(f"{line}\n".encode())
            while b"\x04" not in said or not said.endswith(b"\n"):
                more = end.recv(65536)
                if not more:
                    raise ConnectionError("the machine has gone")
                said += more
        text, _, how = said.decode(errors="replace").rpartition("\x04")
        if int(how):
            raise subprocess.CalledProcessError(int(how), line, text)
        return text.strip()


def _initrd(into: Path) -> Path:
    if not PACKAGES_DIR.is_dir():
        raise FileNotFoundError("there is nothing to run in a machine: `make libvirt` unpacks it")
    tree = into / "initrd.d"
    for one in _FOLDERS:
        (tree / one).mkdir(parents=True)
    for one in ("bin", "sbin", "lib", "lib64"):
        (tree / one).symlink_to(f"usr/{one}")
    shutil.copy("/bin/busybox", tree / "busybox")
    [lib] = (KERNEL_DIR / "lib" / "modules").iterdir()
    modules = in_order(lib, _MODULES)
    for path in modules:
        shutil.copy(path, tree / "modules" / path.name)
    (tree / "modules/order").write_text("".join(f"{path.name}\n" for path in modules))
    unread = shutil.ignore_patterns("doc", "man", "locale")
    shutil.copytree(PACKAGES_DIR / "usr", tree / "packages", symlinks=True, ignore=unread)
    for one in _NOT_PROBED:
        # as overlayfs marks what is not there
        os.mknod(tree / "packages/bin" / one, 0o20000, os.makedev(0, 0))
    for one in _ETC:
        for path in (PACKAGES_DIR / "etc" / one, Path("/etc") / one):
            if path.is_file():
                shutil.copy(path, tree / "etc" / one)
                break
    init = _INIT.replace("@GROUP@", GROUP).replace("@EXPORT_MIB@", str(EXPORT_MIB))
    for name, text in {**_FILES, "init": init}.items():
        (tree / name).write_text(text)
    (tree / "init").chmod(0o755)
    os.mknod(tree / "dev/console", 0o20600, os.makedev(5, 1))
    return archive(tree, into / "initrd")


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait(20)


def _share(folder: Path, into: Path) -> subprocess.Popen[bytes]:
    """What answers for that folder, read-only, at the socket `files`."""
    program = shutil.which("virtiofsd", path="/usr/lib/qemu:/usr/libexec")
    assert program is not None
    script = 'mount --make-rprivate /; mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; '
    script += 'exec "$2" -f --socket-path="$3" -o source="$1" -o sandbox=chroot -o cache=always'
    with (into / "files.log").open("wb") as log:
        return subprocess.Popen(
            ["unshare", "-m", "--", "sh", "-ec", script, "sh", folder, program, into / "files"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def _started(port: int, into: Path) -> subprocess.Popen[bytes]:
    [kernel] = (KERNEL_DIR / "boot").glob("vmlinuz-*")
    disk = into / "disk.raw"
    with disk.open("wb") as made:
        made.truncate(GROUP_MIB << 20)
    memory = f"memory-backend-memfd,id=mem,size={_MEMORY_MIB}M,share=on"
    with (into / "qemu.log").open("wb") as log:
        return subprocess.Popen(
            [
                "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
                "-m", str(_MEMORY_MIB), "-object", memory, "-numa", "node,memdev=mem",
                "-serial", f"file:{into / 'console'}", "-no-reboot",
                "-kernel", kernel, "-initrd", _initrd(into),
                "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable",
                "-chardev", f"socket,id=files,path={into / 'files'}",
                "-device", "vhost-user-fs-pci,chardev=files,tag=usr",
                "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
                "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:16509",
                "-device", "virtio-net-pci,netdev=net",
                "-chardev", f"socket,id=shell,path={into / 'shell'},server=on,wait=off",
                "-device", "virtio-serial", "-device", "virtserialport,chardev=shell",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


@contextlib.contextmanager
def running_storage_machine() -> Iterator[StorageMachine]:
    # a socket's path is short: not below pytest's directories
    with tempfile.TemporaryDirectory(prefix="tvs-") as text, contextlib.ExitStack() as stack:
        into = Path(text)
        share = _share(Path("/usr"), into)
        stack.enter_context(_ended(share))
        wait_for((into / "files").exists, 60, f"nothing shares /usr; {into / 'files.log'}")
        machine = StorageMachine(free_port(), into / "shell", into / "console")
        process = _started(machine.port, into)
        stack.enter_context(_ended(process))

        def listens() -> bool:
            if process.poll() is not None:
                raise ChildProcessError((into / "qemu.log").read_text())
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                return machine.run("test -S /run/libvirt/libvirt-sock && echo up") == "up"
            return False

        wait_for(listens, _BOOT_S, "the machine did not start")
        yield machine


@pytest.fixture(scope="session")
def storage_machine() -> Iterator[StorageMachine]:
    with running_storage_machine() as machine:
        yield machine
