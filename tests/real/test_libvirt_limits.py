"""What a pool lets its desktops take, as the host holds them to it: read back from libvirt."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest

from broker.domain.model import Desktop, Resources
from broker.domain.settings import EQUAL_SHARES, Limits, Share
from broker.engines.libvirt import describe
from broker.engines.libvirt.cpu_shares import Groups
from broker.engines.libvirt.tags import mac_address
from broker.engines.libvirt.tuning import Tuning
from broker.ports import Operation
from tests.contract.test_libvirt_profiles import spec
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import LibvirtLab, connected

SIZE = Resources(cpus=1.5, memory_mib=256, disk_iops=400)
LIMITS = Limits(disk_mib_s=20)
POOLS: dict[str, Any] = {
    "guarantee": Share(memory=0.5),
    "weights": replace(EQUAL_SHARES, cpus=2.0, disk=3.0),
    "limits": LIMITS,
    "share_pages": False,
}


@pytest.fixture(params=["linked", "instant"])
async def bench(libvirt_lab: LibvirtLab, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with on_bench(libvirt_lab, clone=request.param) as bench:
        yield bench


def operation(bench: Bench, job: str, desktop: Desktop, **changes: Any) -> Operation:
    return replace(bench.case.operation(job, desktop), **changes)


@contextlib.contextmanager
def machine(bench: Bench) -> Iterator[Any]:
    with connected(bench.lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        yield domain


def in_group(pid: int, controller: str, name: str) -> int:
    """A figure of the control group (version 1) that the kernel holds that machine to."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            machine = path.removesuffix("/emulator")
            return int(Path(f"/sys/fs/cgroup/{controller}{machine}/{name}").read_text().split()[-1])
    raise AssertionError(controller)


async def test_a_pools_limits_are_the_hosts_and_change_while_the_machine_runs(
    bench: Bench,
) -> None:
    desktop = bench.desktop(resources=SIZE)
    await bench.engine.create(operation(bench, "job_1", desktop, **POOLS))
    await bench.ready(desktop)
    with machine(bench) as domain:
        schedule = domain.schedulerParameters()
        assert (schedule["cpu_shares"], schedule["global_quota"]) == (768, 150_000)
        assert domain.memoryParameters(0)["soft_limit"] == 128 * 1024
        tune = domain.blockIoTune("vda")
        assert (tune["total_iops_sec"], tune["total_bytes_sec"]) == (400, 20 * 1024 * 1024)
    [pid] = bench.lab.first.machine_pids().values()
    assert b"mem-merge=off" in Path(f"/proc/{pid}/cmdline").read_bytes()  # noqa: ASYNC240
    assert in_group(pid, "cpu", "cpu.shares") == 768
    assert in_group(pid, "cpu", "cpu.cfs_quota_us") == 150_000
    assert in_group(pid, "memory", "memory.soft_limit_in_bytes") == 128 * 1024 * 1024
    assert in_group(pid, "blkio", "blkio.bfq.weight") == 300
    assert await bench.engine.drift(operation(bench, "job_1", desktop, **POOLS)) == ()

    # the pool was changed: its machines are asked to have the size that they have
    less = Limits(disk_mib_s=5)
    await bench.engine.resize(operation(bench, "job_2", desktop, limits=less), SIZE)
    with machine(bench) as domain:
        assert domain.schedulerParameters()["cpu_shares"] == 384
        assert domain.memoryParameters(0)["soft_limit"] == 9_007_199_254_740_991
        assert domain.blockIoTune("vda")["total_bytes_sec"] == 5 * 1024 * 1024
        # and so at its next start
        config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        assert domain.blockIoTune("vda", config)["total_bytes_sec"] == 5 * 1024 * 1024
        assert domain.schedulerParametersFlags(config)["cpu_shares"] == 384
    assert in_group(pid, "cpu", "cpu.shares") == 384
    assert in_group(pid, "blkio", "blkio.bfq.weight") == 100
    await bench.engine.resize(
        operation(bench, "job_3", desktop), replace(SIZE, disk_iops=0, cpus=1)
    )
    with machine(bench) as domain:
        assert domain.schedulerParameters()["global_quota"] == 100_000
        tune = domain.blockIoTune("vda")
        assert (tune["total_iops_sec"], tune["total_bytes_sec"]) == (0, 0)


