"""How fast a pool of simulated machines refills, against what its hosts allow.

The bound is measured in the same run: the engine alone, each host beginning the next machine the
moment one of its `start_limit` is up. The whole broker (planner, jobs, SQLite) does the same, and
what it loses on the way is the ratio. Simulated time runs SPEED times as fast as the clock, so
whatever the broker loses counts SPEED times as much as it would in a computer room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from broker.domain.model import Desktop, Host, Image, Pool, Resources
from broker.domain.settings import PoolSettings
from broker.engines.simulated import SimulatedEngine, load_calibration
from broker.events.memory import MemoryEvents
from broker.identity.ed25519 import Ed25519Signatures
from broker.imaging.simulated import SimulatedImages
from broker.ports import Operation, Store
from broker.services.assembly import assemble
from broker.services.bundle import Services
from broker.services.images import Images
from broker.services.kit import Kit
from broker.store import open_store
from broker.system import SystemChance, SystemClock, SystemIds
from tests.bench.goals import Misses, at_least
from tests.support.brokers import fill
from tests.support.builders import make_desktop, make_host, make_pool
from tests.support.fakes import PlainPasswords
from tests.support.stores import make_image
from tests.support.world import RecordingLink

SPEED = 10.0
HOSTS = 10
START_LIMIT = 8
MACHINES = 400
GOAL = 0.8
"""of the bound that the whole broker reaches at least"""
_LOOK_S = 0.05
_SMALL = Resources(cpus=1, memory_mib=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Machines a second of the clock, and CPU milliseconds of this process for each."""

    rate: float
    cpu_ms: float


def _hosts() -> tuple[Host, ...]:
    return tuple(
        make_host(
            id=f"hst_{number}",
            name=f"server-{number}",
            capacity=Resources(cpus=64, memory_mib=10**6),
            start_limit=START_LIMIT,
        )
        for number in range(HOSTS)
    )


def _pool(spares: int) -> Pool:
    return make_pool(
        spares_min=spares,
        size_max=MACHINES,
        resources=_SMALL,
        settings=PoolSettings(refill_batch=MACHINES),
    )


def _engine() -> SimulatedEngine:
    return SimulatedEngine(
        clock=SystemClock(),
        chance=SystemChance(7),
        calibration=load_calibration(),
        speed=SPEED,
    )


async def _alone(engine: SimulatedEngine) -> None:
    """Every host makes its share, START_LIMIT at a time, and nobody plans anything."""
    hosts, image = _hosts(), make_image()
    ready: dict[str, asyncio.Event] = {}

    async def hear() -> None:
        async for report in engine.reports():
            ready[report.desktop_id].set()

    async def work(host: Host, numbers: list[int]) -> None:
        while numbers:
            desktop = _desktop(host, numbers.pop())
            ready[desktop.id] = asyncio.Event()
            await engine.create(_operation(desktop, host, image))
            await ready[desktop.id].wait()

    hearing = asyncio.ensure_future(hear())
    async with asyncio.TaskGroup() as tasks:
        for host in hosts:
            numbers = list(range(MACHINES // HOSTS))
            for _ in range(START_LIMIT):
                tasks.create_task(work(host, numbers))
    hearing.cancel()


def _desktop(host: Host, number: int) -> Desktop:
    name = f"{host.id}-{number}"
    return make_desktop(id=name, name=name, host_id=host.id, resources=_SMALL)


def _operation(desktop: Desktop, host: Host, image: Image) -> Operation:
    return Operation(
        id=f"job {desktop.id}", desktop=desktop, host=host, image=image, deadline_s=600.0
    )


@asynccontextmanager
async def _broker(store: Store, engine: SimulatedEngine) -> AsyncIterator[Services]:
    kit = Kit(
        store=store,
        clock=SystemClock(),
        ids=SystemIds(),
        chance=SystemChance(7),
        events=MemoryEvents(),
        installation_id="tri_bench",
    )
    services = assemble(
        kit,
        link=RecordingLink(),
        engines={"simulated": engine}.__getitem__,
        hasher=PlainPasswords(),
        signatures=Ed25519Signatures(),
        images=Images(SimulatedImages(), b"key"),
    )
    running = asyncio.ensure_future(services.reconciler.run((engine,)))
    try:
        yield services
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _whole(store: Store, services: Services) -> None:
    """The pool's spares go from none to all."""
    await store.directory.save_pool(_pool(MACHINES), new=False)
    services.pools.forget()
    services.reconciler.wake()
    pool_id = _pool(0).id
    while (await store.desktops.counts()).get((pool_id, "ready"), 0) < MACHINES:
        await asyncio.sleep(_LOOK_S)


async def measure(directory: Path) -> tuple[Rate, Rate]:
    """(the engine alone, the whole broker)."""
    engine = _engine()
    async with _timed() as alone:
        await _alone(engine)
    await engine.close()
    store = open_store(f"sqlite:///{directory / 'refill.db'}")
    await store.open()
    await fill(store, pools=(_pool(0),), hosts=_hosts())
    engine = _engine()
    async with _broker(store, engine) as services, _timed() as whole:
        await _whole(store, services)
    await engine.close()
    await store.close()
    return alone.rate(), whole.rate()


class _Timer:
    def __init__(self) -> None:
        self._at = (time.monotonic(), time.process_time())
        self.took = (0.0, 0.0)

    def stop(self) -> None:
        self.took = (time.monotonic() - self._at[0], time.process_time() - self._at[1])

    def rate(self) -> Rate:
        wall_s, cpu_s = self.took
        return Rate(rate=MACHINES / wall_s, cpu_ms=1000 * cpu_s / MACHINES)


@asynccontextmanager
async def _timed() -> AsyncIterator[_Timer]:
    timer = _Timer()
    yield timer
    timer.stop()


def show(console: Console, rates: tuple[Rate, Rate]) -> Misses:
    alone, whole = rates
    table = Table(
        title=f"Refilling {MACHINES} machines on {HOSTS} hosts that start {START_LIMIT} at once, "
        f"time {SPEED:g} times as fast"
    )
    for heading in ("bound /s", "broker /s", "ratio", "goal", "engine CPU ms", "broker CPU ms"):
        table.add_column(heading, justify="right")
    table.add_row(
        f"{alone.rate:.1f}",
        f"{whole.rate:.1f}",
        f"{whole.rate / alone.rate:.2f}",
        f"≥ {GOAL:g}",
        f"{alone.cpu_ms:.2f}",
        f"{max(0.0, whole.cpu_ms - alone.cpu_ms):.2f}",
    )
    console.print(table)
    return at_least("the refill's rate", whole.rate / alone.rate, GOAL)
