"""The hypervisor that outlives the brokers, and each broker's unreliable way to it.

The machines are the simulated engine's own. An engine call runs beside the broker that made it,
so a broker that dies in the middle leaves the machine half made and finished a second later, as
a real hypervisor would. Reports reach one broker, or none, or two, late, or out of order.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Final

from broker.domain.errors import EngineError
from broker.domain.model import Desktop, Host
from broker.engines.simulated.engine import SimulatedEngine
from broker.engines.simulated.profile import Calibration
from broker.ports import Clock, Console, GuestState, Machine, MachineReport, Operation
from broker.simulation.history import History
from broker.simulation.loop import SimLoop
from broker.simulation.ports import Mortal
from broker.simulation.seams import SimChance
from broker.simulation.weather import Weather

ENGINE_S: Final = 0.05
"""longest way to the engine and back"""
ENGINE_SLOW_S: Final = 150.0
"""an engine call may come back after the broker gave it up"""
REPORT_LATE_S: Final = 30.0
SPEED: Final = 4.0
"""simulated seconds of the engine in one virtual second: machines boot in about 8 s"""


class Hypervisor:
    """The machines, and what truly happened to them."""

    def __init__(
        self,
        loop: SimLoop,
        chance: Random,
        clock: Clock,
        calibration: Calibration,
        history: History,
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._history = history
        self._seen: list[MachineReport] = []
        self.inner = SimulatedEngine(
            clock=clock, chance=SimChance(chance), calibration=calibration, speed=SPEED
        )
        self.weather: Callable[[], Weather] = Weather
        self.brokers: list[EnginePort] = []
        self.up: set[tuple[str, int]] = set()
        """(desktop, generation) of every machine that truly came up"""
        self.attempts: set[tuple[str, int]] = set()
        self.shown: Callable[[str, str], None] = lambda _desktop, _session: None
        """told (desktop, session) of each display that a machine opens"""
        self.attempt_of: Callable[[str], int] = lambda _: 0
        """how often a job was taken so far"""

    def profile(self, host: Host) -> Host:
        """The host as the weather has it: knobs of the engine are in its profile."""
        weather = self.weather()
        name = host.profile.partition("?")[0]
        knobs = f"boot_fail={weather.boot_fails:.4f}&never_ready={weather.boot_silent:.4f}&guest=1"
        knobs += f"&guest_refuse={weather.guest_fails:.4f}&guest_silent={weather.guest_silent:.4f}"
        return replace(host, profile=f"{name}?{knobs}")

    async def run(self) -> None:
        """Take the machines' reports and send them on their way, for ever."""
        async for report in self.inner.reports():
            if report.ready:
                self.up.add((report.desktop_id, report.generation))
            self._pass_on(report)

    def _pass_on(self, report: MachineReport) -> None:
        weather, draw = self.weather(), self._chance.random
        self._seen.append(report)
        label = f"{report.desktop_id} {report.generation}"
        if draw() < weather.report_lost:
            self._history.fault("report lost", label)
        else:
            late = draw() < weather.report_late
            if late:
                self._history.fault("report late", label)
            self._later(report, draw() * (REPORT_LATE_S if late else ENGINE_S))
        if draw() < weather.report_doubled:
            self._history.fault("report doubled", label)
            self._later(report, draw() * REPORT_LATE_S)
        if draw() < weather.report_old:
            old = self._seen[int(draw() * len(self._seen))]
            self._history.fault("old report again", f"{old.desktop_id} {old.generation}")
            self._later(old, draw() * REPORT_LATE_S)

    def _later(self, report: MachineReport, delay_s: float) -> None:
        self._loop.call_later(delay_s, self._deliver, report)

    def _deliver(self, report: MachineReport) -> None:
        if self.brokers:
            self.brokers[int(self._chance.random() * len(self.brokers))].offer(report)

    def began(self, operation: Operation, process: Mortal) -> None:
        """A broker asks for an operation."""
        attempt = (operation.id, self.attempt_of(operation.id))
        if attempt in self.attempts:
            text = f"{process.name} carries out {operation.id} a second time in one attempt"
            self._history.violated("I5", text)
        self.attempts.add(attempt)

    @property
    def machines(self) -> Mapping[str, Any]:
        """The truth, not what the port tells: desktop -> machine."""
        inner: Any = self.inner
        found: Mapping[str, Any] = (
            inner.plant.machines if hasattr(inner, "plant") else inner._machines
        )
        return found

    def running(self) -> list[str]:
        """Desktops whose machines run."""
        machines = self.machines
        return sorted(one for one, machine in machines.items() if machine.running)

    def lose(self, desktop_id: str) -> None:
        self._history.fault("machine lost", desktop_id)
        self.inner.lose(desktop_id)

    def start(
        self,
        verb: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        delay_s: float,
    ) -> asyncio.Task[object]:
        """Carry it out, whatever becomes of the broker that asked."""

        async def work() -> object:
            await asyncio.sleep(delay_s)
            return await verb(*args, **kwargs)

        task = self._loop.task(work(), None, "engine call")
        # the one who asked may be gone by then: the outcome is nobody's
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task


