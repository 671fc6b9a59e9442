"""Instant clones: desktops that begin in the memory of one that was booted before."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from broker.guest_wire import FromGuest, Hello
from tests.support.engines import said
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import LibvirtLab


def heard_boots(bench: Bench) -> dict[str, set[str]]:
    """Desktop id -> the boots that its guest has told of."""
    boots: dict[str, set[str]] = defaultdict(set)

    def listen(_guest: object, said: FromGuest) -> None:
        if isinstance(said, Hello) and said.desktop_id.startswith("dsk_"):
            boots[said.desktop_id].add(said.boot_id)

    bench.engine.guests.on_said = listen
    return boots


async def test_clones_of_one_boot_are_desktops_of_their_own(libvirt_lab: LibvirtLab) -> None:
    libvirt_lab.forget_golden_desktops()
    async with on_bench(libvirt_lab, clone="instant") as bench:
        boots = heard_boots(bench)
        first, second = await bench.made(1), await bench.made(2)
        assert len(boots["dsk_1"] | boots["dsk_2"]) == 1
        await bench.tell(first, "the-first")
        await bench.tell(second, "the-second")
        assert bench.kept(first) == "the-first"
        listed = [(one.desktop_id, one.generation) for one in await bench.engine.machines()]
        assert listed == [("dsk_1", 1), ("dsk_2", 1)]
        fresh = bench.desktop(generation=2)
        await bench.engine.reset(bench.case.operation("job_9", fresh))
        await bench.ready(fresh)
        await eventually(lambda: bench.kept(fresh) == "")
        assert bench.kept(second) == "the-second"
        assert len(boots["dsk_1"] | boots["dsk_2"]) == 1


async def test_an_instant_clone_is_saved_resumed_and_moved_like_any_other(
    libvirt_lab: LibvirtLab,
) -> None:
    async with on_bench(libvirt_lab, clone="instant") as bench:
        desktop = await bench.made()
        await bench.tell(desktop, "mine")
        await bench.engine.suspend(bench.case.operation("job_2", desktop))
        await bench.engine.resume(bench.case.operation("job_3", desktop))
        await bench.ready(desktop)
        await bench.engine.migrate(bench.case.operation("job_4", desktop), bench.case.other)
        await eventually(lambda: bench.kept(desktop) == "mine")
        await bench.engine.destroy(bench.case.operation("job_5", desktop))
        assert await bench.engine.machines() == ()


async def test_a_golden_desktop_that_was_cut_short_is_made_again(
    libvirt_lab: LibvirtLab,
) -> None:
    libvirt_lab.forget_golden_desktops()
    async with on_bench(libvirt_lab, clone="instant") as bench:
        await bench.made()
        [memory] = libvirt_lab.first.guests.glob("*-golden-*.save")
        with memory.open("r+b") as file:
            file.write(b"LibvirtQemudPart")
        await bench.made(2)
        assert said(bench.heard) == []


async def test_a_golden_desktop_that_boots_longer_than_an_attempt_is_waited_for(
    libvirt_lab: LibvirtLab,
) -> None:
    libvirt_lab.forget_golden_desktops()
    async with on_bench(libvirt_lab, clone="instant") as bench:
        desktop = bench.desktop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await bench.engine.create(bench.case.operation("job_1", desktop))
        await eventually(lambda: goldens(libvirt_lab))
        [booting] = goldens(libvirt_lab)
        log = libvirt_lab.first.root / f"var/log/libvirt/qemu/{booting}.log"
        boots = log.read_text().count("starting up")
        await bench.engine.create(bench.case.operation("job_2", desktop))
        await bench.ready(desktop)
        assert log.read_text().count("starting up") == boots


async def test_how_displays_are_reached_is_the_clones_and_not_its_golden_desktops(
    libvirt_lab: LibvirtLab,
) -> None:
    libvirt_lab.forget_golden_desktops()
    async with on_bench(libvirt_lab, clone="instant") as bench:
        await bench.made(1)
    async with on_bench(libvirt_lab, clone="instant", spice="yes") as bench:
        desktop = await bench.made(2)
        for protocol in ("vnc", "spice"):
            console = await bench.engine.console(desktop, "ses_1", protocol)
            await console.close()
    assert len(list(libvirt_lab.first.guests.glob("*-golden-*.save"))) == 1


def goldens(lab: LibvirtLab) -> list[str]:
    """Golden desktops that run."""
    return [name for name in lab.first.machine_pids() if "-golden-" in name]
