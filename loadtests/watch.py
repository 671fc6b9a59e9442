"""Watches the machine and the broker while a campaign runs, once a second, in a thread."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import msgspec
import psutil

from loadtests.collect import Broker
from loadtests.limits import SAMPLE_S


class MachineSecond(msgspec.Struct, frozen=True, kw_only=True):
    """One sample. `*_pct` of all CPUs together, 100 = all busy; `broker_*` None where its
    /metrics say nothing. generator_pct: the load's own processes."""

    at_ms: float
    busy_pct: float
    steal_pct: float
    generator_pct: float
    broker_cpu_s: float | None = None
    broker_rss_bytes: float | None = None


class Watcher:
    """Samples until it is closed. `generator_pid`: the root of the load's process tree."""

    def __init__(self, broker: Broker, generator_pid: int) -> None:
        self._broker = broker
        self._generator_pid = generator_pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self.seconds: list[MachineSecond] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        cpus = psutil.cpu_count() or 1
        psutil.cpu_times_percent()
        before, before_at = _tree_cpu_s(self._generator_pid), time.monotonic()
        while not self._end.wait(SAMPLE_S):
            times = psutil.cpu_times_percent()
            steal = getattr(times, "steal", 0.0)
            cpu_s, now = _tree_cpu_s(self._generator_pid), time.monotonic()
            spent = max(cpu_s - before, 0.0) / max(now - before_at, 0.001) / cpus
            before, before_at = cpu_s, now
            use = self._broker.use()
            self.seconds.append(
                MachineSecond(
                    at_ms=round(time.time() * 1000, 1),
                    busy_pct=round(100 - times.idle - getattr(times, "iowait", 0.0), 1),
                    steal_pct=round(steal, 1),
                    generator_pct=round(spent * 100, 1),
                    broker_cpu_s=None if use is None else use.cpu_s,
                    broker_rss_bytes=None if use is None else use.rss_bytes,
                )
            )


def _tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children so far."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
