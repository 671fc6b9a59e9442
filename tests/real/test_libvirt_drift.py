"""Machines that somebody changed at their host, by hand as with virsh, are found out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import libvirt
import pytest

from broker.domain.drift import Difference
from broker.domain.model import Resources
from broker.domain.settings import EQUAL_SHARES, Limits, Share
from broker.ports import Operation
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import LibvirtLab, connected

SIZE = Resources(cpus=1.5, memory_mib=256, disk_iops=400)
POOLS: dict[str, Any] = {
    "guarantee": Share(memory=0.5),
    "weights": replace(EQUAL_SHARES, cpus=2.0, disk=2.0),
    "limits": Limits(disk_mib_s=20),
    "share_pages": False,
}
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE


@pytest.fixture(params=["linked", "instant"])
async def bench(libvirt_lab: LibvirtLab, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with on_bench(libvirt_lab, clone=request.param) as bench:
        yield bench


@contextmanager
def by_hand(bench: Bench) -> Iterator[Any]:
    with connected(bench.lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        yield domain


async def test_a_machine_is_what_it_should_be_until_somebody_changes_it(bench: Bench) -> None:
    desktop = bench.desktop(resources=SIZE)
    wanted: Operation = replace(bench.case.operation("job_1", desktop), **POOLS)
    await bench.engine.create(wanted)
    await bench.ready(desktop)
    assert await bench.engine.drift(wanted) == ()

    with by_hand(bench) as domain:
        domain.setSchedulerParametersFlags({"global_quota": 50_000}, LIVE)
        domain.setBlockIoTune("vda", {"total_iops_sec": 0}, LIVE)
        spare = bench.lab.first.guests / "spare.raw"
        spare.write_bytes(bytes(1024 * 1024))
        domain.attachDeviceFlags(
            f"<disk type='file' device='disk'><source file='{spare}'/>"
            "<target dev='vdb' bus='virtio'/></disk>",
            LIVE,
        )
        found = await bench.engine.drift(wanted)
        assert found == (
            Difference(what="CPUs", found="0.5", wanted="1.5"),
            Difference(what="disk vda, total_iops_sec", found="", wanted="400"),
            Difference(what="disk vdb", found=str(spare), wanted=""),
        )
        domain.setMemoryFlags(192 * 1024, LIVE)
        await eventually(lambda: domain.info()[2] == 192 * 1024)
        memory = Difference(what="memory", found="192 MiB", wanted="256 MiB")
        assert memory in await bench.engine.drift(wanted)

    # a desktop that was resized is held against its new size
    smaller = replace(SIZE, cpus=0.5, memory_mib=192, disk_iops=0)
    now = replace(wanted, desktop=replace(desktop, resources=smaller))
    assert [one.what for one in await bench.engine.drift(now)] == [
        "CPU weight", "disk vdb", "guaranteed memory",
    ]  # fmt: skip


async def test_one_that_was_saved_and_resumed_or_moved_has_not_changed(bench: Bench) -> None:
    desktop = await bench.made()
    wanted = bench.case.operation("job_1", desktop)
    assert await bench.engine.drift(wanted) == ()
    await bench.engine.suspend(bench.case.operation("job_2", desktop))
    assert await bench.engine.drift(wanted) == ()
    await bench.engine.resume(bench.case.operation("job_3", desktop))
    await bench.ready(desktop)
    assert await bench.engine.drift(wanted) == ()
