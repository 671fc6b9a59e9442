"""A storm: far more people connect at one instant than the broker serves in a second.

The peak is what a closed loop of PEAK_CONNECTIONS gets out of the same process just before. In the
storm every person has a connection of his own and sends at the same moment; who is told to come
back does so after the time told. Goodput counts good answers until the last person is served.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import broker as bench_broker
from tests.bench.goals import Misses, at_least
from tests.bench.load import Load, cpu_seconds, run
from tests.support.process import BrokerProcess, free_port

PEAK_CONNECTIONS = 32
PEAK_REQUESTS = 3_000
ROUNDS = 2
OVER_CAPACITY = 10
"""the storm offers this many times what the broker serves in a second, all at once"""
STORM_MAX = 15_000
"""people in one storm: a process has that many sockets"""
TRIES_MAX = 20
GOAL_GOODPUT = 0.8

_HEADER_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """`told_to_wait`: answers with Retry-After. Times from the instant of the storm."""

    people: int
    good: int
    told_to_wait: int
    goodput: float
    cpu_ms: float
    p50_s: float
    p99_s: float


def request(number: int) -> bytes:
    data = json.dumps({"pool": "library"}).encode()
    return (
        "POST /api/v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {bench_broker.token_of(number)}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode() + data


async def _answer(reader: asyncio.StreamReader) -> tuple[int, float]:
    """(status, seconds to wait or 0)."""
    header = await reader.readuntil(_HEADER_END)
    length, pause_s = 0, 0.0
    for line in header.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        elif line.startswith(b"retry-after:"):
            pause_s = float(line.split(b":")[1])
    await reader.readexactly(length)
    return int(header.split(b" ", 2)[1]), pause_s


class _Person:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.waits = 0
        self.served_s: float | None = None

    async def connect(self, data: bytes, started: float) -> None:
        for _ in range(TRIES_MAX):
            self._writer.write(data)
            status, pause_s = await _answer(self._reader)
            if status in {200, 201, 202}:
                self.served_s = time.perf_counter() - started
                break
            self.waits += 1
            await asyncio.sleep(pause_s)
        self._writer.close()


async def storm(address: tuple[str, int], requests: Sequence[bytes], pid: int) -> Storm:
    """Open a connection for each request, then send all at once."""
    people = [_Person(*await asyncio.open_connection(*address)) for _ in requests]
    spent, started = cpu_seconds([pid]), time.perf_counter()
    await asyncio.gather(
        *(one.connect(data, started) for one, data in zip(people, requests, strict=True))
    )
    spent = cpu_seconds([pid]) - spent
    served = sorted(one.served_s for one in people if one.served_s is not None)
    if not served:
        raise SystemExit("nobody was served in the storm")
    return Storm(
        people=len(people),
        good=len(served),
        told_to_wait=sum(one.waits for one in people),
        goodput=len(served) / served[-1],
        cpu_ms=spent * 1000 / len(served),
        p50_s=served[len(served) // 2],
        p99_s=served[int(len(served) * 0.99)],
    )


async def measure(directory: Path) -> list[tuple[Load, Storm]]:
    """(peak, storm) of each round, against one broker on SQLite."""
    data = directory / "data"
    await bench_broker.fill(data, ROUNDS * (PEAK_REQUESTS + STORM_MAX))
    port = free_port()
    process = BrokerProcess(data, port, {"TRIVIUM_SPEED": "1000"})
    await process.start()
    rounds = []
    try:
        first = 0
        for _ in range(ROUNDS):
            address = ("127.0.0.1", port)
            normal = [request(n) for n in range(first, first + PEAK_REQUESTS)]
            first += PEAK_REQUESTS
            peak = await run(address, normal, PEAK_CONNECTIONS, [process.pid])
            count = min(STORM_MAX, int(peak.rate * OVER_CAPACITY))
            crowd = [request(n) for n in range(first, first + count)]
            first += count
            rounds.append((peak, await storm(address, crowd, process.pid)))
    finally:
        await process.stop()
    return rounds


def show(console: Console, rounds: Sequence[tuple[Load, Storm]]) -> Misses:
    misses: Misses = ()
    table = Table(title=f"A storm of {OVER_CAPACITY} seconds' worth of people at one instant")
    for heading in (
        "people",
        "served",
        "told to wait",
        "peak/s",
        "goodput/s",
        "ratio",
        "goal",
        "CPU ms peak",
        "CPU ms storm",
        "p50 s",
        "p99 s",
    ):
        table.add_column(heading, justify="right")
    for peak, one in rounds:
        misses += at_least("the storm's goodput", one.goodput / peak.rate, GOAL_GOODPUT)
        table.add_row(
            f"{one.people:,}",
            f"{one.good:,}",
            f"{one.told_to_wait:,}",
            f"{peak.rate:,.0f}",
            f"{one.goodput:,.0f}",
            f"{one.goodput / peak.rate:.2f}",
            f"≥ {GOAL_GOODPUT}",
            f"{peak.cpu_ms:.3f}",
            f"{one.cpu_ms:.3f}",
            f"{one.p50_s:.2f}",
            f"{one.p99_s:.2f}",
        )
    console.print(table)
    return misses
