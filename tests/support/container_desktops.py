"""A host of container desktops that people log on to over RDP, with a network of their own."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import libvirt

from broker.engines.libvirt.display import RDP_PORT
from broker.engines.libvirt.events import run_events
from tests.support.libvirt_containers import container_uri
from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import LibvirtLab
from tools.container import build

IMAGE: Final = "office"
NETWORK: Final = "10.78.0.0/24"
BROKER: Final = "10.78.0.1"
"""where the containers' agents reach the broker: the host's own address in their network"""
_NETWORK: Final = """<network><name>desks</name><bridge name='{}' stp='off' delay='0'/>
<ip address='10.78.0.1' netmask='255.255.255.0'><dhcp>
<range start='10.78.0.10' end='10.78.0.90'/></dhcp></ip></network>"""

_RDP: Final = f":{RDP_PORT:04X}"
_LISTENS: Final = "0A"
"""as the kernel writes ports and states"""


@dataclass(frozen=True, slots=True)
class ContainerDesktops:
    """`profile`: of the host's record."""

    host: LibvirtHost
    profile: str

    def root(self, desktop_id: str) -> Path:
        """The running container's root as this machine sees it."""
        return Path(f"/proc/{self._first_process(desktop_id)}/root")

    def listens(self, desktop_id: str) -> bool:
        """Whether its RDP server takes connections."""
        network = Path(f"/proc/{self._first_process(desktop_id)}/net")
        lines = [line.split() for kind in ("tcp", "tcp6") for line in _lines(network / kind)]
        return any(line[1].endswith(_RDP) and line[3] == _LISTENS for line in lines)

    def _first_process(self, desktop_id: str) -> str:
        run_events()
        with contextlib.closing(libvirt.open(container_uri(self.host))) as connection:
            controller = connection.lookupByName(f"trivium-{desktop_id}").ID()
        return Path(f"/proc/{controller}/task/{controller}/children").read_text().split()[0]


def _lines(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:]


@contextlib.contextmanager
def container_desktops(lab: LibvirtLab) -> Iterator[ContainerDesktops]:
    """On the lab's first host. Containers must have ended by the end of the block."""
    host = lab.first
    shutil.copy(build.image(), host.guests / f"{IMAGE}-v1.raw")
    with contextlib.closing(libvirt.open(host.uri)) as connection:
        connection.storagePoolLookupByName("trivium").refresh()
        network = connection.networkCreateXML(_NETWORK.format(f"tv{secrets.token_hex(4)}"))
        address, inside = (quote(one, safe="") for one in (container_uri(host), NETWORK))
        try:
            yield ContainerDesktops(host, f"lxc?uri={address}&network=desks&rdp={inside}")
        finally:
            network.destroy()
