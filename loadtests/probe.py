"""The machine before a campaign: what it is, how late it wakes, how fast its generator can be."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from loadtests.histograms import Histogram
from loadtests.limits import CEILING_S, HICCUP_S, HICCUP_SLEEP_S

PACKAGES = ("locust", "gevent", "geventhttpclient", "hdrhistogram", "msgspec", "psutil", "trivium")
CEILING_PROCESS_S = CEILING_S + 20.0
"""for the ceiling's process, its start included"""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """Requests answered in `seconds`, and the generator's own CPU for each (loadtests.ceiling)."""

    requests: int
    errors: int
    seconds: float
    requests_per_s: float
    cpu_us_per_request: float


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The card of the machine that made the load. No name and no path of it."""

    cpu_model: str
    cpus: int
    memory_gib: float
    kernel: str
    python: str
    packages: dict[str, str]
    open_files_max: int
    clock: str
    cgroup_cpu: str
    load_1_min: float


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """`hiccups_ms`: percentile → how much later than asked a sleep of 1 ms returned."""

    machine: Machine
    hiccups_ms: dict[str, float]
    ceiling: Ceiling | None


def probe(url: str) -> Probe:
    """Takes about two seconds. The ceiling is None where the broker does not answer."""
    return Probe(machine=machine_card(), hiccups_ms=hiccups(HICCUP_S), ceiling=_ceiling(url))


def machine_card() -> Machine:
    return Machine(
        cpu_model=_cpu_model(),
        cpus=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: found for name in PACKAGES if (found := _version(name))},
        open_files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        clock=_first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        cgroup_cpu=_first_line("/sys/fs/cgroup/cpu.max"),
        load_1_min=round(os.getloadavg()[0], 2),
    )


def hiccups(seconds: float) -> dict[str, float]:
    """Sleeps again and again for 1 ms and keeps how late each sleep returned, in ms."""
    histogram = Histogram()
    until = time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        time.sleep(HICCUP_SLEEP_S)
        histogram.record((time.monotonic() - begun - HICCUP_SLEEP_S) * 1000)
    return histogram.percentiles_ms()


def _ceiling(url: str) -> Ceiling | None:
    command = [sys.executable, "-m", "loadtests.ceiling", url]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, capture_output=True, check=True, timeout=CEILING_PROCESS_S
        )
        return msgspec.json.decode(done.stdout, type=Ceiling)
    except (subprocess.SubprocessError, msgspec.DecodeError):
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError):
        return "not known"
