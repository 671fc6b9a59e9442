"""What desktops want more of than there is, as the kernel divides it: CPUs by guarantee and weight,
memory by keeping equal pages once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.domain.model import Desktop, Resources
from broker.domain.settings import EQUAL_SHARES, Share
from tests.real.test_libvirt_limits import operation
from tests.support.eventually import eventually
from tests.support.libvirt_bench import Bench, on_bench
from tests.support.libvirt_lab import LibvirtLab

SIZE = Resources(cpus=1, memory_mib=256)
KSM = Path("/sys/kernel/mm/ksm")
MEASURED_S = 2.0
"""of one processor, that the busy ones have had together"""


def pid_of(bench: Bench, desktop: Desktop) -> int:
    return bench.lab.first.machine_pids()[f"trivium-{desktop.id}"]


def group_of(pid: int) -> Path:
    """The machine's group of the CPU controller (version 1)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return Path(f"/sys/fs/cgroup/cpu{path.removesuffix('/emulator')}")
    raise AssertionError(pid)


def used_s(pid: int) -> float:
    """Processor time that a process has had."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def busy(*groups: Path) -> Iterator[list[int]]:
    """A process in each group that wants all of one and the same processor."""
    processes: list[subprocess.Popen[bytes]] = []
    processor = str(min(os.sched_getaffinity(0)))
    try:
        for group in groups:
            loop = "import os,sys\nos.sched_setaffinity(0,{int(sys.argv[1])})\nwhile True: pass"
            one = subprocess.Popen([sys.executable, "-c", loop, processor])
            processes.append(one)
            (group / "cgroup.procs").write_text(str(one.pid))
        yield [one.pid for one in processes]
    finally:
        for one in processes:
            one.kill()
            one.wait()


@pytest.mark.parametrize("clone", ["linked", "instant"])
async def test_busy_desktops_get_what_they_are_guaranteed_and_divide_the_rest_by_weight(
    libvirt_lab: LibvirtLab, clone: str
) -> None:
    async with on_bench(libvirt_lab, clone=clone) as bench:
        pools: tuple[dict[str, Any], ...] = (
            {"guarantee": Share(cpus=1.0)}, {},
            {"weights": replace(EQUAL_SHARES, cpus=4.0)},
        )  # fmt: skip
        desktops = []
        for number, pool in enumerate(pools, 1):
            desktop = bench.desktop(number, resources=SIZE)
            await bench.engine.create(operation(bench, f"job_{number}", desktop, **pool))
            await bench.ready(desktop)
            desktops.append(desktop)
        promised, usual, heavy = (group_of(pid_of(bench, one)) for one in desktops)
        for first, second, low, high in ((promised, usual, 8, 100), (heavy, usual, 2, 8)):
            with busy(first, second) as (one, other):
                begun = used_s(one), used_s(other)
                await eventually(
                    lambda one=one, other=other, begun=begun: (  # type: ignore[misc]
                        used_s(one) + used_s(other) - sum(begun) > MEASURED_S
                    )
                )
                ratio = (used_s(one) - begun[0]) / max(used_s(other) - begun[1], 0.001)
            # 32 to 1, and 4 to 1
            assert low < ratio < high


@contextlib.contextmanager
def sharing_pages() -> Iterator[None]:
    """The kernel looks for equal pages, quickly; afterwards as it did before."""
    wanted = {"pages_to_scan": "20000", "sleep_millisecs": "20", "run": "1"}
    before = {name: (KSM / name).read_text() for name in wanted}
    try:
        for name, value in wanted.items():
            (KSM / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            (KSM / name).write_text(value)


def merged(pid: int) -> int:
    """Pages of a process that the kernel keeps once for it and others."""
    return int(Path(f"/proc/{pid}/ksm_merging_pages").read_text())


@pytest.mark.skipif(not (KSM / "run").exists(), reason="the kernel keeps no equal pages once")
@pytest.mark.parametrize("clone", ["linked", "instant"])
async def test_equal_memory_is_kept_once_but_for_desktops_that_share_with_nobody(
    libvirt_lab: LibvirtLab, clone: str
) -> None:
    async with on_bench(libvirt_lab, clone=clone) as bench:
        desktops = [bench.desktop(number, resources=SIZE) for number in (1, 2, 3)]
        for number, desktop in enumerate(desktops, 1):
            alone = number == 3
            await bench.engine.create(
                operation(bench, f"job_{number}", desktop, share_pages=not alone)
            )
            await bench.ready(desktop)
        first, second, alone_pid = (pid_of(bench, one) for one in desktops)
        with sharing_pages():
            await eventually(lambda: merged(first) > 1000 and merged(second) > 1000)
            condition = await bench.engine.condition(bench.case.host)
            assert condition.page_sharing is not None
            assert condition.page_sharing.on
            assert (condition.page_sharing.saved or 0) > 0
            assert merged(alone_pid) == 0
