"""Whole desktops, with a screen and Trivium's own agent, and many of them at once."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from broker.domain.model import Desktop, Resources
from broker.ports import Operation
from tests.support.engines import said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import IMAGE, LibvirtLab, connected, running_lab, two_networks
from tools.guest import build

GENEROUS_S = 400
MANY = 20
BRIDGE = "tvbr0"
NETWORK = f"<network><name>lan</name><forward mode='bridge'/><bridge name='{BRIDGE}'/></network>"
SIZE = Resources(cpus=1, memory_mib=256)

pytestmark = pytest.mark.timeout(GENEROUS_S)


@pytest.fixture(scope="module")
def school() -> Iterator[LibvirtLab]:
    """Hosts whose golden image is a whole desktop, with a network to put it on."""
    with two_networks() as networks, running_lab(networks) as lab:
        for path in lab.first.guests.glob(f"{IMAGE}-v1.*"):
            path.unlink()
        shutil.copy(build.image(), lab.first.guests / f"{IMAGE}-v1.qcow2")
        for host in (lab.first, lab.second):
            for words in (("add", BRIDGE, "type", "bridge"), ("set", BRIDGE, "up")):
                command = ["ip", "-n", host.netns, "link", *words]
                subprocess.run(command, check=True, timeout=30)
            with connected(host) as connection:
                connection.networkDefineXML(NETWORK).create()
        yield lab


def cards(lab: LibvirtLab, desktop: Desktop) -> set[str]:
    """The hardware addresses that the running machine has."""
    with connected(lab.first) as connection:
        described = connection.lookupByName(f"trivium-{desktop.id}").XMLDesc(0)
    return {
        line.split("'")[1] for line in described.splitlines() if line.strip().startswith("<mac ")
    }


def person(bench: Bench, desktop: Desktop) -> str | None:
    state = bench.state(desktop)
    return state.user if state is not None else None


async def test_a_whole_desktop_is_cloned_in_an_instant_with_its_person_and_its_own_card(
    school: LibvirtLab,
) -> None:
    async with on_bench(school, clone="instant", network="lan") as bench:
        made = []
        for number in (1, 2):
            desktop = bench.desktop(number, resources=SIZE)
            await bench.engine.create(bench.case.operation(f"job_{number}", desktop, 300))
            await bench.ready(desktop)
            made.append(desktop)
        for desktop in made:
            await eventually(lambda desktop=desktop: person(bench, desktop) == "person")  # type: ignore[misc]
        first, second = (cards(school, desktop) for desktop in made)
        assert (len(first), len(second), first & second) == (1, 1, set())


async def test_twenty_desktops_asked_for_at_once_are_all_ready_and_all_gone(
    libvirt_lab: LibvirtLab,
) -> None:
    async with on_bench(libvirt_lab, clone="instant") as bench:
        desktops = [bench.desktop(number, resources=SIZE) for number in range(1, MANY + 1)]

        def operation(verb: str, desktop: Desktop) -> Operation:
            return bench.case.operation(f"{verb}_{desktop.id}", desktop, GENEROUS_S)

        await asyncio.gather(*(bench.engine.create(operation("make", one)) for one in desktops))
        everybody = {(desktop.id, 1, True) for desktop in desktops}
        await eventually(lambda: set(said(bench.heard)) == everybody, within_s=GENEROUS_S)
        assert len(await bench.engine.machines()) == MANY
        await asyncio.gather(*(bench.engine.destroy(operation("end", one)) for one in desktops))
        assert await bench.engine.machines() == ()
        assert list(libvirt_lab.first.guests.glob("dsk_*")) == []
