"""What the engine contract needs of each engine; engine_kinds.py lists them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from broker.domain.errors import EngineError
from broker.domain.model import Desktop, Host, Image, Resources
from broker.engines.simulated import SimulatedEngine, load_calibration
from broker.engines.simulated.knobs import Knobs
from broker.ports import Clock, Engine, MachineReport, Operation
from broker.system import SystemChance, SystemClock
from tests.support.builders import NOW, make_host
from tests.support.clock import ManualClock
from tests.support.prompt_engine import PromptEngine

IMAGE = Image(
    id="img_1", name="school", version=1, size_bytes=40_000_000_000, boot_bytes=197_000_000,
    created_at=NOW,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCase:
    """One engine under test. `start` answers a new engine object, as a restarted broker has;
    machines made before live on where the engine keeps them outside the broker.

    `other` is a second host of the same kind, `full` one without memory for any machine.
    `displays`: it has them.
    """

    start: Callable[[], Engine]
    host: Host
    image: Image
    other: Host
    full: Host
    displays: bool = True

    def operation(self, operation_id: str, desktop: Desktop, deadline_s: float = 60) -> Operation:
        return Operation(
            id=operation_id, desktop=desktop, host=self.host, image=self.image,
            deadline_s=deadline_s,
        )  # fmt: skip


def simulated_engine(
    *,
    clock: Clock | None = None,
    speed: float = 1000,
    seed: int = 1,
    knobs: Knobs | None = None,
    partial: bool = False,
) -> SimulatedEngine:
    return SimulatedEngine(
        clock=clock or SystemClock(),
        chance=SystemChance(seed),
        calibration=load_calibration(),
        speed=speed,
        knobs=knobs,
        partial=partial,
    )


def _case(start: Callable[[], Engine], profile: str, **changes: Any) -> EngineCase:
    return EngineCase(
        start=start,
        host=make_host(profile=profile),
        image=IMAGE,
        other=make_host(id="hst_2", name="server-2", profile=profile),
        full=make_host(
            id="hst_3", name="server-3", profile=profile,
            capacity=Resources(cpus=32, memory_mib=1024),
        ),
        **changes,
    )  # fmt: skip


def simulated_case() -> EngineCase:
    return _case(simulated_engine, "bare-metal?guest=1")


def simulated_container_case() -> EngineCase:
    """Hosts that can neither suspend nor migrate."""
    return _case(simulated_engine, "container")


def prompt_case() -> EngineCase:
    """The fake that the services are tested with."""
    return _case(PromptEngine, "", displays=False)


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


def said(heard: list[MachineReport]) -> list[tuple[str, int, bool]]:
    """What the reports say: (desktop, generation, whether it is ready)."""
    return [(report.desktop_id, report.generation, report.ready) for report in heard]


async def during(clock: ManualClock, *works: Awaitable[None]) -> list[BaseException | None]:
    """Let time pass until all are done; what each raised, in order."""

    async def one(work: Awaitable[None]) -> BaseException | None:
        try:
            await work
        except EngineError as error:
            return error
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(work)) for work in works]
        while not all(task.done() for task in tasks):
            await clock.advance(0.05)
    return [task.result() for task in tasks]
