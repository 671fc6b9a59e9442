"""Instant clones: desktops that begin in the memory of one that was booted before."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from broker.domain.errors import EngineError
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


async def test_a_golden_desktop_that_was_cut_short_is_made_again_and_clones_keep_theirs(
    libvirt_lab: LibvirtLab,
) -> None:
    libvirt_lab.forget_golden_desktops()
    guests = libvirt_lab.first.guests
    async with on_bench(libvirt_lab, clone="instant") as bench:
        first = await bench.made(1)
        await bench.tell(first, "mine")
        [disk], [memory] = guests.glob("*-golden-*.qcow2"), guests.glob("*-golden-*.save")
        before = disk.read_bytes()
        with disk.open("rb") as held:
            with memory.open("r+b") as file:
                file.write(b"LibvirtQemudPart")
            second = await bench.made(2)
            assert said(bench.heard) == []
            # what the first clone stands on is neither replaced nor written to
            assert os.fstat(held.fileno()).st_nlink == 1
            assert disk.read_bytes() == before
        assert not memory.exists()
        assert backing(guests / "dsk_1-g1.qcow2") == disk.name
        assert backing(guests / "dsk_2-g1.qcow2") != disk.name
        await bench.engine.suspend(bench.case.operation("job_3", first))
        await bench.engine.resume(bench.case.operation("job_4", first))
        await bench.ready(first)
        await eventually(lambda: bench.kept(first) == "mine")
        await bench.engine.destroy(bench.case.operation("job_5", first))
        [memory] = guests.glob("*-golden-*.save")
        memory.unlink()
        await bench.made(3)
        # the disk that nobody stands on any more goes, the other one stays
        left = {one.name for one in guests.glob("*-golden-*.qcow2")}
        stood_on = {backing(guests / f"{one}-g1.qcow2") for one in (second.id, "dsk_3")}
        assert left == stood_on
        assert len(left) == 2


@pytest.mark.parametrize("pause_s", [0.0, 3.0], ids=["at once", "while it boots"])
async def test_brokers_that_share_a_host_boot_one_golden_desktop_between_them(
    libvirt_lab: LibvirtLab, pause_s: float
) -> None:
    libvirt_lab.forget_golden_desktops()
    logs = libvirt_lab.first.root / "var/log/libvirt/qemu"
    boots = starts(logs)
    async with (
        on_bench(libvirt_lab, clone="instant") as one,
        on_bench(libvirt_lab, clone="instant") as other,
    ):

        async def make(bench: Bench, number: int, after_s: float) -> None:
            await asyncio.sleep(after_s)
            operation = bench.case.operation(f"job_{number}", bench.desktop(number))
            try:
                await bench.engine.create(operation)
            except EngineError as error:
                # both write into the memory's file at once: that is asked for again
                if "wake an instant clone" not in error.detail and "woke" not in error.detail:
                    raise
                await bench.engine.create(operation)
            await bench.ready(operation.desktop)

        await asyncio.gather(make(one, 1, 0), make(other, 2, pause_s))
    assert starts(logs) == boots + 1
    assert len(list(libvirt_lab.first.guests.glob("*-golden-*.qcow2"))) == 1


async def test_a_golden_desktop_that_boots_longer_than_an_attempt_is_waited_for(
    libvirt_lab: LibvirtLab,
) -> None:
    libvirt_lab.forget_golden_desktops()
    async with on_bench(libvirt_lab, clone="instant") as bench:
        desktop = bench.desktop()
        attempt = asyncio.ensure_future(bench.engine.create(bench.case.operation("job_1", desktop)))
        await eventually(lambda: goldens(libvirt_lab) or attempt.done())
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
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


def starts(logs: Path) -> int:
    """How often golden desktops were started."""
    return sum(one.read_text().count("starting up") for one in logs.glob("*-golden-*.log"))


def backing(disk: Path) -> str:
    """The name of the file that an overlay is on."""
    told = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", disk.name],
        cwd=disk.parent, check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    return Path(json.loads(told.stdout)["backing-filename"]).name
