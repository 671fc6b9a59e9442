"""What an open display costs in memory: the broker's resident set, for each display through it.

Against a bare TCP relay in asyncio, as in displays.py. A server in a process of its own moves a
picture in every display; some displays are opened first, which warm everything up, and the growth
from there on is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.displays import Address, Read, Relay, bare_relay, broker_relay, first_line, started

WARM: Final = 100
STREAMS: Final = 300
"""on top of those"""
AT_ONCE: Final = 10
SETTLE_S: Final = 5.0
SAMPLES: Final = 5
SAMPLE_S: Final = 1.0

_PICTURES: Final = """
import asyncio, contextlib, os

FRAME = os.urandom(32768)  # a tenth of a small screen
async def handle(reader, writer):
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(FRAME)
            await writer.drain()
            await asyncio.sleep(0.25)

async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """KiB of resident memory for each open display."""

    bare_kib: float
    broker_kib: float


@contextlib.asynccontextmanager
async def _pictures() -> AsyncIterator[Address]:
    async with started("-c", _PICTURES) as server:
        yield "127.0.0.1", int(await first_line(server))


async def _watch(read: Read) -> None:
    while True:
        await read(1)


def _batches(first: int, last: int) -> Iterator[range]:
    for start in range(first, last, AT_ONCE):
        yield range(start, min(last, start + AT_ONCE))


async def _resident_kib(pid: int) -> float:
    """The median of some looks: what is on its way comes and goes."""
    await asyncio.sleep(SETTLE_S)
    seen: list[float] = []
    for _ in range(SAMPLES):
        seen.append(psutil.Process(pid).memory_info().rss / 1024)
        await asyncio.sleep(SAMPLE_S)
    return statistics.median(seen)


async def _grown(relay: Relay) -> float:
    """KiB for each display."""
    async with asyncio.TaskGroup() as group:
        watching: list[asyncio.Task[None]] = []

        async def up_to(first: int, last: int) -> float:
            for batch in _batches(first, last):
                reads = await asyncio.gather(*(relay.open(number) for number in batch))
                watching.extend(group.create_task(_watch(read)) for read in reads)
            return await _resident_kib(relay.pid)

        before = await up_to(0, WARM)
        after = await up_to(WARM, WARM + STREAMS)
        broken = [one for one in watching if one.done()]
        for one in watching:
            one.cancel()
    if broken:
        raise SystemExit(f"{len(broken)} displays ended early")
    return (after - before) / STREAMS


async def measure(directory: Path) -> Memory:
    """Both, one after the other, with the same pictures."""
    async with _pictures() as source:
        async with bare_relay(source) as relay:
            bare_kib = await _grown(relay)
        async with broker_relay(source, directory / "data", WARM + STREAMS) as relay:
            broker_kib = await _grown(relay)
    return Memory(bare_kib=bare_kib, broker_kib=broker_kib)


def show(console: Console, memory: Memory) -> None:
    table = Table(title=f"Memory of an open display ({STREAMS} with a moving picture)")
    for heading in ("bare TCP KiB", "broker KiB", "ratio"):
        table.add_column(heading, justify="right")
    ratio = memory.broker_kib / memory.bare_kib
    table.add_row(f"{memory.bare_kib:.1f}", f"{memory.broker_kib:.1f}", f"{ratio:.2f}")
    console.print(table)
