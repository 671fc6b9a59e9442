"""Two libvirt hosts on this machine that share their storage, with a guest to run on them.

They are started once, and each test that asks for them finds them empty.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import libvirt
import pytest

from broker.engines.libvirt.events import run_events
from tests.support.libvirt_host import LibvirtHost, running_host
from tests.support.tiny_guest import TinyGuest, build

IMAGE: Final = "school"
VERSIONS: Final = (1, 2)
KEPT: Final = (f"{IMAGE}-", "desktop-")
"""how golden images' names begin, and golden desktops'"""
KERNEL_DIR: Final = Path(sys.prefix) / "guest-kernel"
"""where `make libvirt` unpacks a kernel"""
ADDRESSES: Final = ("10.77.0.1", "10.77.0.2")
_DISK_BYTES: Final = 8 * 1024 * 1024
_POOL: Final = "<pool type='dir'><name>trivium</name><target><path>{}</path></target></pool>"
APPEND: Final = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable"


@dataclass(frozen=True, slots=True)
class LibvirtLab:
    first: LibvirtHost
    second: LibvirtHost
    guest: TinyGuest

    def profile(self, host: LibvirtHost, **knobs: str) -> str:
        address = "127.0.0.1"
        if host.netns:
            address = ADDRESSES[0 if host is self.first else 1]
        given = {"storage": "shared", "moves": f"tcp://{address}", "append": APPEND}
        return host.profile(**(given | knobs))

    def forget_golden_desktops(self) -> None:
        """The next instant clone boots its own."""
        for path in self.first.guests.glob("*-golden-*"):
            path.unlink()

    def clear(self) -> None:
        """No machine and no disk of a test before, and both daemons up. What golden desktops were
        booted stays: that is what they are for."""
        for host in (self.first, self.second):
            if not host.answers():
                host.start()
            with connected(host) as connection:
                for domain in connection.listAllDomains(0):
                    remove(domain)
        for path in self.first.guests.iterdir():
            if not path.name.startswith(KEPT):
                path.unlink()
        for host in (self.first, self.second):
            with connected(host) as connection:
                connection.storagePoolLookupByName("trivium").refresh()


@contextlib.contextmanager
def connected(host: LibvirtHost) -> Iterator[Any]:
    run_events()
    connection = libvirt.open(host.uri)
    try:
        yield connection
    finally:
        connection.close()


def remove(domain: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        domain.destroy()
    with contextlib.suppress(libvirt.libvirtError):
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them; ADDRESSES are theirs."""
    names = [f"tv{secrets.token_hex(3)}{end}" for end in "ab"]
    ends = [f"{name}0" for name in names]

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, timeout=30, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        first, second = ends
        ip("link", "add", first, "netns", names[0], "type", "veth", "peer", "name", second,
           "netns", names[1])  # fmt: skip
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
        yield names[0], names[1]
    finally:
        for name in names:
            ip("netns", "del", name, check=False)


@contextlib.contextmanager
def running_lab(networks: tuple[str, str] = ("", "")) -> Iterator[LibvirtLab]:
    """A golden image with a kernel beside it, in the one directory that both hosts' pools are.
    `networks`: namespaces that the hosts are in."""
    with (
        tempfile.TemporaryDirectory(prefix="tvg-") as text,
        running_host("host-a", netns=networks[0]) as first,
        running_host("host-b", netns=networks[1]) as second,
    ):
        guest = build(KERNEL_DIR, Path(text))
        second.guests = first.guests
        for version in VERSIONS:
            name = f"{IMAGE}-v{version}"
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", f"{name}.qcow2", str(_DISK_BYTES)],
                cwd=first.guests, check=True, timeout=60,
            )  # fmt: skip
            (first.guests / f"{name}.kernel").hardlink_to(guest.kernel)
            (first.guests / f"{name}.initrd").hardlink_to(guest.initrd)
        for host in (first, second):
            with connected(host) as connection:
                pool = connection.storagePoolDefineXML(_POOL.format(first.guests))
                pool.create()
        yield LibvirtLab(first, second, guest)


@pytest.fixture(scope="session")
def libvirt_lab_started() -> Iterator[LibvirtLab]:
    with running_lab() as lab:
        yield lab


@pytest.fixture
def libvirt_lab(libvirt_lab_started: LibvirtLab) -> LibvirtLab:
    libvirt_lab_started.clear()
    return libvirt_lab_started
