"""What a desktop may send and receive while it runs, as the kernel holds its network card to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import Resources
from broker.domain.settings import Limits
from broker.engines.libvirt import xml
from tests.support.libvirt_bench import on_bench
from tests.support.libvirt_lab import LibvirtLab, connected, running_lab, two_networks

BRIDGE = "tvbr0"
NETWORK = f"<network><name>lan</name><forward mode='bridge'/><bridge name='{BRIDGE}'/></network>"
SIZE = Resources(cpus=1, memory_mib=256, network_mbit=80)
LIMITS = Limits(network_peak_mbit=160, network_burst_mib=4)

# small kernels lack what libvirt puts on top of the shaper (sch_sfq, cls_fw) and the meter of what
# the machine sends (act_police); of these only what libvirt asks for is seen, the shaper is real
TC = """#!/bin/sh
echo "$@" >>"{told}"
case "$*" in
*" sfq "*) exec {tc} qdisc add dev "$4" parent "$6" handle "$8" pfifo ;;
*" police "* | *" fw "*) exit 0 ;;
*) exec {tc} "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the daemons had tc do, a line each."""
    return tmp_path_factory.mktemp("tc") / "told"


@pytest.fixture(scope="module")
def lab(told: Path) -> Iterator[LibvirtLab]:
    shim = told.parent / "tc"
    shim.write_text(TC.format(told=told, tc=shutil.which("tc")))
    shim.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, two_networks() as networks:
        patch.setenv("PATH", f"{told.parent}:{os.environ['PATH']}")
        with running_lab(networks) as lab:
            for host in (lab.first, lab.second):
                for words in (("add", BRIDGE, "type", "bridge"), ("set", BRIDGE, "up")):
                    subprocess.run(["ip", "-n", host.netns, "link", *words], check=True, timeout=30)
                with connected(host) as connection:
                    connection.networkDefineXML(NETWORK).create()
            yield lab


def shaped(lab: LibvirtLab) -> list[str]:
    """The classes of the kernel's shaper on the running machine's card."""
    with connected(lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        target = xml.parse(domain.XMLDesc(0)).find("devices/interface/target")
    assert target is not None
    found = subprocess.run(
        ["tc", "-n", lab.first.netns, "class", "show", "dev", target.get("dev", "")],
        check=True, timeout=30, capture_output=True, text=True,
    )  # fmt: skip
    return found.stdout.splitlines()


@pytest.mark.parametrize("clone", ["linked", "instant"])
async def test_average_peak_and_burst_are_the_kernels_and_change_while_the_machine_runs(
    lab: LibvirtLab, told: Path, clone: str
) -> None:
    lab.clear()
    async with on_bench(lab, clone=clone, network="lan") as bench:
        desktop = bench.desktop(resources=SIZE)
        wanted = replace(bench.case.operation("job_1", desktop), limits=LIMITS)
        await bench.engine.create(wanted)
        await bench.ready(desktop)
        [found] = shaped(lab)
        # what comes to the machine: 80 and 160 Mbit/s in whole KiB/s, and 4 MiB; then what it sends
        assert "rate 78120Kbit ceil 156248Kbit burst 4Mb" in found
        assert "police rate 9765kbps burst 4096kb" in told.read_text()  # noqa: ASYNC240
        assert await bench.engine.drift(wanted) == ()
        now = replace(bench.case.operation("job_2", desktop), limits=Limits())
        await bench.engine.resize(now, SIZE)
        [found] = shaped(lab)
        assert "rate 78120Kbit ceil 78120Kbit" in found
        assert await bench.engine.drift(now) == ()
        free = replace(SIZE, network_mbit=0)
        await bench.engine.resize(bench.case.operation("job_3", desktop), free)
        assert shaped(lab) == []
        await bench.engine.destroy(bench.case.operation("job_4", desktop))


@pytest.mark.parametrize("verb", ["create", "reset"])
async def test_an_instant_clone_that_woke_without_its_card_gets_it_when_it_is_asked_for_again(
    lab: LibvirtLab, verb: str
) -> None:
    lab.clear()
    async with on_bench(lab, clone="instant", network="lan") as bench:
        desktop = bench.desktop()
        operation = bench.case.operation("job_1", desktop)
        with connected(lab.first) as connection:
            network = connection.networkLookupByName("lan")
            network.destroy()
            try:
                with pytest.raises(EngineError):
                    await getattr(bench.engine, verb)(operation)
            finally:
                network.create()
            [domain] = connection.listAllDomains(0)
            assert cards(domain) == []
            await getattr(bench.engine, verb)(operation)
            await bench.ready(desktop)
            [card] = cards(domain)
            # and no second one, however often it is asked for
            again = bench.case.operation("job_2", desktop)
            await getattr(bench.engine, verb)(again)
            await bench.ready(desktop)
            assert cards(domain) == [card]
        await bench.engine.destroy(bench.case.operation("job_3", desktop))


def cards(domain: Any) -> list[str]:
    """The addresses of its network cards as it runs."""
    found = xml.parse(domain.XMLDesc(0)).iterfind("devices/interface/mac")
    return [one.get("address", "") for one in found]
