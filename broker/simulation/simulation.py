"""One run: a town, its brokers and its weather from one seed, until it is settled again."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from agents.core.identity import Identity
from broker.domain.errors import TriviumError
from broker.domain.model import EndpointState, Host, Pool, Session, SessionState
from broker.domain.site import SITE_DOCUMENT, plain
from broker.engines.simulated import load_calibration
from broker.engines.simulated.profile import Calibration
from broker.services.origin import Origin
from broker.simulation.administrators import Administrator
from broker.simulation.engine import Hypervisor
from broker.simulation.faults import Faults
from broker.simulation.history import History
from broker.simulation.invariants import Invariants
from broker.simulation.loop import SimLoop, StuckError
from broker.simulation.people import Person
from broker.simulation.planting import Plant
from broker.simulation.ports import Bus
from broker.simulation.process import INSTALLATION, Process
from broker.simulation.rulers import address_of
from broker.simulation.seams import SimClock, SimIdentity, SimIds
from broker.simulation.settling import Complaint, complaints, short_of_spares
from broker.simulation.station import Station
from broker.simulation.storms import STORM_MIN, Storm
from broker.simulation.town import Town, build_town, key_of_station
from broker.simulation.watched import WatchedState
from broker.simulation.weather import CALM, Weather, draw_weather
from broker.store.memory import MemoryStore

TICK_S: Final = 1.0
"""between two looks of the run at itself"""
SWEEP_TICKS: Final = 20
"""between two checks of everything"""
WORKING_S: Final = 130.0
"""a broker that has worked for so long has no excuse for a late row"""
SETTLE_S: Final = 900.0
"""within which everything must have settled once faults have stopped"""
SETTLE_LOOK_S: Final = 15.0
VIRTUAL_S_MAX: Final = 40_000.0
RESTART_S: Final = 20.0
CALLBACKS_MAX: Final = 300
"""callbacks of the loop for one operation, past which a run is stuck"""
AWAY_S: Final = 160.0
"""an endpoint that has been away for so long has been noticed, while a broker worked"""

_CALIBRATION: list[Calibration] = []


def _calibration() -> Calibration:
    """Read once for a process: it is a file."""
    if not _CALIBRATION:
        _CALIBRATION.append(load_calibration())
    return _CALIBRATION[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What makes a run. The same spec gives the same run."""

    seed: int
    operations: int
    plant: Plant | None = None


