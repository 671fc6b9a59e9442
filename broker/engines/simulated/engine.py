"""The simulated engine: the Engine port over hosts and machines in memory.

Nothing here runs by itself: time is settled whenever somebody asks, and whoever iterates
`reports` sleeps until the next boot is due. So an engine without callers costs nothing, and a
machine that should be up at some moment is up for everybody who looks after it.

All state is the engine object's own, so brokers that share one see the same machines. One
consumer of `reports` is expected; two would share the reports between them. Processes that serve
one installation have an object each: see `partial`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from broker.domain.errors import EngineError, StaleGenerationError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.inspection import Abilities, Step
from broker.domain.model import Desktop, DesktopState, Host, Image, Resources
from broker.domain.silence import Silence
from broker.engines.simulated.copies import clear
from broker.engines.simulated.display import SimulatedConsole
from broker.engines.simulated.guest_speaking import GuestSpeaking
from broker.engines.simulated.hosts import SimulatedHost
from broker.engines.simulated.inspection import abilities, read_profile, steps
from broker.engines.simulated.knobs import Knobs
from broker.engines.simulated.plant import Plant, SimulatedMachine
from broker.engines.simulated.profile import Calibration
from broker.engines.simulated.shares import Claim
from broker.engines.simulated.snapshots import Snapshots
from broker.engines.simulated.verbs import Verbs, need
from broker.limits import CONSOLES_PER_MACHINE_MAX, ENGINE_OPERATIONS_REMEMBERED
from broker.ports import (
    Chance,
    Clock,
    Console,
    Machine,
    MachineReport,
    Operation,
    PartialListError,
)
from broker.waiting import sleep_or_set

_UP_STATES = frozenset(
    {DesktopState.READY, DesktopState.ASSIGNED, DesktopState.SUSPENDING, DesktopState.PARKING}
)
_BOOTING_STATES = frozenset({DesktopState.STARTING, DesktopState.RESETTING})
_RESUMING_STATES = frozenset({DesktopState.RESUMING, DesktopState.UNPARKING})
_SUSPENDED_STATES = frozenset({DesktopState.SUSPENDED, DesktopState.PARKED})
_NOT_MADE_STATES = frozenset({DesktopState.PLANNED, DesktopState.CREATING, DesktopState.DELETED})

_Work = Callable[[Operation, SimulatedHost], Awaitable[None]]


class SimulatedEngine(GuestSpeaking):
    """Machines in memory. `speed`: simulated seconds per second of the clock.

    `knobs` are those of every host; a host's profile text turns its own (knobs.py). `plant` is
    what truly exists, for the simulation's invariants.

    `partial`: other processes have engines of their own, with machines of the same installation.
    What a desktop's record says is then taken for true before anything is done to its machine,
    and `machines` refuses, for it could tell a part of them only.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        calibration: Calibration,
        speed: float = 1.0,
        knobs: Knobs | None = None,
        name: str = "simulated",
        partial: bool = False,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._calibration = calibration
        self._speed = speed
        self._name = name
        self._knobs = knobs or Knobs()
        self._partial = partial
        self.plant = Plant(
            clock=clock, chance=chance, calibration=calibration, speed=speed,
            knobs=self._knobs,
        )  # fmt: skip
        self._verbs = Verbs(self.plant)
        self._snapshots = Snapshots(self.plant)
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def profiles(self) -> tuple[str, ...]:
        return tuple(sorted(self._calibration.profiles))

    def check_profile(self, profile: str) -> None:
        """See the port."""
        read_profile(profile, self._calibration, self._knobs)

    def home(self, profile: str) -> Mapping[str, str]:
        """See broker.ports.ProfileReader."""
        return {"profile": read_profile(profile, self._calibration, self._knobs)[0].name}

    def features(self, host: Host) -> frozenset[Feature]:
        """See the port: the profile's, less what the host turns off; none for a profile that
        nobody knows."""
        try:
            return self.plant.host(host).features
        except EngineError:
            return frozenset()

    def displays(self, host: Host) -> frozenset[str]:
        del host  # all show the same
        return frozenset({"simulated"})

    async def abilities(self, host: Host) -> Abilities:
        """See broker.ports.HostInspector."""
        return abilities(host, self._calibration, self._knobs)

    async def probe(self, host: Host) -> AsyncIterator[Step]:
        """See broker.ports.HostInspector."""
        for step in steps(host, self._calibration, self._knobs):
            yield step

    async def open(self) -> None:
        """Nothing to connect to."""

    def silence(self, host: Host) -> Silence | None:
        """See broker.ports.HostListener: a host that a drill has failed."""
        self.plant.read(host)
        place = self.plant.hosts.get(host.id)
        return Silence(since=place.down_at, why="it failed") if place and place.down else None

    async def close(self) -> None:
        """End `reports` and close every display. The machines are forgotten with the engine."""
        self._closed = True
        for machine in self.plant.machines.values():
            machine.close_displays()
        self.plant.changed.set()

    async def clear_images(
        self, host: Host, removed: Sequence[Image], deadline_s: float
    ) -> tuple[str, ...]:
        """See broker.ports.ImageKeeper."""
        del deadline_s  # it is done at once
        return clear(self.plant, host, removed)

    # ------------------------------------------------------------------------- verbs

    async def create(self, operation: Operation) -> None:
        """See the port. A machine of this generation that runs, or is suspended, is success; one
        that is off is started as it is."""
        await self._once(operation, self._verbs.create, reports=True)

    async def reset(self, operation: Operation) -> None:
        """See the port. A machine that is at this generation already is success."""
        await self._once(operation, self._verbs.reset, reports=True)

    async def destroy(self, operation: Operation) -> None:
        async def work(operation: Operation, place: SimulatedHost) -> None:
            self.plant.claims.pop(operation.desktop.id, None)
            machine = self.plant.machines.get(operation.desktop.id)
            if machine is not None:
                await self._verbs.take_away(machine, place)

        await self._once(operation, work)

    async def suspend(self, operation: Operation) -> None:
        """See the port. A machine that still boots may be suspended: it boots on later."""
        await self._once(operation, self._verbs.suspend, exists=True)

    async def resume(self, operation: Operation) -> None:
        """See the port."""
        await self._once(operation, self._verbs.resume, reports=True, exists=True)

    async def migrate(self, operation: Operation, to: Host) -> None:
        """See the port. Both hosts are of one profile, and the other has memory for it."""

        async def work(operation: Operation, place: SimulatedHost) -> None:
            await self._verbs.migrate(operation, place, to)

        await self._once(operation, work, exists=True)

    async def resize(self, operation: Operation, to: Resources) -> None:
        """See the port. More memory than the host has left is refused."""

        async def work(operation: Operation, place: SimulatedHost) -> None:
            await self._verbs.resize(operation, place, to)

        await self._once(operation, work, exists=True)

    async def snapshot(self, operation: Operation, snapshot_id: str) -> int | None:
        """See the port."""
        size_bytes: list[int] = []

        async def work(operation: Operation, place: SimulatedHost) -> None:
            size_bytes.append(await self._snapshots.take(operation, place, snapshot_id))

        await self._once(operation, work, exists=True, remember=False)
        return size_bytes[0]

    async def revert(self, operation: Operation, snapshot_id: str) -> None:
        """See the port."""

        async def work(operation: Operation, place: SimulatedHost) -> None:
            await self._snapshots.revert(operation, place, snapshot_id)

        await self._once(operation, work, reports=True, exists=True)

    async def drop_snapshot(self, operation: Operation, snapshot_id: str) -> None:
        """See the port."""

        async def work(operation: Operation, place: SimulatedHost) -> None:
            await self._snapshots.drop(operation, place, snapshot_id)

        await self._once(operation, work, exists=True)

    async def power(self, operation_id: str, host: Host, *, on: bool, deadline_s: float) -> None:
        """See the port. What is off is refused work at once, before it has gone off. A call that
        ran out of time has begun it: the next one waits for the rest."""
        place = self.plant.host(host)
        need(place, Feature.HOST_POWER)
        async with self._turn(f"host {host.id}", deadline_s):
            if operation_id in self._finished:
                return
            if place.down:
                raise EngineError(f"{host.name} does not answer")
            await (self._verbs.power_on(place) if on else self._verbs.power_off(place))
            self._remember(operation_id)

    async def discard(self, machine: Machine) -> None:
        """See the port."""
        async with self._turn(machine.desktop_id, None):
            known = self.plant.machines.get(machine.desktop_id)
            if known is None:
                return
            self._fence(known, machine.generation)
            place = self.plant.place_of(known)
            self.plant.check_answers(place)
            await self._verbs.take_away(known, place)

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        """See the port. What its record says is taken for true: one that should be up is, one
        that should come up boots or resumes now and reports, a suspended one is suspended, any
        other exists and is off. One that was still being made is left to its job."""
        plant = self.plant
        plant.settle()
        known = plant.machines.get(desktop.id)
        if desktop.state in _NOT_MADE_STATES or not self._is_news(known, desktop):
            return
        place = plant.host(host)
        machine = plant.add(desktop, place)
        machine.adopted = True
        if desktop.state in _UP_STATES:
            plant.took_up(machine)
        elif desktop.state in _BOOTING_STATES:
            plant.boot(machine, plant.drawn(place, place.profile.boot_s), "")
        elif desktop.state in _RESUMING_STATES:
            plant.boot(machine, plant.drawn(place, place.profile.resume_s), "")
        elif desktop.state in _SUSPENDED_STATES:
            machine.suspended = True
            place.suspend(desktop.id)

    def _is_news(self, known: SimulatedMachine | None, desktop: Desktop) -> bool:
        if known is None or known.generation != desktop.generation:
            return known is None or known.generation < desktop.generation
        if not self._partial:
            return False
        woken = desktop.state in _UP_STATES and not known.running
        return woken or (desktop.state in _SUSPENDED_STATES and not known.suspended)

    async def machines(self) -> tuple[Machine, ...]:
        """All of them, lost ones included (neither running nor suspended), by desktop id. Of a host
        whose profile is not understood nothing was taken up after a restart."""
        if self._partial:
            raise UnsupportedError("other processes simulate the rest of the machines")
        self.plant.settle()
        listed = tuple(
            Machine(
                desktop_id=one,
                generation=machine.generation,
                running=machine.running,
                host_id=machine.host_id,
                suspended=machine.suspended,
                users=tuple(machine.users),
            )
            for one, machine in sorted(self.plant.machines.items())
        )
        if silent := self.plant.unread.silent():
            raise PartialListError(listed, silent)
        return listed

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        """See the port. A machine that was made fresh since is refused: its display is somebody
        else's by now. The oldest display goes when a machine has too many."""
        if protocol not in {"", "simulated"}:
            raise UnsupportedError(f"a simulated desktop has no {protocol.upper()} display")
        self.plant.settle()
        place = self.plant.hosts.get(desktop.host_id or "")
        if self._partial and place is not None:
            await self.adopt(desktop, place.host)
        machine = self.plant.machines.get(desktop.id)
        if machine is None or not machine.running:
            raise EngineError(f"{desktop.name} does not run")
        if machine.generation != desktop.generation:
            raise EngineError(f"{desktop.name} has been made fresh since")
        if len(machine.consoles) >= CONSOLES_PER_MACHINE_MAX:
            await next(iter(machine.consoles)).close()
        if session_id:
            machine.users[session_id] = None
            machine.guest.shown(self.plant.now())
        console = SimulatedConsole(
            clock=self._clock,
            chance=self._chance,
            model=self._calibration.display,
            title=f"{desktop.name}, generation {machine.generation}",
            speed=self._speed,
            on_close=lambda closed: machine.consoles.pop(closed, None),
            beside=machine.consoles.keys(),
        )
        machine.consoles[console] = None
        return console

    async def reports(self) -> AsyncIterator[MachineReport]:
        """Reports as they fall due, until `close`."""
        plant = self.plant
        while not self._closed:
            plant.changed.clear()
            plant.settle()
            while plant.pending and not self._closed:
                yield plant.pending.popleft()
            if not plant.changed.is_set():
                await sleep_or_set(self._clock, plant.until_next(), plant.changed)

    # ---------------------------------------------------------------- drills and tests

    def lose(self, desktop_id: str) -> None:
        """The machine dies now: reported as not ready, listed as neither running nor suspended."""
        plant = self.plant
        plant.settle()
        machine = plant.machines.get(desktop_id)
        if machine is not None and (machine.running or machine.suspended):
            machine.suspended = False
            plant.stop(machine, "the machine stopped")

    def host_down(self, host_id: str, *, down: bool) -> None:
        """A host fails with all its machines (down), or takes work again; machines stay off.
        Suspended ones lie on its disk and keep."""
        plant = self.plant
        plant.settle()
        place = plant.hosts.get(host_id)
        if place is None:
            return
        if down and not place.down:
            place.down_at = self._clock.now()
        place.down = down
        for machine in plant.machines.values() if down else ():
            if machine.host_id == host_id and machine.running:
                plant.stop(machine, "its host failed")

    # --------------------------------------------------------------------------- turns

    async def _once(
        self, operation: Operation, work: _Work, *, reports: bool = False, exists: bool = False,
        remember: bool = True,
    ) -> None:  # fmt: skip
        """The desktop's next turn; an operation that was done (`remember`) is not done again, but
        whoever waits for its report gets another. `exists`: the machine is there, somewhere."""
        place = self.plant.host(operation.host)
        async with self._turn(operation.desktop.id, operation.deadline_s):
            await self.plant.wait(self.plant.uniform(0, place.knobs.stall_s))
            if exists and self._partial and operation.id not in self._finished:
                await self.adopt(operation.desktop, operation.host)
            machine = self.plant.machines.get(operation.desktop.id)
            if machine is not None:
                self._fence(machine, operation.desktop.generation)
                place = self.plant.place_of(machine)
            if operation.id in self._finished:
                if machine is not None and reports:
                    self.plant.report_again(machine, operation.id)
                return
            self.plant.check_answers(place)
            # time up to now was settled under the shares that were
            self.plant.claims[operation.desktop.id] = Claim(
                weights=operation.weights, guarantee=operation.guarantee
            )
            self.plant.changed.set()
            await work(operation, place)
            if remember:
                self._remember(operation.id)
        if self.plant.happens(place.knobs.lost_reply):
            raise EngineError("the answer was lost")

    @asynccontextmanager
    async def _turn(self, key: str, deadline_s: float | None) -> AsyncIterator[None]:
        """One at a time for each desktop, and each host's power. Past the deadline EngineError."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        try:
            async with asyncio.timeout(deadline_s), lock:
                yield
        except TimeoutError:
            raise EngineError(f"no answer within {deadline_s:g} s") from None

    def _fence(self, machine: SimulatedMachine, generation: int) -> None:
        if machine.generation > generation:
            text = f"{machine.desktop.name} is at generation {machine.generation} by now"
            raise StaleGenerationError(f"{text}, not {generation}")

    def _remember(self, operation_id: str) -> None:
        self._finished[operation_id] = None
        if len(self._finished) > ENGINE_OPERATIONS_REMEMBERED:
            self._finished.popitem(last=False)
