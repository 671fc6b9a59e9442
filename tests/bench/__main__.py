"""`make bench`: each figure as a ratio to a floor that is measured in the same run.

The machine is shared: CPU time per operation is what is compared, wall time is shown for context.
Each side is run in turn several times and the smallest figure of each is taken, which is the one
least disturbed by others. It exits with 1 where a figure is past its goal or was not measured.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import broker as bench_broker
from tests.bench import display_memory, displays, endpoints, floor, planner, refill, storm
from tests.bench.goals import Misses, at_most
from tests.bench.load import Load, run
from tests.support.process import BrokerProcess, free_port

ROUNDS = 3
REQUESTS = 2_000
CONNECTIONS = (1, 32)
GOAL_CLAIM = 2.5
GOAL_ENDPOINT_KIB = 20.0


def _post(path: str, body: dict[str, str], headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{headers}Content-Length: {len(data)}\r\n\r\n"
    ).encode() + data


def _floor_requests(first: int) -> list[bytes]:
    return [_post("/claim", {"user": f"u{n}"}) for n in range(first, first + REQUESTS)]


def _broker_requests(first: int) -> list[bytes]:
    return [
        _post(
            "/api/v1/sessions",
            {"pool": "library"},
            f"Authorization: Bearer {bench_broker.token_of(n)}\r\n",
        )
        for n in range(first, first + REQUESTS)
    ]


async def _rounds(
    address: tuple[str, int], pid: int, requests: Callable[[int], Sequence[bytes]]
) -> dict[int, Load]:
    """connections -> the run with the least CPU per request."""
    best: dict[int, Load] = {}
    first = 0
    for _ in range(ROUNDS):
        for connections in CONNECTIONS:
            load = await run(address, requests(first), connections, [pid])
            first += REQUESTS
            if load.good != load.requests:
                raise SystemExit(f"{load.requests - load.good} requests failed")
            if connections not in best or load.cpu_ms < best[connections].cpu_ms:
                best[connections] = load
    return best


async def _floor(directory: Path) -> dict[int, Load]:
    path = directory / "floor.db"
    floor.fill(path, ROUNDS * len(CONNECTIONS) * REQUESTS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.floor", str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    where = json.loads(await process.stdout.readline())
    try:
        return await _rounds((where["host"], where["port"]), process.pid, _floor_requests)
    finally:
        process.terminate()
        await process.wait()


async def _broker(directory: Path) -> dict[int, Load]:
    data = directory / "data"
    await bench_broker.fill(data, ROUNDS * len(CONNECTIONS) * REQUESTS)
    port = free_port()
    process = BrokerProcess(data, port, {"TRIVIUM_SPEED": "1000"})
    await process.start()
    try:
        return await _rounds(("127.0.0.1", port), process.pid, _broker_requests)
    finally:
        await process.stop()


def _show_claims(console: Console, bare: dict[int, Load], ours: dict[int, Load]) -> Misses:
    misses: Misses = ()
    table = Table(title="POST /api/v1/sessions against a bare aiohttp handler with one claim")
    for heading in (
        "connections",
        "floor CPU ms",
        "broker CPU ms",
        "ratio",
        "goal",
        "floor req/s",
        "broker req/s",
        "broker p50 ms",
        "broker p99 ms",
    ):
        table.add_column(heading, justify="right")
    for connections in CONNECTIONS:
        one, other = bare[connections], ours[connections]
        ratio = other.cpu_ms / one.cpu_ms
        misses += at_most(f"a claim's CPU over {connections} connections", ratio, GOAL_CLAIM)
        table.add_row(
            str(connections),
            f"{one.cpu_ms:.3f}",
            f"{other.cpu_ms:.3f}",
            f"{ratio:.2f}",
            f"≤ {GOAL_CLAIM}",
            f"{one.rate:,.0f}",
            f"{other.rate:,.0f}",
            f"{other.p50_ms:.2f}",
            f"{other.p99_ms:.2f}",
        )
    console.print(table)
    return misses


async def _claims(console: Console) -> Misses:
    with tempfile.TemporaryDirectory() as directory:
        bare = await _floor(Path(directory))
        ours = await _broker(Path(directory))
        return _show_claims(console, bare, ours)


async def _endpoints(console: Console) -> Misses:
    with tempfile.TemporaryDirectory() as directory:
        memory = await endpoints.measure(Path(directory))
    table = Table(title=f"Memory of an idle endpoint ({memory.endpoints} connected)")
    for heading in ("floor KiB", "broker KiB", "ratio", "goal"):
        table.add_column(heading, justify="right")
    table.add_row(
        f"{memory.floor_kib:.1f}",
        f"{memory.broker_kib:.1f}",
        f"{memory.broker_kib / memory.floor_kib:.2f}",
        f"≤ {GOAL_ENDPOINT_KIB:g} KiB",
    )
    console.print(table)
    return at_most("an idle endpoint's KiB", memory.broker_kib, GOAL_ENDPOINT_KIB)


async def _storm(console: Console) -> Misses:
    with tempfile.TemporaryDirectory() as directory:
        return storm.show(console, await storm.measure(Path(directory)))


async def _refill(console: Console) -> Misses:
    with tempfile.TemporaryDirectory() as directory:
        return refill.show(console, await refill.measure(Path(directory)))


async def _displays(console: Console) -> Misses:
    with tempfile.TemporaryDirectory() as directory:
        misses = displays.show(console, await displays.measure(Path(directory)))
        memory = await display_memory.measure(Path(directory) / "memory")
        display_memory.show(console, memory)
        return misses


async def _clones(console: Console) -> Misses:
    lacks = [name for name in ("virsh", "qemu-img", "qemu-system-x86_64") if not shutil.which(name)]
    if lacks or find_spec("libvirt") is None:
        return (
            "clones were not measured: libvirt and QEMU are missing; `make bench` installs them",
        )
    from tests.bench import clones  # noqa: PLC0415 - libvirt need not be installed

    with tempfile.TemporaryDirectory() as directory:
        return clones.show(console, await clones.measure(Path(directory)))


async def _planner(console: Console) -> Misses:
    return planner.show(console)


BENCHES: Mapping[str, Callable[[Console], Awaitable[Misses]]] = {
    "claims": _claims,
    "clones": _clones,
    "displays": _displays,
    "endpoints": _endpoints,
    "planner": _planner,
    "refill": _refill,
    "storm": _storm,
}
"""what `python -m tests.bench NAME…` runs; without a name, all"""


async def _main(console: Console, names: Sequence[str]) -> Misses:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise SystemExit(f"no bench is called {unknown[0]}; there are {', '.join(BENCHES)}")
    misses: Misses = ()
    for name in names or BENCHES:
        console.print(f"{name} …")
        misses += await BENCHES[name](console)
    return misses


def main() -> None:
    console = Console(width=150)
    misses = asyncio.run(_main(console, sys.argv[1:]))
    for miss in misses:
        console.print(f"[red]not met:[/red] {miss}")
    raise SystemExit(1 if misses else 0)


if __name__ == "__main__":
    main()