class Simulation:
    """Everything in one run. The parts see it through small protocols of their own."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.loop = SimLoop.seeded(self._stream("loop"), self._asyncio_fault)
        self.history = History(self.loop)
        self.clock = SimClock(self.loop)
        self.ids = SimIds()
        self.bus = Bus([])
        self.acting = True
        self.weather: Weather = draw_weather(self._stream("weather"))
        self.town: Town = build_town(self._stream("town"))
        self.hypervisor = Hypervisor(
            self.loop, self._stream("hypervisor"), self.clock, _calibration(), self.history
        )
        self.hypervisor.weather = lambda: self.weather
        self.hypervisor.attempt_of = self._attempt_of
        self.state = WatchedState()
        self.plant = spec.plant or Plant()
        self.store = MemoryStore(self.state)
        self.plant.into_store(self.store, self.state)
        self.invariants = Invariants(self.history, self.state, self.hypervisor, self.clock)
        self.state.watcher = self.invariants
        self.hypervisor.shown = self.invariants.marks.shown
        self.processes: list[Process] = []
        self.stations: list[Station] = []
        self.people: list[Person] = []
        self.administrators = [
            Administrator(self, one, self._stream(one.username)) for one in self.town.administrators
        ]
        self.administrator: Person = self.administrators[0]
        self._balance = self._stream("balance")
        self.processes_wanted: int = self._stream("processes").choice((1, 1, 2, 3))
        self._made_processes = 0
        self._storms: list[Storm] = []
        self.settled_after_s = 0.0
        self.settle_look_s = SETTLE_LOOK_S

    def _stream(self, name: str) -> Random:
        """Chance for one part, so that a part that draws more does not move the others."""
        return Random(f"{self.spec.seed} {name}")

    def _asyncio_fault(self, message: str, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, (ConnectionError, TriviumError)):
            self.history.violated("I15", f"{message}: {error!r}")

    def _attempt_of(self, job_id: str) -> int:
        job = self.state.jobs.get(job_id)
        return job.attempts if job is not None else 0

    # ------------------------------------------------------------------- processes

    def start_process(self) -> Process:
        self._made_processes += 1
        name = f"broker{self._made_processes}"
        process = Process(self, name, self._stream(name))
        self.processes.append(process)
        self.plant.into_process(process)
        process.start()
        return process

    def any_process(self) -> Process | None:
        ready = [one for one in self.processes if one.ready]
        return ready[int(self._balance.random() * len(ready))] if ready else None

    def died(self, process: Process) -> None:
        """Somebody starts another one after a while, from the store alone."""
        lines = [line for line in process.lines if not line.over and not line.half_open]
        self.stormed([line.end.name for line in lines])
        for line in tuple(process.lines):
            line.broken("the broker died")
        self.processes.remove(process)
        delay = self._balance.random() * (RESTART_S if self.acting else 1.0)
        self.loop.call_later(delay, self._restart)

    def _restart(self) -> None:
        if len(self.processes) < self.processes_wanted:
            self.start_process()

    def fell(self, process: Process, error: BaseException) -> None:
        """A process ended, or failed a request, without having been killed."""
        leaf = error
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        places = [
            frame.name
            for frame in traceback.extract_tb(leaf.__traceback__)
            if "simulation" not in Path(frame.filename).parts
        ]
        where = " > ".join(places[-3:])
        self.history.violated("I15", f"{type(leaf).__name__} in {where}: {leaf}")
        if isinstance(error, BaseExceptionGroup):
            process.die()

    def saw(self, process: Process, name: str, args: tuple[Any, ...], result: Any) -> None:
        del process
        self.invariants.called(name, args, result)

    # -------------------------------------------------------------------- stations

    def made_fresh(self, desktop_id: str, generation: int) -> None:
        self.invariants.fresh.add((desktop_id, generation))
        self.invariants.marks.made_fresh(desktop_id)

    def connecting(self, station: Station) -> None:
        self._storms = [one for one in self._storms if not one.tried(station.name)]

    def stormed(self, stations: list[str]) -> None:
        if len(stations) >= STORM_MIN:
            self._storms.append(Storm(self.loop, self.history, stations))

    def sessions_elsewhere(self, endpoint_id: str) -> list[Session]:
        return [
            self.state.sessions[one]
            for one in self.state.held_places.values()
            if self.state.sessions[one].endpoint_id != endpoint_id
        ]

    def gave_up(self, station: Station, code: str) -> None:
        if code != "endpoint.proof":
            self.history.violated("L4", f"{station.name} stopped for good: {code}")

    async def enrolment_token(self) -> str | None:
        tokens = await self.administrator.insist(
            "enrolment token", lambda all_: all_.endpoints.make_tokens(1)
        )
        return tokens[0] if tokens else None

    def _add_stations(self) -> None:
        known = {one.name: one for one in self.town.change.endpoints}
        for name, architecture in self.town.stations:
            record = known.get(name)
            identity: Identity = SimIdentity(
                name=name,
                kind="thin" if architecture == "vdi" else "fat",
                location="Room 1",
                private_key=key_of_station(name),
                endpoint_id=record.id if record is not None else None,
                installation_id=INSTALLATION if record is not None else None,
            )
            chance = self._stream(name)
            station = Station(self, name, identity, architecture, chance)
            self.plant.into_station(station)
            self.stations.append(station)
            station.begin(chance.random() * 10)

    # ---------------------------------------------------------------------- people

    def pools(self) -> tuple[Pool, ...]:
        return tuple(self.state.pools.values())

    def hosts(self) -> tuple[Host, ...]:
        return tuple(self.state.hosts.values())

    def live_sessions(self) -> tuple[Session, ...]:
        return tuple(self.state.sessions[one] for one in self.state.held_places.values())

    def endpoint_ids(self) -> tuple[str, ...]:
        return tuple(self.state.endpoints)

    def desks(self, architecture: str) -> tuple[str, ...]:
        return tuple(one.name for one in self.stations if one.architecture == architecture)

    # ------------------------------------------------------------------------- run

    def run(self) -> None:
        """To the end. What was violated is in `history`."""
        bound = CALLBACKS_MAX * max(self.spec.operations, 1000)
        try:
            self.loop.run(self._live(), callbacks_max=bound)
        except (StuckError, TimeoutError) as error:
            self.history.violated("L1", f"the run came to no end: {error}")
        finally:
            self.history.close()
            self.loop.sweep_up(100)
            self.loop.close()

    async def _live(self) -> None:
        await self.begin(people=True)
        Faults(self, self._stream("faults")).start()
        await self._storm()
        if not self.history.broken:
            await self._settle()

    async def begin(self, *, people: bool) -> None:
        """Everything is switched on."""
        await self.store.open()
        await self._furnish()
        self.loop.spawn(self.hypervisor.run(), None, "hypervisor")
        for _ in range(self.processes_wanted):
            self.start_process()
        self._add_stations()
        if people:
            for one in self.administrators:
                self.loop.spawn(one.live(), None, "administrator")
        for number, identity in enumerate(self.town.people):
            origin = Origin(source=address_of(number))
            self.invariants.rulings.addresses[identity.user_id] = origin.source
            person = Person(self, identity, self._stream(identity.username), origin)
            self.people.append(person)
            if people:
                self.loop.spawn(person.live(), None, "person")

    async def _furnish(self) -> None:
        town, store = self.town, self.store
        await store.directory.apply_roster(town.change)
        for rule in town.rules:
            await store.directory.save_rule(rule, new=True)
        for quota in town.quotas:
            await store.directory.save_quota(quota, new=True)
        await store.documents.save(SITE_DOCUMENT, plain(town.site), revision=0)

    async def _storm(self) -> None:
        ticks = 0
        while self.history.done < self.spec.operations and not self.history.broken:
            await asyncio.sleep(TICK_S)
            ticks += 1
            if ticks % SWEEP_TICKS == 0:
                self.loop.forget_done()
                if self._somebody_works():
                    self.invariants.late()
                    self._unnoticed()
            if self.loop.time() > VIRTUAL_S_MAX:
                raise TimeoutError(f"{self.history.done} operations in {VIRTUAL_S_MAX} s")

    def _unnoticed(self) -> None:
        """An endpoint that is away counts as away, and so do the sessions that it had."""
        now = self.loop.time()
        for station in self.stations:
            if now - station.last_line_s < AWAY_S:
                continue
            endpoint_id = station.identity.endpoint_id
            record = self.state.endpoints.get(endpoint_id or "")
            if record is not None and record.state is EndpointState.ONLINE:
                self.history.violated("L6", f"{station.name} has been away, and counts as online")
            for session_id in sorted(self.state.held_places.values()):
                one = self.state.sessions[session_id]
                if one.endpoint_id == endpoint_id and one.state is SessionState.ACTIVE:
                    self.history.violated("L6", f"{one.id} is active at an endpoint long away")

    def _somebody_works(self) -> bool:
        now = self.loop.time()
        return any(
            one.ready
            and now - one.started_s > WORKING_S
            and now - one.store_away_until_s > WORKING_S
            for one in self.processes
        )

    async def _settle(self) -> None:
        """Faults stop, people stop; what is left is settled in time, or told."""
        self.acting = False
        self.weather = CALM
        for process in self.processes:
            process.weather = CALM
            process.dies_in = -1
            process.store_away_until_s = 0.0
        for station in self.stations:
            station.reachable = True
        began, left = self.loop.time(), self._complaints()
        while left and self.loop.time() - began < SETTLE_S and not self.history.broken:
            await asyncio.sleep(self.settle_look_s)
            left = self._complaints()
        self.settled_after_s = self.loop.time() - began
        for name, what in left:
            self.history.violated(name, f"after {SETTLE_S:.0f} s of calm: {what}")

    def _complaints(self) -> list[Complaint]:
        found = complaints(self) or short_of_spares(self)
        if found:
            return found
        acknowledged = {one.identity.user_id: one.acknowledged for one in self.administrators}
        return self.invariants.ledger.complaints(acknowledged)
