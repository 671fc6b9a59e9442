"""A bounded closed-loop HTTP/1.1 load of prepared requests over keep-alive connections."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

_HEADER_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load saw. `cpu_ms`: server CPU per request; `rate` is wall time, for context."""

    requests: int
    good: int
    cpu_ms: float
    rate: float
    p50_ms: float
    p99_ms: float


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system CPU of these processes so far."""
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


async def _one(
    address: tuple[str, int], requests: list[bytes], took: list[float], good: list[int]
) -> None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        while requests:
            request = requests.pop()
            started = time.perf_counter()
            writer.write(request)
            header = await reader.readuntil(_HEADER_END)
            length = 0
            for line in header.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
            took.append(time.perf_counter() - started)
            good.append(1 if header.startswith(b"HTTP/1.1 2") else 0)
    finally:
        writer.close()


async def run(
    address: tuple[str, int], requests: Sequence[bytes], connections: int, pids: Sequence[int]
) -> Load:
    """Send every request once, `connections` at a time."""
    left = list(requests)
    took: list[float] = []
    good: list[int] = []
    before, started = cpu_seconds(pids), time.perf_counter()
    await asyncio.gather(*(_one(address, left, took, good) for _ in range(connections)))
    wall_s = time.perf_counter() - started
    spent = cpu_seconds(pids) - before
    took.sort()
    return Load(
        requests=len(took),
        good=sum(good),
        cpu_ms=spent * 1000 / len(took),
        rate=len(took) / wall_s,
        p50_ms=statistics.median(took) * 1000,
        p99_ms=took[int(len(took) * 0.99)] * 1000,
    )
