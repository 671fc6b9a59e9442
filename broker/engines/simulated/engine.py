"""The simulated engine: the Engine port over hosts and machines in memory.

Nothing here runs by itself: time is settled whenever somebody asks, and whoever iterates
`reports` sleeps until the next boot is due. So an engine without callers costs nothing, and a
machine that should be up at some moment is up for everybody who looks after it.

One consumer of `reports` is expected; two would share the reports between them.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from broker.domain.errors import EngineError
from broker.domain.model import Desktop, DesktopState, Host
from broker.engines.simulated.display import SimulatedConsole
from broker.engines.simulated.hosts import SimulatedHost
from broker.engines.simulated.knobs import Knobs, split_profile
from broker.engines.simulated.profile import Calibration, Profile
from broker.limits import (
    CONSOLES_PER_MACHINE_MAX,
    ENGINE_OPERATIONS_REMEMBERED,
    ENGINE_REPORTS_MAX,
)
from broker.ports import Chance, Clock, Console, Machine, MachineReport, Operation
from broker.waiting import sleep_or_set

_READY_STATES = frozenset({DesktopState.READY, DesktopState.ASSIGNED})
_BOOTING_STATES = frozenset({DesktopState.STARTING, DesktopState.RESETTING})
_NOT_MADE_STATES = frozenset({DesktopState.PLANNED, DesktopState.CREATING, DesktopState.DELETED})
_HALFWAY = 0.5
"""part of its boot after which a failing machine stops"""


@dataclass(slots=True)
class _Machine:
    desktop: Desktop
    host_id: str
    generation: int
    running: bool = False
    outcome: str = ""
    """what the boot under way will come to: ready, failed or silent"""
    consoles: dict[SimulatedConsole, None] = field(default_factory=dict)
    """open displays, oldest first"""


class SimulatedEngine:
    """Machines in memory. `speed`: simulated seconds per second of the clock.

    `knobs` are those of every host; a host's profile text turns its own (knobs.py).
    `bytes_scale` divides the display traffic (display.py).
    """

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        calibration: Calibration,
        speed: float = 1.0,
        bytes_scale: int = 1,
        knobs: Knobs | None = None,
        name: str = "simulated",
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._calibration = calibration
        self._speed = speed
        self._bytes_scale = bytes_scale
        self._knobs = knobs or Knobs()
        self._name = name
        self._start = clock.monotonic()
        self._hosts: dict[str, SimulatedHost] = {}
        self._machines: dict[str, _Machine] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._crashes: list[tuple[float, str, int]] = []
        self._pending: deque[MachineReport] = deque(maxlen=ENGINE_REPORTS_MAX)
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def profiles(self) -> tuple[str, ...]:
        return tuple(sorted(self._calibration.profiles))

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """End `reports` and close every display. The machines are forgotten with the engine."""
        self._closed = True
        for machine in self._machines.values():
            self._close_consoles(machine)
        self._changed.set()

    # ------------------------------------------------------------------------- verbs

    async def create(self, operation: Operation) -> None:
        """See the port. A machine of this or a later generation that runs is success."""
        await self._once(operation, self._create)

    async def reset(self, operation: Operation) -> None:
        """See the port. A machine that is at this generation or past it already is success."""
        await self._once(operation, self._reset)

    async def destroy(self, operation: Operation) -> None:
        await self._once(operation, self._destroy)

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """See the port. What its record says is taken for true: a ready or assigned one is up,
        a starting or resetting one boots now and reports, any other exists and is off. One that
        was still being made is left to its job."""
        self._settle()
        known = self._machines.get(desktop.id)
        if known is not None and known.generation >= desktop.generation:
            return
        if desktop.state in _NOT_MADE_STATES:
            return
        place = self._host(host)
        machine = self._add(desktop, place)
        if desktop.state in _READY_STATES:
            machine.running, machine.outcome = True, "ready"
            place.run(desktop.id)
            self._plan_crash(machine, place)
        elif desktop.state in _BOOTING_STATES:
            self._boot(machine, place)

    async def machines(self) -> tuple[Machine, ...]:
        """All of them, lost ones included (not running), by desktop id."""
        self._settle()
        return tuple(
            Machine(desktop_id=one, generation=machine.generation, running=machine.running)
            for one, machine in sorted(self._machines.items())
        )

    async def console(self, desktop: Desktop) -> Console:
        """See the port. A machine that was made fresh since is refused: its display is somebody
        else's by now. The oldest display goes when a machine has too many."""
        self._settle()
        machine = self._machines.get(desktop.id)
        if machine is None or not machine.running:
            raise EngineError(f"{desktop.name} does not run")
        if machine.generation != desktop.generation:
            raise EngineError(f"{desktop.name} has been made fresh since")
        if len(machine.consoles) >= CONSOLES_PER_MACHINE_MAX:
            await next(iter(machine.consoles)).close()
        console = SimulatedConsole(
            clock=self._clock,
            chance=self._chance,
            model=self._calibration.display,
            title=f"{desktop.name}, generation {machine.generation}",
            speed=self._speed,
            bytes_scale=self._bytes_scale,
            on_close=lambda closed: machine.consoles.pop(closed, None),
        )
        machine.consoles[console] = None
        return console

    async def reports(self) -> AsyncIterator[MachineReport]:
        """Reports as they fall due, until `close`."""
        while not self._closed:
            self._changed.clear()
            self._settle()
            while self._pending and not self._closed:
                yield self._pending.popleft()
            if not self._changed.is_set():
                await sleep_or_set(self._clock, self._until_next(), self._changed)

    # ---------------------------------------------------------------- drills and tests

    def lose(self, desktop_id: str) -> None:
        """The machine dies now: reported as not ready, listed as not running."""
        self._settle()
        machine = self._machines.get(desktop_id)
        if machine is not None and machine.running:
            self._stop(machine, "the machine stopped")

    def host_down(self, host_id: str, *, down: bool) -> None:
        """A host fails with all its machines (down), or takes work again; machines stay off."""
        self._settle()
        place = self._hosts.get(host_id)
        if place is None:
            return
        place.down = down
        for machine in self._machines.values() if down else ():
            if machine.host_id == host_id and machine.running:
                self._stop(machine, "its host failed")

    # --------------------------------------------------------------------------- work

    async def _once(
        self, operation: Operation, work: Callable[[Operation, SimulatedHost], Awaitable[None]]
    ) -> None:
        """One at a time for each desktop; an operation that was done is not done again."""
        desktop_id = operation.desktop.id
        lock = self._locks.get(desktop_id)
        if lock is None:
            lock = self._locks[desktop_id] = asyncio.Lock()
        place = self._host(operation.host)
        try:
            async with asyncio.timeout(operation.deadline_s), lock:
                if operation.id in self._finished:
                    return
                await self._pass(self._chance.uniform(0, place.knobs.stall_s))
                if place.down:
                    raise EngineError(f"{place.host.name} does not answer")
                await work(operation, place)
                self._remember(operation.id)
        except TimeoutError:
            raise EngineError(f"no answer within {operation.deadline_s:g} s") from None
        if self._happens(place.knobs.lost_reply):
            raise EngineError("the answer was lost")

    async def _create(self, operation: Operation, place: SimulatedHost) -> None:
        desktop = operation.desktop
        known = self._machines.get(desktop.id)
        if known is not None and known.running and known.generation >= desktop.generation:
            return
        if self._happens(place.knobs.create_fail):
            raise EngineError(f"{place.host.name} could not make {desktop.name}")
        await self._work(place, place.profile.create_s)
        self._boot(self._add(desktop, place), place)

    async def _reset(self, operation: Operation, place: SimulatedHost) -> None:
        desktop = operation.desktop
        known = self._machines.get(desktop.id)
        if known is None:
            await self._create(operation, place)
            return
        if known.generation > desktop.generation or (
            known.generation == desktop.generation and known.running
        ):
            return
        if self._happens(place.knobs.reset_fail):
            raise EngineError(f"{place.host.name} could not make {desktop.name} fresh")
        self._close_consoles(known)
        self._power_off(known)
        await self._work(place, place.profile.reset_s)
        self._boot(self._add(desktop, place), place)

    async def _destroy(self, operation: Operation, place: SimulatedHost) -> None:
        machine = self._machines.get(operation.desktop.id)
        if machine is None:
            return
        if self._happens(place.knobs.destroy_fail):
            raise EngineError(f"{place.host.name} could not remove {operation.desktop.name}")
        self._close_consoles(machine)
        self._power_off(machine)
        await self._work(place, place.profile.destroy_s)
        self._hosts[machine.host_id].remove(operation.desktop.id)
        del self._machines[operation.desktop.id]
        self._changed.set()

    # --------------------------------------------------------------------- machine parts

    def _host(self, host: Host) -> SimulatedHost:
        name, knobs = split_profile(host.profile, self._knobs)
        profile: Profile | None = self._calibration.profiles.get(name)
        if profile is None:
            known = ", ".join(sorted(self._calibration.profiles))
            raise EngineError(f"{host.name}: no profile is called {name!r}; known: {known}")
        place = self._hosts.get(host.id)
        if place is None:
            place = self._hosts[host.id] = SimulatedHost(host, profile, knobs, self._now())
        else:
            place.update(host, profile, knobs)
        return place

    def _add(self, desktop: Desktop, place: SimulatedHost) -> _Machine:
        """The machine at the desktop's generation, off; in place of an earlier one."""
        old = self._machines.pop(desktop.id, None)
        if old is not None:
            self._hosts[old.host_id].remove(desktop.id)
        machine = _Machine(desktop=desktop, host_id=place.host.id, generation=desktop.generation)
        self._machines[desktop.id] = machine
        place.add(desktop.id, desktop.resources.memory_mib)
        return machine

    def _boot(self, machine: _Machine, place: SimulatedHost) -> None:
        self._settle()
        knobs = place.knobs
        work_s = self._drawn(place, place.profile.boot_s)
        machine.running, machine.outcome = True, "ready"
        if self._happens(knobs.boot_fail):
            machine.outcome, work_s = "failed", work_s * _HALFWAY
        elif self._happens(knobs.never_ready):
            machine.outcome = "silent"
        place.boot(machine.desktop.id, work_s)
        self._changed.set()

    def _power_off(self, machine: _Machine) -> None:
        self._settle()
        machine.running = False
        self._hosts[machine.host_id].stop(machine.desktop.id)
        self._changed.set()

    def _stop(self, machine: _Machine, why: str) -> None:
        self._power_off(machine)
        self._close_consoles(machine)
        self._report(machine, ready=False, detail=why)

    def _close_consoles(self, machine: _Machine) -> None:
        for console in tuple(machine.consoles):
            console.end()

    # ----------------------------------------------------------------- time and reports

    def _now(self) -> float:
        """Simulated seconds since this engine was built."""
        return (self._clock.monotonic() - self._start) * self._speed

    async def _pass(self, seconds: float) -> None:
        if seconds > 0:
            await self._clock.sleep(seconds / self._speed)

    async def _work(self, place: SimulatedHost, seconds: float) -> None:
        await self._pass(self._drawn(place, seconds))

    def _drawn(self, place: SimulatedHost, seconds: float) -> float:
        spread = place.profile.spread
        return seconds * self._chance.uniform(1 - spread, 1 + spread) * place.knobs.slow_factor

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.uniform(0, 1) < share

    def _settle(self) -> None:
        """Bring every host up to now and make the reports that fell due."""
        now = self._now()
        for place in self._hosts.values():
            for desktop_id in place.settle(now):
                self._booted(self._machines[desktop_id], place)
        while self._crashes and self._crashes[0][0] <= now:
            _, desktop_id, generation = heapq.heappop(self._crashes)
            machine = self._machines.get(desktop_id)
            if machine is not None and machine.generation == generation and machine.running:
                machine.running = False
                self._hosts[machine.host_id].stop(desktop_id)
                self._close_consoles(machine)
                self._report(machine, ready=False, detail="the machine stopped")

    def _booted(self, machine: _Machine, place: SimulatedHost) -> None:
        if machine.outcome == "failed":
            machine.running = False
            place.stop(machine.desktop.id)
            self._report(machine, ready=False, detail="it stopped while booting")
            return
        if machine.outcome == "silent":
            return
        self._plan_crash(machine, place)
        if self._happens(place.knobs.stale_report):
            self._report(machine, ready=True, generation=machine.generation - 1)
        self._report(machine, ready=True)
        if self._happens(place.knobs.duplicate_report):
            self._report(machine, ready=True)

    def _plan_crash(self, machine: _Machine, place: SimulatedHost) -> None:
        if place.knobs.crash_per_hour > 0:
            lives_s = -math.log(1 - self._chance.uniform(0, 1) * (1 - 1e-12))
            lives_s *= 3600 / place.knobs.crash_per_hour
            key = (self._now() + lives_s, machine.desktop.id, machine.generation)
            heapq.heappush(self._crashes, key)

    def _report(
        self, machine: _Machine, *, ready: bool, detail: str = "", generation: int | None = None
    ) -> None:
        self._pending.append(
            MachineReport(
                desktop_id=machine.desktop.id,
                generation=machine.generation if generation is None else generation,
                ready=ready,
                detail=detail,
            )
        )
        self._changed.set()

    def _until_next(self) -> float | None:
        """Seconds of the clock until something is due; None: nothing is."""
        dues = [at for place in self._hosts.values() if (at := place.next_at()) is not None]
        if self._crashes:
            dues.append(self._crashes[0][0])
        return max(0.0, min(dues) - self._now()) / self._speed if dues else None

    def _remember(self, operation_id: str) -> None:
        self._finished[operation_id] = None
        if len(self._finished) > ENGINE_OPERATIONS_REMEMBERED:
            self._finished.popitem(last=False)
