"""What a display costs on its way through the broker: CPU for what flows.

Against a bare TCP relay in asyncio, which does the least that a relay can, and against websockify,
which does what the gateway does but knows nobody. A server sends as fast as it is read; each relay
is a process of its own, whose CPU time is divided by what came through.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.goals import Misses, at_most
from tests.support.process import free_port

MIB = 1024 * 1024
STREAM_BYTES = 256 * MIB
CHUNK_BYTES = 65_536
ROUNDS = 3
GOAL_CPU = 1.5
START_S = 60.0

_FLOOR = """
import asyncio, sys

async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def handle(reader, writer):
    there = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    await asyncio.gather(pump(there[0], writer), pump(reader, there[1]))

async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

Address = tuple[str, int]
Read = Callable[[int], Awaitable[None]]
"""reads so many bytes of an open display, and keeps it open"""
Open = Callable[[int], Awaitable[Read]]
"""opens a display; the number tells people apart"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """`pid`: of the process, or the first of its processes."""

    pid: int
    open: Open


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """`cpu_ms`: of processor time for each MiB that came through."""

    cpu_ms: float


def _processes(pid: int) -> Sequence[psutil.Process]:
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def _cpu_s(pid: int) -> float:
    times = [one.cpu_times() for one in _processes(pid)]
    return sum(one.user + one.system for one in times)


async def _cost(relay: Relay) -> Cost:
    """Streams, one after the other."""
    best = float("inf")
    for number in range(ROUNDS):
        read = await relay.open(number)
        await read(MIB)
        begun = _cpu_s(relay.pid)
        await read(STREAM_BYTES)
        best = min(best, (_cpu_s(relay.pid) - begun) * 1000 / (STREAM_BYTES / MIB))
    return Cost(cpu_ms=best)


# ------------------------------------------------------------------------------- the relays


@contextlib.asynccontextmanager
async def _source() -> AsyncIterator[Address]:
    """A server that sends for as long as somebody reads."""
    chunk = bytes(CHUNK_BYTES)

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(chunk)
                await writer.drain()

    server = await asyncio.start_server(send, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield host, port
    finally:
        server.close()


@contextlib.asynccontextmanager
async def started(
    *arguments: str, quiet: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if quiet else None,
    )
    children: list[psutil.Process] = []
    try:
        yield process
        children = list(_processes(process.pid))[1:]
    finally:
        process.terminate()
        for one in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.terminate()
        await process.wait()


async def first_line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        return await process.stdout.readline()


@contextlib.asynccontextmanager
async def bare_relay(source: Address) -> AsyncIterator[Relay]:
    async with contextlib.AsyncExitStack() as stack:
        process = await stack.enter_async_context(started("-c", _FLOOR, *map(str, source)))
        port = int(await first_line(process))

        async def open_one(_number: int) -> Read:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)

            async def read(size: int) -> None:
                left = size
                while left > 0:
                    left -= len(await reader.read(CHUNK_BYTES))

            return read

        yield Relay(pid=process.pid, open=open_one)


async def _binary(socket: aiohttp.ClientWebSocketResponse, size: int) -> None:
    left = size
    while left > 0:
        left -= len(await socket.receive_bytes())


@contextlib.asynccontextmanager
async def _websockify(source: Address) -> AsyncIterator[Relay]:
    port = free_port()
    target = f"{source[0]}:{source[1]}"
    async with contextlib.AsyncExitStack() as stack:
        process = await stack.enter_async_context(
            started("-m", "websockify", f"127.0.0.1:{port}", target, quiet=True)
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await _listens(port)

        async def open_one(_number: int) -> Read:
            socket = await http.ws_connect(f"http://127.0.0.1:{port}/", max_msg_size=0)
            return lambda size: _binary(socket, size)

        yield Relay(pid=process.pid, open=open_one)


async def _listens(port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


@contextlib.asynccontextmanager
async def broker_relay(source: Address, folder: Path, people: int) -> AsyncIterator[Relay]:
    """`people`: who may have a display each."""
    module = "tests.bench.display_broker"
    async with contextlib.AsyncExitStack() as stack:
        process = await stack.enter_async_context(
            started("-m", module, *map(str, source), str(people), str(folder))
        )
        told = json.loads(await first_line(process))
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

        async def open_one(number: int) -> Read:
            headers = {"Authorization": f"Bearer {told['tokens'][number]}"}
            sessions = f"{told['url']}/api/v1/sessions"
            async with http.post(sessions, json={"pool": "library"}, headers=headers) as answer:
                given = await answer.json()
            url = f"{sessions}/{given['session']['id']}/display"
            socket = await http.ws_connect(url, headers=headers, max_msg_size=0)
            await socket.send_json({"type": "display_open", "ticket": given["ticket"]})
            ready = await socket.receive_json()
            if ready["type"] != "display_ready":
                raise SystemExit(f"the display was refused: {ready}")
            return lambda size: _binary(socket, size)

        yield Relay(pid=process.pid, open=open_one)


async def measure(directory: Path) -> dict[str, Cost]:
    """Name of a relay -> what it costs."""
    costs: dict[str, Cost] = {}
    async with _source() as source:
        relays = {
            "bare TCP": bare_relay(source),
            "websockify": _websockify(source),
            "broker": broker_relay(source, directory / "data", ROUNDS),
        }
        for name, starting in relays.items():
            async with starting as relay:
                costs[name] = await _cost(relay)
    return costs


def show(console: Console, costs: dict[str, Cost]) -> Misses:
    floor = costs["bare TCP"]
    table = Table(title="Displays through a relay: CPU for what flows")
    for heading in ("relay", "CPU ms/MiB", "MiB/s a core", "ratio", "goal"):
        table.add_column(heading, justify="right")
    for name, cost in costs.items():
        table.add_row(
            name,
            f"{cost.cpu_ms:.3f}",
            f"{1000 / cost.cpu_ms:,.0f}",
            f"{cost.cpu_ms / floor.cpu_ms:.2f}",
            f"≤ {GOAL_CPU}" if name == "broker" else "",
        )
    console.print(table)
    return at_most("a display's CPU", costs["broker"].cpu_ms / floor.cpu_ms, GOAL_CPU)
