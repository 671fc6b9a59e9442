"""Which version of control groups a host's machines are in: of a daemon on the broker's machine by
its files, of any other by a machine that runs there, for libvirt does not tell.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import libvirt

from broker.domain.errors import EngineError
from broker.engines.libvirt import xml
from broker.engines.libvirt.cpu_shares import SCALES, Groups
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.tags import groups_of

FOLDER: Final = Path("/sys/fs/cgroup")
MACHINES_ASKED_MAX: Final = 32
"""machines of a host that are looked at, to tell its control groups by one of them"""
_KINDS: Final = ("qemu", "lxc")
"""kinds of hypervisors whose machines libvirt puts into control groups"""


def groups_here(folder: Path = FOLDER) -> Groups | None:
    """Of the broker's own machine; None where no CPU controller is mounted."""
    with contextlib.suppress(OSError):
        if "cpu" in (folder / "cgroup.controllers").read_text(encoding="ascii").split():
            return Groups.V2
    mounted = any((folder / one / "cgroup.procs").exists() for one in ("cpu", "cpu,cpuacct"))
    return Groups.V1 if mounted else None


def told_by(domain: Any) -> Groups | None:
    """By a machine that is on: what the broker wrote on it, or what it has where nothing was said.
    None: it cannot be told."""
    try:
        root = xml.parse(domain.XMLDesc(0))
        written = groups_of(root)
        if root.find("cputune/shares") is not None:
            return next((one for one in Groups if one == written), None)
        shares = domain.schedulerParameters().get("cpu_shares")
    except (libvirt.libvirtError, EngineError):
        return None
    return next((one for one, scale in SCALES.items() if scale.usual == shares), None)


@dataclass(slots=True)
class HostGroups:
    """A host's, as far as it is known. What is asked, is asked on one of the host's threads."""

    found: Groups | None = None

    def of(self, connection: Any, place: Place) -> Groups | None:
        """None: nothing tells, as at a distant host on which no machine runs yet; or its machines
        are in none."""
        if not _has_groups(place):
            return None
        if self.found is None and place.is_local:
            self.found = groups_here()
        if self.found is None:
            self.found = next(filter(None, map(told_by, _running(connection))), None)
        return self.found

    def learn(self, domain: Any, place: Place) -> Groups | None:
        """By a machine that was just started without a word of its shares."""
        if self.found is None and _has_groups(place):
            self.found = told_by(domain)
        return self.found

    def forget(self) -> None:
        """The host may have been started anew, with the other version."""
        self.found = None


def _has_groups(place: Place) -> bool:
    """A user's own daemon puts its machines into none."""
    return place.kind.name in _KINDS and place.address.path == "/system"


def _running(connection: Any) -> list[Any]:
    try:
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    except libvirt.libvirtError:
        return []
    return list(domains[:MACHINES_ASKED_MAX])
