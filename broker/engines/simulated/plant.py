"""The machines and hosts of the simulated engine, and what time does to them.

Nothing here runs by itself: `settle` brings everything up to now whenever somebody asks, and
makes the reports that fell due. Simulated seconds pass `speed` times as fast as the clock's.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from broker.domain.errors import EngineError
from broker.domain.model import Desktop, Host
from broker.engines.simulated.display import SimulatedConsole
from broker.engines.simulated.guest import SimulatedGuest
from broker.engines.simulated.hosts import SimulatedHost
from broker.engines.simulated.knobs import Knobs, split_profile
from broker.engines.simulated.profile import Calibration, Profile
from broker.engines.simulated.shares import Claim
from broker.engines.unread import Unread
from broker.limits import ENGINE_REPORTS_MAX
from broker.ports import Chance, Clock, MachineReport

_HALFWAY = 0.5
"""part of its boot after which a failing machine stops"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot: the sessions of which the machine had data then, and what it took."""

    users: tuple[str, ...]
    size_bytes: int


@dataclass(slots=True, eq=False)
class SimulatedMachine:
    """One machine. `running` and `suspended` are never both true; neither: it is off."""

    desktop: Desktop
    host_id: str
    generation: int
    operation_id: str = ""
    """what started it, or asked about it last"""
    running: bool = False
    suspended: bool = False
    outcome: str = ""
    """what the boot under way will come to: ready, failed or silent"""
    left_s: float = 0.0
    """of a boot that a suspend interrupted"""
    users: dict[str, None] = field(default_factory=dict)
    """sessions that opened its display since it was made fresh, in that order"""
    consoles: dict[SimulatedConsole, None] = field(default_factory=dict)
    """open displays, oldest first"""
    snapshots: dict[str, Kept] = field(default_factory=dict)
    guest: SimulatedGuest = field(default_factory=SimulatedGuest)
    image_id: str = ""
    """what its disk stands on; empty: not known"""
    adopted: bool = False
    """made of the store's record: what it had before is not known here"""

    def close_displays(self) -> None:
        for console in tuple(self.consoles):
            console.end()


