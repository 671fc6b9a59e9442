"""The OpenStack engine as the contract runs it: over a real OpenStack whose computes pretend."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from broker.domain.model import Resources
from broker.engines.openstack import OpenStackEngine
from broker.ports import GuestLinks
from broker.system import SystemChance, SystemClock
from tests.support.builders import make_host
from tests.support.engines import IMAGE, EngineCase
from tests.support.openstack_files import COMPUTES
from tests.support.openstack_lab import OpenStackLab

INSTALLATION: Final = "ins_1"


def openstack_engine(
    lab: OpenStackLab,
    installation_id: str = INSTALLATION,
    clouds: Path | None = None,
    guest_links: GuestLinks | None = None,
) -> OpenStackEngine:
    """`clouds`: another account's."""
    return OpenStackEngine(
        clock=SystemClock(),
        chance=SystemChance(1),
        installation_id=installation_id,
        clouds=clouds or lab.clouds,
        guest_links=guest_links,
    )


def profile(compute: str = "", **knobs: str) -> str:
    """Of the lab's place of that name; without one, the cloud chooses."""
    given = {"cloud": "lab", "agent": "none"} | ({"host": compute} if compute else {}) | knobs
    return "nova?" + "&".join(f"{key}={value}" for key, value in given.items())


def openstack_case(lab: OpenStackLab) -> EngineCase:
    """`full` is a place of which the broker was given less than the cloud has."""
    first, second = (profile(compute) for compute in COMPUTES)
    return EngineCase(
        start=lambda: openstack_engine(lab),
        host=make_host(engine="openstack", profile=first),
        image=IMAGE,
        other=make_host(id="hst_2", name="server-2", engine="openstack", profile=second),
        full=make_host(
            id="hst_3", name="server-3", engine="openstack", profile=second,
            capacity=Resources(cpus=32, memory_mib=1024),
        ),
    )  # fmt: skip