async def test_a_desktop_that_slept_has_what_its_pool_lets_it_take_by_then(bench: Bench) -> None:
    desktop = bench.desktop(resources=SIZE)
    await bench.engine.create(operation(bench, "job_1", desktop, **POOLS))
    await bench.ready(desktop)
    await bench.engine.suspend(operation(bench, "job_2", desktop, **POOLS))
    now = {**POOLS, "limits": Limits(disk_mib_s=5), "weights": EQUAL_SHARES}
    await bench.engine.resume(operation(bench, "job_3", desktop, **now))
    await bench.ready(desktop)
    [pid] = bench.lab.first.machine_pids().values()
    assert in_group(pid, "cpu", "cpu.shares") == 384
    assert in_group(pid, "blkio", "blkio.bfq.weight") == 100
    assert in_group(pid, "memory", "memory.soft_limit_in_bytes") == 128 * 1024 * 1024
    with machine(bench) as domain:
        assert domain.blockIoTune("vda")["total_bytes_sec"] == 5 * 1024 * 1024
    assert await bench.engine.drift(operation(bench, "job_3", desktop, **now)) == ()


async def test_memory_is_given_back_through_the_balloon_and_its_guest_tells_how_much_is_free(
    bench: Bench,
) -> None:
    desktop = await bench.made(resources=SIZE)
    with machine(bench) as domain:
        await eventually(lambda: "unused" in domain.memoryStats())
        assert domain.memoryStats()["actual"] == 256 * 1024
        await bench.engine.resize(operation(bench, "job_2", desktop), replace(SIZE, memory_mib=192))
        await eventually(lambda: domain.memoryStats()["actual"] == 192 * 1024)
        await bench.engine.resize(operation(bench, "job_3", desktop), SIZE)
        await eventually(lambda: domain.memoryStats()["actual"] == 256 * 1024)


def test_a_networks_average_peak_and_burst_are_read_back_from_libvirt(
    libvirt_lab: LibvirtLab,
) -> None:
    """Of a machine that is off: what shapes the traffic of one that runs (sch_sfq) is missing in
    some kernels, among them small ones for tests."""
    size = replace(SIZE, network_mbit=80)
    limits = Limits(network_peak_mbit=160, network_burst_mib=4)
    machine = spec("qemu?network=default", resources=size, limits=limits)
    config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with connected(libvirt_lab.first) as connection:
        domain = connection.defineXML(describe.domain(machine))
        mac = mac_address(machine.uuid)

        def named() -> dict[str, int]:
            found: dict[str, int] = domain.interfaceParameters(mac, config)
            return {name: value for name, value in found.items() if value}

        assert named() == both_ways(average=9765, peak=19531, burst=4096)
        for one, wanted in (
            (Limits(), both_ways(average=9765)),
            (limits, both_ways(average=9765, peak=19531, burst=4096)),
        ):
            tuning = Tuning.of(size, Share(), EQUAL_SHARES, one, Groups.V1)
            tuning.apply(domain, config, cpus=1.5, mac=mac, cannot=libvirt.libvirtError)
            assert named() == wanted
        without = Tuning.of(SIZE, Share(), EQUAL_SHARES, Limits(), Groups.V1)
        without.apply(domain, config, cpus=1.5, mac=mac, cannot=libvirt.libvirtError)
        assert named() == {}


def both_ways(**values: int) -> dict[str, int]:
    return {
        f"{way}.{name}": value for way in ("inbound", "outbound") for name, value in values.items()
    }
