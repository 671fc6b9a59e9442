"""What the engine adds to a clone, and what an instant one saves; over real QEMU.

Plain `virsh` makes the same machine (an overlay, the same description, a start) and waits for the
same word of the same guest. Guests boot under emulation, so all of it is wall time; each side runs
in turn several times, and the shortest of each counts.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.table import Table

from tests.support.eventually import eventually
from tests.support.guest_machine import EnginePort
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_host import LibvirtHost
from tests.support.libvirt_lab import IMAGE, LibvirtLab, running_lab
from tools.guest import build

ROUNDS = 3
GOAL_READY = 1.2
GOAL_INSTANT = 5.0
GENEROUS_S = 600.0
BARE = "bare"
CHANNELS = "var/lib/libvirt/qemu/channel/target"
_Number = Callable[[int], Awaitable[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds, the shortest of ROUNDS. `bare_s`: with virsh; `linked_s`: by the engine.
    `boot_s`, `instant_s`: a whole desktop with X, until its display is served."""

    bare_s: float
    linked_s: float
    boot_s: float
    instant_s: float


# ---------------------------------------------------------------------------- by the engine


async def _by_engine(bench: Bench, number: int) -> float:
    """From asking for a machine to the greeting of its display; the machine goes again."""
    desktop = bench.desktop(number)
    begun = time.monotonic()
    await bench.engine.create(bench.case.operation(f"make_{number}", desktop, GENEROUS_S))
    wanted = (desktop.id, desktop.generation)
    await eventually(
        lambda: any((one.desktop_id, one.generation) == wanted for one in bench.heard),
        within_s=GENEROUS_S,
    )
    console = await bench.engine.console(desktop)
    await console.receive()
    took = time.monotonic() - begun
    await console.close()
    bench.heard.clear()
    await bench.engine.destroy(bench.case.operation(f"end_{number}", desktop, GENEROUS_S))
    return took


# ------------------------------------------------------------------------------- with virsh


def _virsh(host: LibvirtHost, *words: str) -> str:
    command = ["virsh", "-q", "-c", host.uri, *words]
    done = subprocess.run(command, check=True, timeout=GENEROUS_S, capture_output=True, text=True)
    return done.stdout


async def _description(bench: Bench) -> ET.Element:
    """What the engine writes for such a machine, for one that is called BARE."""
    desktop = bench.desktop(99)
    await bench.engine.create(bench.case.operation("make_99", desktop, GENEROUS_S))
    text = _virsh(bench.lab.first, "dumpxml", "--inactive", f"trivium-{desktop.id}")
    await bench.engine.destroy(bench.case.operation("end_99", desktop, GENEROUS_S))
    bench.heard.clear()
    root = ET.fromstring(text)
    for tag, value in (("name", BARE), ("uuid", str(uuid4()))):
        found = root.find(tag)
        assert found is not None
        found.text = value
    source = root.find("devices/disk/source")
    assert source is not None
    source.set("volume", f"{BARE}.qcow2")
    return root


def _with_virsh(host: LibvirtHost, described: Path) -> float:
    begun = time.monotonic()
    _virsh(host, "vol-create-as", "trivium", f"{BARE}.qcow2", "8M", "--format", "qcow2",
           "--backing-vol", f"{IMAGE}-v1.qcow2", "--backing-vol-format", "qcow2")  # fmt: skip
    _virsh(host, "define", str(described))
    _virsh(host, "start", BARE)
    [channel] = (host.root / CHANNELS).glob(f"*-{BARE}/*")
    port = EnginePort(channel)
    port.hello()
    port.identify("dsk_1", 1, name=BARE)
    took = time.monotonic() - begun
    port.close()
    _virsh(host, "destroy", BARE)
    _virsh(host, "undefine", BARE)
    _virsh(host, "vol-delete", "--pool", "trivium", f"{BARE}.qcow2")
    return took


# -------------------------------------------------------------------------------- measuring


async def _best(*works: _Number) -> list[float]:
    """The shortest of each; they take turns."""
    times = [[await work(number) for work in works] for number in range(ROUNDS)]
    return [min(column) for column in zip(*times, strict=True)]


async def _against_virsh(lab: LibvirtLab, directory: Path) -> list[float]:
    async with on_bench(lab, clone="linked") as bench:
        described = directory / "bare.xml"
        described.write_text(ET.tostring(await _description(bench), encoding="unicode"), "utf-8")
        return await _best(
            lambda _: asyncio.to_thread(_with_virsh, lab.first, described),
            lambda number: _by_engine(bench, number),
        )


async def _against_boot(lab: LibvirtLab) -> list[float]:
    for path in lab.first.guests.glob(f"{IMAGE}-v1.*"):
        path.unlink()
    shutil.copy(await asyncio.to_thread(build.image), lab.first.guests / f"{IMAGE}-v1.qcow2")
    async with on_bench(lab, clone="linked") as booted, on_bench(lab, clone="instant") as instant:
        await _by_engine(instant, 50)  # the golden desktop boots once
        return await _best(
            lambda number: _by_engine(booted, number),
            lambda number: _by_engine(instant, 20 + number),
        )


async def measure(directory: Path) -> Times:
    with running_lab() as lab:
        bare_s, linked_s = await _against_virsh(lab, directory)
        boot_s, instant_s = await _against_boot(lab)
    return Times(bare_s=bare_s, linked_s=linked_s, boot_s=boot_s, instant_s=instant_s)


def show(console: Console, times: Times) -> None:
    table = Table(title="Real clones under QEMU: seconds until ready")
    for heading in ("what", "against", "s", "took s", "ratio", "goal"):
        table.add_column(heading, justify="right")
    for what, against, floor_s, took_s, goal in (
        ("linked clone to ready", "virsh", times.bare_s, times.linked_s, f"≤ {GOAL_READY}"),
        ("instant clone to its display", "boot", times.boot_s, times.instant_s,
         f"≤ {1 / GOAL_INSTANT}"),
    ):  # fmt: skip
        ratio = f"{took_s / floor_s:.2f}"
        table.add_row(what, against, f"{floor_s:.1f}", f"{took_s:.1f}", ratio, goal)
    console.print(table)
