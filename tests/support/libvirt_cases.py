"""The libvirt engine as the contract runs it: over libvirt's test driver, and over QEMU."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import libvirt

from broker.domain.model import Resources
from broker.engines.libvirt import LibvirtEngine
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.events import run_events
from broker.engines.libvirt.knobs import parse_profile
from broker.engines.libvirt.route import Route
from broker.ports import GuestLinks
from broker.system import SystemChance, SystemClock, SystemIds
from tests.support.builders import make_host
from tests.support.engines import IMAGE, EngineCase
from tests.support.libvirt_lab import LibvirtLab, remove

INSTALLATION: Final = "ins_1"
_POOL: Final = "<pool type='dir'><name>trivium</name><target><path>/trivium</path></target></pool>"
_GOLDEN: Final = (
    f"<volume><name>{IMAGE.name}-v{IMAGE.version}.qcow2</name><capacity>1000000</capacity>"
    "<target><format type='qcow2'/></target></volume>"
)
_HELD: list[Any] = []
"""a connection: the test driver forgets its machines when the last one closes"""


def libvirt_engine(
    data: Path | None = None,
    *,
    installation_id: str = INSTALLATION,
    guest_links: GuestLinks | None = None,
) -> LibvirtEngine:
    return LibvirtEngine(
        clock=SystemClock(), chance=SystemChance(1), ids=SystemIds(),
        installation_id=installation_id, data=data, guest_links=guest_links,
    )  # fmt: skip


def libvirt_case(profile: str, other: str) -> EngineCase:
    host = make_host(engine="libvirt", profile=profile)
    return EngineCase(
        start=libvirt_engine,
        host=host,
        image=IMAGE,
        other=make_host(id="hst_2", name="server-2", engine="libvirt", profile=other),
        full=make_host(
            id="hst_3", name="server-3", engine="libvirt", profile=other,
            capacity=Resources(cpus=32, memory_mib=1024),
        ),
        displays=profile.startswith("qemu"),
    )  # fmt: skip


def libvirt_test_case() -> EngineCase:
    run_events()
    if not _HELD:
        connection = libvirt.open("test:///default")
        pool = connection.storagePoolDefineXML(_POOL)
        pool.create()
        pool.createXML(_GOLDEN)
        _HELD.append(connection)
    [connection] = _HELD
    for domain in connection.listAllDomains(0):
        remove(domain)
    pool = connection.storagePoolLookupByName("trivium")
    for volume in pool.listAllVolumes():
        if not volume.name().startswith(IMAGE.name):
            volume.delete()
    return libvirt_case("test", "test")


def libvirt_qemu_case(lab: LibvirtLab, **knobs: str) -> EngineCase:
    return libvirt_case(lab.profile(lab.first, **knobs), lab.profile(lab.second, **knobs))


@asynccontextmanager
async def driver_connection() -> AsyncIterator[HostConnection]:
    """A connection to libvirt's test driver, which is opened when it is used."""
    place = parse_profile("test")
    host = HostConnection(
        name="server-1",
        place=place,
        route=Route("server-1", place, None),
        clock=SystemClock(),
        chance=random.Random(1),
        happened=lambda _: None,
    )
    yield host
    await host.close()