class Plant:
    """`knobs` are those of every host; a host's profile text turns its own (knobs.py)."""

    def __init__(
        self, *, clock: Clock, chance: Chance, calibration: Calibration, speed: float, knobs: Knobs
    ) -> None:
        self.clock = clock
        self.calibration = calibration
        self.speed = speed
        self.hosts: dict[str, SimulatedHost] = {}
        self.unread = Unread()
        self.machines: dict[str, SimulatedMachine] = {}
        self.claims: dict[str, Claim] = {}
        """desktop id -> its weights and its guarantee, as its last operation said"""
        self.copies: dict[str, set[str]] = {}
        """host id -> the images of which it has a copy"""
        self.pending: deque[MachineReport] = deque(maxlen=ENGINE_REPORTS_MAX)
        self.changed = asyncio.Event()
        """something happened that may make the next report due earlier"""
        self._chance = chance
        self._knobs = knobs
        self._start = clock.monotonic()
        self._crashes: list[tuple[float, str, int]] = []

    # ------------------------------------------------------------------ time and chance

    def now(self) -> float:
        """Simulated seconds since the engine was built."""
        return (self.clock.monotonic() - self._start) * self.speed

    async def wait(self, seconds: float) -> None:
        """Let so many simulated seconds pass."""
        if seconds > 0:
            await self.clock.sleep(seconds / self.speed)

    def drawn(self, place: SimulatedHost, seconds: float) -> float:
        """A length of work there: its profile's figure, spread by chance."""
        spread = place.profile.spread
        return seconds * self._chance.uniform(1 - spread, 1 + spread) * place.knobs.slow_factor

    def uniform(self, low: float, high: float) -> float:
        return self._chance.uniform(low, high)

    def happens(self, share: float) -> bool:
        return share > 0 and self._chance.uniform(0, 1) < share

    # ----------------------------------------------------------------- hosts, machines

    def host(self, host: Host) -> SimulatedHost:
        """The host as the newest record that was shown says: whoever comes with an older one read
        it before it was changed. Raises NotHereError for an unknown profile or knob."""
        place = self.hosts.get(host.id)
        if place is not None and host.revision < place.host.revision:
            return place
        profile, knobs = self.read(host)
        if place is None:
            place = self.hosts[host.id] = SimulatedHost(
                host, profile, knobs, self.now(), self.claims
            )
        else:
            place.update(host, profile, knobs)
        return place

    def read(self, host: Host) -> tuple[Profile, Knobs]:
        """Its profile. Raises NotHereError."""
        with self.unread.reading(host):
            name, knobs = split_profile(host.profile, self._knobs)
            profile = self.calibration.profiles.get(name)
            if profile is None:
                known = ", ".join(sorted(self.calibration.profiles))
                raise EngineError(f"{host.name}: no profile is called {name!r}; known: {known}")
        return profile, knobs

    def place_of(self, machine: SimulatedMachine) -> SimulatedHost:
        return self.hosts[machine.host_id]

    def check_answers(self, place: SimulatedHost) -> None:
        """Raises EngineError where the host is down or off."""
        self.settle()
        refusal = place.refusal()
        if refusal is not None:
            raise EngineError(refusal)

    def add(self, desktop: Desktop, place: SimulatedHost) -> SimulatedMachine:
        """The machine at the desktop's generation, fresh and off; in place of an earlier one."""
        self.remove(desktop.id)
        machine = SimulatedMachine(
            desktop=desktop, host_id=place.host.id, generation=desktop.generation
        )
        self.machines[desktop.id] = machine
        place.add(desktop.id, desktop.resources.memory_mib)
        return machine

    def remove(self, desktop_id: str) -> None:
        machine = self.machines.pop(desktop_id, None)
        if machine is not None:
            self.place_of(machine).remove(desktop_id)
            self.changed.set()

    def boot(self, machine: SimulatedMachine, work_s: float, operation_id: str) -> None:
        """Start it; `work_s`: how long that takes alone on its host."""
        self.settle()
        place, knobs = self.place_of(machine), self.place_of(machine).knobs
        if not machine.suspended:
            machine.guest.boot()
        machine.running, machine.suspended, machine.outcome = True, False, "ready"
        machine.operation_id = operation_id
        if self.happens(knobs.boot_fail):
            machine.outcome, work_s = "failed", work_s * _HALFWAY
        elif self.happens(knobs.never_ready):
            machine.outcome = "silent"
        place.boot(machine.desktop.id, work_s)
        self.changed.set()

    def took_up(self, machine: SimulatedMachine) -> None:
        """It runs already, and is ready: found so after a restart."""
        machine.running, machine.outcome = True, "ready"
        place = self.place_of(machine)
        place.run(machine.desktop.id)
        self._plan_crash(machine, place)

    def power_off(self, machine: SimulatedMachine) -> None:
        self.settle()
        machine.running = False
        self.place_of(machine).stop(machine.desktop.id)
        self.changed.set()

    def stop(self, machine: SimulatedMachine, why: str) -> None:
        """It dies by itself."""
        self.power_off(machine)
        machine.close_displays()
        self._report(machine, ready=False, detail=why)

    def report_again(self, machine: SimulatedMachine, operation_id: str) -> None:
        """Somebody asks anew whether it is up: if so it says so, if it boots it will."""
        self.settle()
        machine.operation_id = operation_id
        up = machine.running and self.place_of(machine).is_up(machine.desktop.id)
        if up and machine.outcome == "ready":
            self._report(machine, ready=True)

    # --------------------------------------------------------------- what time brings

    def settle(self) -> None:
        """Bring every host up to now and make the reports that fell due."""
        now = self.now()
        for place in self.hosts.values():
            for desktop_id in place.settle(now):
                self._booted(self.machines[desktop_id], place)
        while self._crashes and self._crashes[0][0] <= now:
            _, desktop_id, generation = heapq.heappop(self._crashes)
            machine = self.machines.get(desktop_id)
            if machine is not None and machine.generation == generation and machine.running:
                machine.running = False
                self.place_of(machine).stop(desktop_id)
                machine.close_displays()
                self._report(machine, ready=False, detail="the machine stopped")

    def _booted(self, machine: SimulatedMachine, place: SimulatedHost) -> None:
        if machine.outcome == "failed":
            machine.running = False
            place.stop(machine.desktop.id)
            self._report(machine, ready=False, detail="it stopped while booting")
            return
        if machine.outcome == "silent":
            return
        self._plan_crash(machine, place)
        if self.happens(place.knobs.stale_report):
            self._report(machine, ready=True, generation=machine.generation - 1)
        self._report(machine, ready=True)
        if self.happens(place.knobs.duplicate_report):
            self._report(machine, ready=True)

    def _plan_crash(self, machine: SimulatedMachine, place: SimulatedHost) -> None:
        if place.knobs.crash_per_hour > 0:
            lives_s = -math.log(1 - self._chance.uniform(0, 1) * (1 - 1e-12))
            lives_s *= 3600 / place.knobs.crash_per_hour
            key = (self.now() + lives_s, machine.desktop.id, machine.generation)
            heapq.heappush(self._crashes, key)

    def _report(
        self,
        machine: SimulatedMachine,
        *,
        ready: bool,
        detail: str = "",
        generation: int | None = None,
    ) -> None:
        self.pending.append(
            MachineReport(
                desktop_id=machine.desktop.id,
                generation=machine.generation if generation is None else generation,
                ready=ready,
                detail=detail,
                operation_id=machine.operation_id,
            )
        )
        self.changed.set()

    def until_next(self) -> float | None:
        """Seconds of the clock until something is due; None: nothing is."""
        dues = [at for place in self.hosts.values() if (at := place.next_at()) is not None]
        if self._crashes:
            dues.append(self._crashes[0][0])
        return max(0.0, min(dues) - self.now()) / self.speed if dues else None
