"""What the engine contract needs of each engine that it runs against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.domain.model import Desktop, Host, Image
from broker.engines.simulated import SimulatedEngine, load_calibration
from broker.engines.simulated.knobs import Knobs
from broker.ports import Clock, Engine, MachineReport, Operation
from broker.system import SystemChance, SystemClock
from tests.support.builders import NOW, make_host

IMAGE = Image(
    id="img_1", name="school", version=1, size_bytes=40_000_000_000, boot_bytes=197_000_000,
    created_at=NOW,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCase:
    """One engine under test. `start` answers a new engine object, as a restarted broker has;
    machines made before live on where the engine keeps them outside the broker."""

    start: Callable[[], Engine]
    host: Host
    image: Image

    def operation(self, operation_id: str, desktop: Desktop, deadline_s: float = 60) -> Operation:
        return Operation(
            id=operation_id, desktop=desktop, host=self.host, image=self.image,
            deadline_s=deadline_s,
        )  # fmt: skip


def simulated_engine(
    *, clock: Clock | None = None, speed: float = 1000, seed: int = 1, knobs: Knobs | None = None
) -> SimulatedEngine:
    return SimulatedEngine(
        clock=clock or SystemClock(),
        chance=SystemChance(seed),
        calibration=load_calibration(),
        speed=speed,
        knobs=knobs,
    )


def simulated_case() -> EngineCase:
    return EngineCase(start=simulated_engine, host=make_host(), image=IMAGE)


@asynccontextmanager
async def listening(engine: Engine) -> AsyncIterator[list[MachineReport]]:
    """The engine, open, and the list that its reports go to until the end of the block."""
    heard: list[MachineReport] = []

    async def listen() -> None:
        async for report in engine.reports():
            heard.append(report)  # noqa: PERF401 - seen as they come, not when all are there

    async with asyncio.TaskGroup() as group:
        await engine.open()
        group.create_task(listen())
        try:
            yield heard
        finally:
            await engine.close()
