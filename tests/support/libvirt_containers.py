"""Container desktops under the lab's daemons: a golden image with busybox in it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import libvirt
import pytest

from broker.engines.libvirt.events import run_events
from tests.support.engines import EngineCase
from tests.support.libvirt_cases import libvirt_case
from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import IMAGE, VERSIONS, LibvirtLab

_INIT: Final = "#!/bin/busybox sh\nwhile true; do /bin/busybox sleep 1; done\n"
_FOLDERS: Final = ("bin", "sbin", "dev", "proc", "sys", "tmp", "etc")


def container_uri(host: LibvirtHost) -> str:
    return f"lxc+unix:///system?socket={host.socket}"


def containers_case(lab: LibvirtLab) -> EngineCase:
    first, second = (
        f"lxc?agent=none&uri={quote(container_uri(host), safe='')}"
        for host in (lab.first, lab.second)
    )
    return libvirt_case(first, second)


def make_root(folder: Path, image: Path) -> None:
    """A file system with nothing in it but busybox and an init that waits."""
    for one in _FOLDERS:
        (folder / one).mkdir(parents=True)
    busybox = folder / "bin/busybox"
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    init = folder / "sbin/init"
    init.write_text(_INIT)
    for path in (busybox, init):
        path.chmod(0o755)
    subprocess.run(
        ["mkfs.ext4", "-q", "-d", str(folder), str(image), "8M"],
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip


def end_containers(host: LibvirtHost) -> None:
    run_events()
    with contextlib.closing(libvirt.open(container_uri(host))) as connection:
        for domain in connection.listAllDomains(0):
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
            with contextlib.suppress(libvirt.libvirtError):
                domain.undefine()


@contextlib.contextmanager
def with_containers(lab: LibvirtLab) -> Iterator[LibvirtLab]:
    """The lab with golden images of containers, and no container afterwards."""
    for version in VERSIONS:
        image = lab.first.guests / f"{IMAGE}-v{version}.raw"
        if not image.exists():
            with tempfile.TemporaryDirectory() as folder:
                make_root(Path(folder), image)
    try:
        yield lab
    finally:
        for host in (lab.first, lab.second):
            if host.answers():
                end_containers(host)


@pytest.fixture
def container_lab(libvirt_lab: LibvirtLab) -> Iterator[LibvirtLab]:
    with with_containers(libvirt_lab) as lab:
        yield lab
