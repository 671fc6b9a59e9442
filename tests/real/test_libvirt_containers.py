"""Container desktops: what is in them, what they may take, and what outlives their daemon."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt

from broker.domain.model import Resources
from broker.domain.settings import EQUAL_SHARES, Share
from broker.engines.libvirt.events import run_events
from broker.engines.libvirt.tuning import UNLIMITED_KIB
from tests.real.test_libvirt_limits import in_group
from tests.support.builders import make_desktop
from tests.support.engines import listening, said
from tests.support.eventually import eventually
from tests.support.libvirt_cases import libvirt_engine
from tests.support.libvirt_containers import container_uri, containers_case
from tests.support.libvirt_lab import LibvirtLab

SMALL = Resources(cpus=0.5, memory_mib=64)


@contextlib.contextmanager
def the_container(lab: LibvirtLab) -> Iterator[Any]:
    run_events()
    with contextlib.closing(libvirt.open(container_uri(lab.first))) as connection:
        [domain] = connection.listAllDomains(0)
        yield domain


def init_of(controller: int) -> int:
    """The process that is 1 within the container."""
    children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    return int(children[0])


def root_of(lab: LibvirtLab) -> Path:
    """The container's root as this machine sees it."""
    with the_container(lab) as domain:
        return Path(f"/proc/{init_of(domain.ID())}/root")


async def test_what_was_written_is_kept_by_a_stop_and_gone_after_a_reset(
    container_lab: LibvirtLab,
) -> None:
    case = containers_case(container_lab)
    desktop = make_desktop(resources=SMALL)
    async with listening(engine := libvirt_engine()) as heard:
        await engine.create(case.operation("job_1", desktop))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)])
        (root_of(container_lab) / "etc/secret").write_text("of the first")
        with the_container(container_lab) as domain:
            domain.destroy()
        await eventually(lambda: said(heard)[-1] == ("dsk_1", 1, False))
        await engine.resume(case.operation("job_2", desktop))
        await eventually(lambda: said(heard)[-1] == ("dsk_1", 1, True))
        assert (root_of(container_lab) / "etc/secret").read_text() == "of the first"
        fresh = make_desktop(resources=SMALL, generation=2)
        await engine.reset(case.operation("job_3", fresh))
        await eventually(lambda: said(heard)[-1] == ("dsk_1", 2, True))
        assert not (root_of(container_lab) / "etc/secret").exists()
        assert (root_of(container_lab) / "bin/busybox").exists()
        disks = sorted(path.name for path in container_lab.first.guests.glob("dsk_*"))
        assert disks == ["dsk_1-g2.raw"]


async def test_a_container_takes_what_its_size_says_and_what_it_is_resized_to(
    container_lab: LibvirtLab,
) -> None:
    case = containers_case(container_lab)
    desktop = make_desktop(resources=SMALL)
    async with listening(engine := libvirt_engine()):
        await engine.create(case.operation("job_1", desktop))
        with the_container(container_lab) as domain:
            assert domain.schedulerParameters()["vcpu_quota"] == 50_000
            assert domain.memoryParameters(0)["hard_limit"] == 64 * 1024
        smaller = Resources(cpus=0.25, memory_mib=32)
        await engine.resize(case.operation("job_2", desktop), smaller)
        with the_container(container_lab) as domain:
            assert domain.schedulerParameters()["vcpu_quota"] == 25_000
            assert domain.memoryParameters(0)["hard_limit"] == 32 * 1024


async def test_a_container_is_held_to_what_its_pool_says_and_says_anew(
    container_lab: LibvirtLab,
) -> None:
    case = containers_case(container_lab)
    desktop = make_desktop(resources=SMALL)
    first = {
        "guarantee": Share(cpus=1.0, memory=0.5), "weights": replace(EQUAL_SHARES, disk=3.0),
    }  # fmt: skip

    def held() -> tuple[int, ...]:
        """The kernel's figures of its group, of either controller."""
        with the_container(container_lab) as domain:
            pid = init_of(domain.ID())
        return (
            in_group(pid, "cpu", "cpu.shares"),
            in_group(pid, "memory", "memory.soft_limit_in_bytes"),
            in_group(pid, "blkio", "blkio.bfq.weight"),
        )

    async with listening(engine := libvirt_engine()):
        await engine.create(replace(case.operation("job_1", desktop), **first))  # type: ignore[arg-type]
        assert held() == (32 * 128, 32 * 1024 * 1024, 300)
        await engine.resize(case.operation("job_2", desktop), SMALL)
        shares, _, weight = held()
        assert (shares, weight) == (128, 100)
        with the_container(container_lab) as domain:
            assert domain.memoryParameters(0)["soft_limit"] == UNLIMITED_KIB


async def test_a_daemon_that_is_restarted_costs_no_container(container_lab: LibvirtLab) -> None:
    case = containers_case(container_lab)
    async with listening(engine := libvirt_engine()) as heard:
        await engine.create(case.operation("job_1", make_desktop(resources=SMALL)))
        await eventually(lambda: said(heard) == [("dsk_1", 1, True)])
        container_lab.first.stop()
        container_lab.first.start()
        await eventually(lambda: engine.features(case.host))
        [machine] = await engine.machines()
        assert machine.running
        assert said(heard) == [("dsk_1", 1, True)]
        await engine.destroy(case.operation("job_2", make_desktop(resources=SMALL)))
        assert await engine.machines() == ()