_OWN: Final = frozenset({"open", "close", "adopt", "machines", "console", "reports"})


def _about(argument: object) -> str:
    """What a call is about, for the history."""
    if isinstance(argument, Operation):
        return f"{argument.desktop.id} {argument.desktop.generation}"
    return str(getattr(argument, "desktop_id", argument))


class EnginePort:
    """The Engine port of one broker process. Every verb that the simulated engine has is there,
    also one that is new: they are found by looking."""

    name = "simulated"
    profiles: tuple[str, ...] = ()

    def __init__(self, process: Mortal, hypervisor: Hypervisor) -> None:
        self._process = process
        self._hypervisor = hypervisor
        self._reports: asyncio.Queue[MachineReport] = asyncio.Queue()
        hypervisor.brokers.append(self)
        for verb, act in inspect.getmembers(hypervisor.inner, inspect.iscoroutinefunction):
            if not verb.startswith("_") and verb not in _OWN:
                setattr(self, verb, partial(self._call, verb, act))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hypervisor.inner, name)

    def check_profile(self, profile: str) -> None:
        """See the port."""
        self._hypervisor.inner.check_profile(profile)

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to close: the machines run on."""

    def truth(self) -> Mapping[str, Any]:
        """The machines as they are, for bugs that are planted here."""
        return self._hypervisor.machines

    def leave(self) -> None:
        """The process is dead."""
        self._hypervisor.brokers.remove(self)

    def offer(self, report: MachineReport) -> None:
        self._reports.put_nowait(report)

    async def _call(
        self, verb: str, act: Callable[..., Awaitable[object]], *args: Any, **kwargs: Any
    ) -> object:
        process, hypervisor = self._process, self._hypervisor
        weather, draw, history = process.weather, process.chance.random, process.history
        label = f"{process.name} {_about(args[0])}"
        await process.point(f"engine {verb}")
        history.operation(f"engine {verb}", label)
        if isinstance(args[0], Operation):
            hypervisor.began(args[0], process)
            args = (replace(args[0], host=hypervisor.profile(args[0].host)), *args[1:])
        fate, delay_s = draw(), draw() * ENGINE_S
        if fate < weather.engine_fails:
            history.fault("engine call fails", label)
            await asyncio.sleep(delay_s)
            raise EngineError("the engine could not do it")
        if draw() < weather.engine_slow:
            history.fault("engine call slow", label)
            delay_s = draw() * ENGINE_SLOW_S
        if draw() < weather.engine_doubled:
            history.fault("engine call doubled", label)
            _ = hypervisor.start(act, args, kwargs, draw() * ENGINE_SLOW_S)
        answer = await asyncio.shield(hypervisor.start(act, args, kwargs, delay_s))
        await process.point(f"engine {verb}")
        if fate > 1 - weather.engine_reply_lost:
            history.fault("engine reply lost", label)
            raise EngineError("the engine's answer was lost")
        return answer

    def has_guests(self, host: Host) -> bool:
        return self._hypervisor.inner.has_guests(self._hypervisor.profile(host))

    def heard(self) -> tuple[str, ...]:
        return self._hypervisor.inner.heard()

    def guest(self, desktop_id: str) -> GuestState | None:
        return self._hypervisor.inner.guest(desktop_id)

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """The machines outlive the brokers here, so there is nothing to tell the engine."""

    async def machines(self) -> tuple[Machine, ...]:
        await self._process.point("engine machines")
        return await self._hypervisor.inner.machines()

    def displays(self, host: Host) -> frozenset[str]:
        return self._hypervisor.inner.displays(host)

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        await self._process.point("engine console")
        console = await self._hypervisor.inner.console(desktop, session_id, protocol)
        if session_id:
            self._hypervisor.shown(desktop.id, session_id)
        return console

    async def reports(self) -> AsyncIterator[MachineReport]:
        while True:
            report = await self._reports.get()
            label = f"{self._process.name} {report.desktop_id} {report.generation}"
            self._process.history.operation("engine report", label)
            yield report
