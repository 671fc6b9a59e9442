"""What the engine adds to a clone, and what an instant one saves, over real QEMU.

- Clone to ready: plain `qemu-img`, `virsh define` and `virsh start` make the same machine on the
  same daemon, and wait for the same word of the same guest at the same port.
- Clone to first frame: from asking for a desktop to the first picture over VNC in which its
  person's terminal and clock are; of one that boots, and of one that resumes.

Both are what a person waits for, so wall time is compared, of runs that take turns; processor time
is that of daemon, machine and maker together.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4
from xml.etree import ElementTree as ET

import psutil
from rich.console import Console
from rich.table import Table

from broker.domain.model import Desktop
from tests.bench.goals import Misses, at_most
from tests.support.engines import said
from tests.support.eventually import eventually
from tests.support.guest_machine import EnginePort, Screen
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import LibvirtLab, connected, running_lab
from tests.support.real_school import DESKTOP
from tests.support.rfb import Display, display_at
from tools.guest import build

ROUNDS: Final = 3
GOAL_READY: Final = 1.2
GOAL_FRAME: Final = 5.0
GENEROUS_S: Final = 600.0
ALIKE: Final = 0.02
"""mean difference of two pictures of one desktop: a clock ticks"""
STEP: Final = 97
"""of so many pixels one is compared"""
LOOK: Final = 0.03
"""pause between two looks, as a part of the time so far: a look keeps the machine from its work"""
BARE: Final = "bare"
PORTS: Final = "var/lib/libvirt/qemu/channel/target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """Seconds of one way: the median of ROUNDS."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """`bare`, `linked`: to ready, with virsh and by the engine. `booted`, `resumed`: to the first
    frame, of a linked and of an instant clone."""

    bare: Took
    linked: Took
    booted: Took
    resumed: Took


Way = Callable[[int], Awaitable[Took]]
"""makes a machine, measures, and removes it; the number tells machines apart"""


class _Watch:
    """Wall and processor time since it was made."""

    def __init__(self, host: LibvirtHost) -> None:
        self._host = host
        self._there = set(host.machine_pids().values())
        self._begun = time.monotonic(), self._spent()

    def _spent(self) -> float:
        """Of this process, what it started and has ended, and the daemon."""
        own, daemon = os.times(), psutil.Process(self._host.pid).cpu_times()
        return sum(own[:4]) + daemon.user + daemon.system

    def took(self) -> Took:
        wall_s = time.monotonic() - self._begun[0]
        spent = self._spent() - self._begun[1]
        for pid in set(self._host.machine_pids().values()) - self._there:
            machine = psutil.Process(pid).cpu_times()
            spent += machine.user + machine.system
        return Took(wall_s=wall_s, cpu_s=spent)


# ---------------------------------------------------------------------------- by the engine


@asynccontextmanager
async def _bench(lab: LibvirtLab, clone: str) -> AsyncIterator[Bench]:
    """An engine whose desktops are clones of the whole one, of an installation of its own: two
    of one would both listen to every machine."""
    async with on_bench(lab, installation_id=f"ins_{clone}", clone=clone) as bench:
        bench.case = replace(bench.case, image=replace(bench.case.image, name=DESKTOP))
        yield bench


async def _made(bench: Bench, desktop: Desktop) -> None:
    await bench.engine.create(bench.case.operation(f"make_{desktop.id}", desktop, GENEROUS_S))


async def _gone(bench: Bench, desktop: Desktop) -> None:
    await bench.engine.destroy(bench.case.operation(f"end_{desktop.id}", desktop, GENEROUS_S))
    bench.heard.clear()


async def _ready(bench: Bench, desktop: Desktop) -> None:
    wanted = (desktop.id, desktop.generation, True)
    await eventually(lambda: wanted in said(bench.heard), within_s=GENEROUS_S)


async def _to_ready(bench: Bench, number: int) -> Took:
    desktop = bench.desktop(number)
    watch = _Watch(bench.lab.first)
    await _made(bench, desktop)
    await _ready(bench, desktop)
    took = watch.took()
    await _gone(bench, desktop)
    return took


async def _to_frame(bench: Bench, number: int, model: Screen) -> Took:
    desktop = bench.desktop(number)
    watch = _Watch(bench.lab.first)
    await _made(bench, desktop)
    async with asyncio.timeout(GENEROUS_S), display_at(bench.engine, desktop) as display:
        while not _alike(await display.look(), model):
            await asyncio.sleep(LOOK * watch.took().wall_s)
    took = watch.took()
    await _gone(bench, desktop)
    return took


async def _model(bench: Bench, number: int) -> Screen:
    """What such a desktop shows when it is ready and nobody has touched it."""
    desktop = bench.desktop(number)
    await _made(bench, desktop)
    await _ready(bench, desktop)
    async with display_at(bench.engine, desktop) as display:
        model = await _settled(display)
    await _gone(bench, desktop)
    return model


async def _settled(display: Display) -> Screen:
    seen = await display.look()
    while True:
        await asyncio.sleep(2)
        before, seen = seen, await display.look()
        if _alike(before, seen):
            return seen


def _alike(one: Screen, other: Screen) -> bool:
    """Every pixel that is compared is one byte of its three colours."""
    if (one.width, one.height) != (other.width, other.height):
        return False
    pairs = list(zip(one.pixels[::STEP], other.pixels[::STEP], strict=True))
    return sum(abs(a - b) for a, b in pairs) / len(pairs) / 255 < ALIKE


# ------------------------------------------------------------------------------- with virsh


def _run(*words: str) -> str:
    done = subprocess.run(words, check=True, timeout=GENEROUS_S, capture_output=True, text=True)
    return done.stdout


def _virsh(host: LibvirtHost, *words: str) -> str:
    return _run("virsh", "-q", "-c", host.uri, *words)


async def _description(bench: Bench, into: Path) -> Path:
    """The file of what the engine writes for such a machine, but of one called BARE that it does
    not know, with a plain file for a disk."""
    desktop, host = bench.desktop(90), bench.lab.first
    await _made(bench, desktop)
    root = ET.fromstring(_virsh(host, "dumpxml", "--inactive", f"trivium-{desktop.id}"))
    await _ready(bench, desktop)
    await _gone(bench, desktop)
    tags, disk = root.find("metadata"), root.find("devices/disk")
    assert tags is not None
    assert disk is not None
    root.remove(tags)
    for tag, text in (("name", BARE), ("uuid", str(uuid4()))):
        found = root.find(tag)
        assert found is not None
        found.text = text
    disk.set("type", "file")
    source = disk.find("source")
    assert source is not None
    source.attrib.clear()
    source.set("file", str(_bare_disk(host)))
    described = into / "bare.xml"
    described.write_text(ET.tostring(root, encoding="unicode"), encoding="utf-8")
    return described


def _bare_disk(host: LibvirtHost) -> Path:
    return host.guests / f"{BARE}.qcow2"


def _with_virsh(host: LibvirtHost, described: Path) -> Took:
    golden = host.guests / f"{DESKTOP}-v1.qcow2"
    watch = _Watch(host)
    _run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(golden),
         str(_bare_disk(host)))  # fmt: skip
    _virsh(host, "define", str(described))
    _virsh(host, "start", BARE)
    [channel] = (host.root / PORTS).glob(f"*-{BARE}/*")
    port = EnginePort(channel)
    port.hello()
    port.identify("dsk_bare", 1, name=BARE)
    took = watch.took()
    port.close()
    _virsh(host, "destroy", BARE)
    _virsh(host, "undefine", BARE)
    _bare_disk(host).unlink()
    return took


# -------------------------------------------------------------------------------- measuring


async def _in_turn(*ways: Way) -> list[Took]:
    """The median of each."""
    rounds = [[await way(number) for way in ways] for number in range(1, ROUNDS + 1)]
    return [
        Took(
            wall_s=statistics.median(one.wall_s for one in of_one),
            cpu_s=statistics.median(one.cpu_s for one in of_one),
        )
        for of_one in zip(*rounds, strict=True)
    ]


async def _measured(lab: LibvirtLab, directory: Path) -> Figures:
    image = await asyncio.to_thread(build.image)
    shutil.copy(image, lab.first.guests / f"{DESKTOP}-v1.qcow2")
    with connected(lab.first) as connection:
        connection.storagePoolLookupByName("trivium").refresh()
    async with _bench(lab, "linked") as booting, _bench(lab, "instant") as resuming:
        described = await _description(booting, directory)
        bare, linked = await _in_turn(
            lambda _: asyncio.to_thread(_with_virsh, lab.first, described),
            lambda number: _to_ready(booting, number),
        )
        # the golden desktop boots once, for the first of all clones
        model = await _model(resuming, 91)
        booted, resumed = await _in_turn(
            lambda number: _to_frame(booting, 10 + number, model),
            lambda number: _to_frame(resuming, 20 + number, model),
        )
    return Figures(bare=bare, linked=linked, booted=booted, resumed=resumed)


async def measure(directory: Path) -> Figures:
    with running_lab() as lab:
        return await _measured(lab, directory)


def show(console: Console, figures: Figures) -> Misses:
    table = Table(title=f"Real desktops under QEMU: the median of {ROUNDS}, in turn")
    for heading in ("what", "wall s", "CPU s", "ratio of wall", "of CPU", "goal of wall"):
        table.add_column(heading, justify="right")
    for name, took, floor, goal in (
        ("ready, with virsh", figures.bare, None, ""),
        ("ready, a linked clone", figures.linked, figures.bare, f"≤ {GOAL_READY}"),
        ("first frame, booted", figures.booted, None, ""),
        ("first frame, an instant clone", figures.resumed, figures.booted,
         f"≤ {1 / GOAL_FRAME:g}"),
    ):  # fmt: skip
        ratios = ["", ""]
        if floor is not None:
            ratios = [f"{took.wall_s / floor.wall_s:.2f}", f"{took.cpu_s / floor.cpu_s:.2f}"]
        table.add_row(name, f"{took.wall_s:.2f}", f"{took.cpu_s:.2f}", *ratios, goal)
    console.print(table)
    ready = figures.linked.wall_s / figures.bare.wall_s
    frame = figures.resumed.wall_s / figures.booted.wall_s
    return at_most("clone to ready", ready, GOAL_READY) + at_most(
        "an instant clone's first frame", frame, 1 / GOAL_FRAME
    )
