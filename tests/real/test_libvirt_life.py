"""Machines through what happens to them outside the broker's doing, with a guest inside."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import DesktopState, Resources
from broker.domain.settings import EQUAL_SHARES, Share
from broker.ports import Operation, PartialListError
from tests.support.engines import said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import LibvirtLab, connected


@pytest.fixture
async def bench(libvirt_lab: LibvirtLab) -> AsyncIterator[Bench]:
    async with on_bench(libvirt_lab) as bench:
        yield bench


async def test_what_a_person_left_is_kept_by_a_suspend_and_gone_after_a_reset(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    await bench.tell(desktop, "secret-of-the-first")
    await bench.engine.suspend(bench.case.operation("job_2", desktop))
    assert bench.lab.first.machine_pids() == {}
    await bench.engine.resume(bench.case.operation("job_3", desktop))
    await bench.ready(desktop)
    await eventually(lambda: bench.kept(desktop) == "secret-of-the-first")
    fresh = bench.desktop(generation=2)
    await bench.engine.reset(bench.case.operation("job_4", fresh))
    await bench.ready(fresh)
    await eventually(lambda: bench.kept(fresh) == "")
    disks = sorted(path.name for path in bench.lab.first.guests.glob("dsk_*"))
    assert disks == ["dsk_1-g2.qcow2"]


async def test_a_guest_that_starts_anew_by_itself_is_told_who_it_is_and_heard(bench: Bench) -> None:
    """Its machine and its port stay open meanwhile: nothing but its own greeting tells of it."""
    desktop = await bench.made()
    before = bench.engine.guest(desktop.id)
    assert before is not None
    with connected(bench.lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        domain.reset(0)
    await eventually(
        lambda: (now := bench.engine.guest(desktop.id)) and now.boot != before.boot,
        within_s=120,
    )
    assert bench.heard == []


async def test_a_machine_that_is_killed_is_told_of_and_can_be_started_again(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    [pid] = bench.lab.first.machine_pids().values()
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: said(bench.heard) == [("dsk_1", 1, False)])
    [machine] = await bench.engine.machines()
    assert (machine.running, machine.suspended) == (False, False)
    bench.heard.clear()
    await bench.engine.create(bench.case.operation("job_2", desktop))
    await bench.ready(desktop)


async def test_a_daemon_that_is_restarted_costs_no_machine_and_is_spoken_to_again(
    bench: Bench,
) -> None:
    desktop = await bench.made()
    bench.lab.first.stop()
    await eventually(lambda: bench.state(desktop) is None)
    bench.lab.first.start()
    await eventually(lambda: bench.state(desktop) is not None)
    assert bench.heard == []
    fresh = bench.desktop(generation=2)
    await bench.engine.reset(bench.case.operation("job_2", fresh))
    await bench.ready(fresh)


async def test_a_daemon_that_is_away_hides_the_machines_of_no_other_host(bench: Bench) -> None:
    await bench.made()
    bench.engine.features(bench.case.other)
    await eventually(lambda: bench.engine.features(bench.case.other))
    bench.lab.second.stop()
    with pytest.raises(PartialListError) as partial:
        await bench.engine.machines()
    assert [one.desktop_id for one in partial.value.machines] == ["dsk_1"]
    assert partial.value.silent == {bench.case.other.id}
    bench.lab.second.start()


async def test_a_machine_that_dies_while_its_daemon_is_away_is_told_of_afterwards(
    bench: Bench,
) -> None:
    await bench.made()
    bench.lab.first.stop(signal.SIGKILL)
    bench.lab.first.kill_machines()
    bench.lab.first.start()
    await eventually(lambda: said(bench.heard) == [("dsk_1", 1, False)])


async def test_a_host_that_hangs_holds_up_nobody_else_and_is_used_again(bench: Bench) -> None:
    there, other = bench.case.host, bench.case.other
    await bench.engine.adopt(bench.desktop(9), other)
    hung = bench.lab.second.pid
    os.kill(hung, signal.SIGSTOP)
    try:
        stuck = Operation(
            id="job_9", desktop=bench.desktop(9), host=other, image=bench.case.image, deadline_s=2
        )
        results = await asyncio.gather(
            *(bench.engine.create(stuck) for _ in range(20)), return_exceptions=True
        )
        assert {type(result) for result in results} == {EngineError}
        await bench.made()
        assert there.id != other.id
    finally:
        os.kill(hung, signal.SIGCONT)
    on_other = Operation(
        id="job_10", desktop=bench.desktop(9), host=other, image=bench.case.image, deadline_s=60
    )
    await bench.engine.create(on_other)
    await bench.ready(bench.desktop(9))


async def test_a_broker_that_starts_anew_lists_its_own_machines_and_no_others(
    libvirt_lab: LibvirtLab,
) -> None:
    async with on_bench(libvirt_lab) as bench:
        await bench.made()
    with connected(libvirt_lab.first) as connection:
        for name, tags in (
            ("somebody", ""),
            ("neighbour", "<desktop installation='ins_2' id='dsk_7' generation='1'/>"),
        ):
            domain = connection.defineXML(
                f"<domain type='qemu'><name>{name}</name><memory>65536</memory>"
                "<os><type>hvm</type></os></domain>"
            )
            if tags:
                domain.setMetadata(2, tags, "trivium", "urn:trivium:desktop:1", 2)
    async with on_bench(libvirt_lab) as bench:
        bench.engine.features(bench.case.host)
        [machine] = await bench.engine.machines()
        assert machine.desktop_id == "dsk_1"
        await eventually(lambda: bench.state(bench.desktop()) is not None)
        await bench.engine.discard(machine)
        assert await bench.engine.machines() == ()
    with connected(libvirt_lab.first) as connection:
        names = sorted(one.name() for one in connection.listAllDomains(0))
    assert names == ["neighbour", "somebody"]


async def test_a_machine_that_the_broker_does_not_know_is_removed_by_another_start(
    libvirt_lab: LibvirtLab,
) -> None:
    """A broker that died between making the machine and writing it down."""
    async with on_bench(libvirt_lab) as bench:
        await bench.engine.create(bench.case.operation("job_1", bench.desktop()))
    async with on_bench(libvirt_lab) as bench:
        bench.engine.features(bench.case.host)
        for machine in await bench.engine.machines():
            await bench.engine.discard(machine)
        assert await bench.engine.machines() == ()
        assert list(libvirt_lab.first.guests.glob("dsk_*")) == []


async def test_what_a_pool_promises_is_what_the_host_enforces(bench: Bench) -> None:
    desktop = bench.desktop(resources=Resources(cpus=1.5, memory_mib=256, disk_iops=400))
    operation = Operation(
        id="job_1", desktop=desktop, host=bench.case.host, image=bench.case.image,
        deadline_s=60, guarantee=Share(memory=0.5), weights=replace(EQUAL_SHARES, cpus=2.0),
    )  # fmt: skip
    assert operation.weights != EQUAL_SHARES
    await bench.engine.create(operation)
    await bench.ready(desktop)
    with connected(bench.lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        schedule = domain.schedulerParameters()
        assert (schedule["cpu_shares"], schedule["global_quota"]) == (768, 150_000)
        assert domain.memoryParameters(0)["soft_limit"] == 128 * 1024
        assert domain.blockIoTune("vda")["total_iops_sec"] == 400
    smaller = Resources(cpus=0.5, memory_mib=192)
    await bench.engine.resize(bench.case.operation("job_2", desktop), smaller)
    with connected(bench.lab.first) as connection:
        [domain] = connection.listAllDomains(0)
        assert domain.schedulerParameters()["global_quota"] == 50_000
        # the guest gives memory back page by page
        await eventually(lambda: domain.info()[2] == 192 * 1024)


@pytest.mark.parametrize("state", [DesktopState.READY, DesktopState.ASSIGNED])
async def test_a_restarted_broker_hears_the_guests_that_were_running(
    libvirt_lab: LibvirtLab, state: DesktopState
) -> None:
    async with on_bench(libvirt_lab) as bench:
        await bench.made()
    async with on_bench(libvirt_lab) as bench:
        desktop = bench.desktop(state=state)
        await bench.engine.adopt(desktop, bench.case.host)
        await eventually(lambda: bench.state(desktop) is not None)
        assert bench.heard == []
