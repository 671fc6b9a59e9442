"""What goes wrong from time to time: crashes, outages, partitions, reboots, lost machines.

Each kind is one task that waits an exponential pause and strikes. What goes wrong with single
calls, messages and reports is drawn where these pass (ports, engine, line, people).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from broker import wire
from broker.domain.model import Session
from broker.simulation.engine import Hypervisor
from broker.simulation.history import History
from broker.simulation.loop import SimLoop
from broker.simulation.process import Process
from broker.simulation.station import Station
from broker.simulation.weather import Weather

DIES_WITHIN: Final = 60
"""port calls within which a process dies that is chosen to"""
OUTAGE_S: Final = 25.0
PARTITION_S: Final = 150.0
REBOOT_S: Final = 20.0
OFF_S: Final = 500.0


class Targets(Protocol):
    loop: SimLoop
    history: History
    weather: Weather
    hypervisor: Hypervisor
    processes: list[Process]
    stations: list[Station]
    acting: bool

    def stormed(self, stations: list[str]) -> None:
        """These lost their links at this instant."""

    def sessions_elsewhere(self, endpoint_id: str) -> list[Session]:
        """Sessions that are not this endpoint's."""


class Faults:
    def __init__(self, world: Targets, chance: Random) -> None:
        self._world = world
        self._chance = chance

    def start(self) -> None:
        weather, kinds = self._world.weather, self._kinds()
        for gap_s, strike in (
            (getattr(weather, f"{name}_gap_s"), strike) for name, strike in kinds.items()
        ):
            if gap_s:
                self._world.loop.spawn(self._run(gap_s, strike), None, "faults")

    def _kinds(self) -> dict[str, Callable[[], None]]:
        return {
            "crash": self._crash,
            "outage": self._outage,
            "cut": self._cut,
            "partition": self._partition,
            "half_open": self._half_open,
            "reboot": self._reboot,
            "machine_lost": self._machine_lost,
            "display": self._display,
            "storm": self._storm,
            "hostile": self._hostile,
        }

    async def _run(self, gap_s: float, strike: Callable[[], None]) -> None:
        while self._world.acting:
            await asyncio.sleep(self._chance.expovariate(1 / gap_s))
            if self._world.acting:
                strike()

    def _any_process(self) -> Process | None:
        alive = [one for one in self._world.processes if one.ready]
        return self._chance.choice(alive) if alive else None

    def _any_station(self) -> Station:
        return self._chance.choice(self._world.stations)

    # ------------------------------------------------------------------------ kinds

    def _crash(self) -> None:
        """At one of the next port calls, whatever it is in the middle of; or at once."""
        process = self._any_process()
        if process is not None:
            process.dies_in = self._chance.randint(0, DIES_WITHIN)

    def _outage(self) -> None:
        process = self._any_process()
        if process is not None:
            self._world.history.fault("store outage", process.name)
            away_s = self._chance.random() * OUTAGE_S
            process.store_away_until_s = self._world.loop.time() + away_s

    def _cut(self) -> None:
        station = self._any_station()
        if station.line is not None:
            self._world.history.fault("link cut", station.name)
            station.cut()

    def _partition(self) -> None:
        """Nothing gets through to one endpoint; both ends may or may not notice."""
        station = self._any_station()
        if not station.reachable:
            return
        self._world.history.fault("partition", station.name)
        station.reachable = False
        station.freeze_line()
        for display in tuple(station.displays.values()):
            display.cut("partitioned")
        self._world.loop.call_later(self._chance.random() * PARTITION_S, self._heal, station)

    def _heal(self, station: Station) -> None:
        station.reachable = True

    def _half_open(self) -> None:
        station = self._any_station()
        if station.line is not None:
            self._world.history.fault("link dead unseen", station.name)
            station.freeze_line()

    def _reboot(self) -> None:
        """Some are switched off for long."""
        long = self._chance.random() < 0.15
        self._any_station().reboot(self._chance.random() * (OFF_S if long else REBOOT_S))

    def _machine_lost(self) -> None:
        running = self._world.hypervisor.running()
        if running:
            self._world.hypervisor.lose(self._chance.choice(running))

    def _display(self) -> None:
        displays = [one for station in self._world.stations for one in station.displays.values()]
        if displays:
            self._world.history.fault("display cut", str(len(displays)))
            self._chance.choice(displays).cut("cut")

    def _storm(self) -> None:
        """Every endpoint of one process loses its link at the same instant."""
        process = self._any_process()
        if process is not None:
            self._world.history.fault("every link of a process cut", process.name)
            lines = [line for line in process.lines if not line.over and not line.half_open]
            self._world.stormed([line.end.name for line in lines])
            for line in lines:
                line.broken("cut")

    def _hostile(self) -> None:
        """An endpoint speaks of what is another's."""
        station = self._any_station()
        line, here = station.line, station.identity.endpoint_id
        if line is None or here is None or not station.core.link.is_up:
            return
        foreign = self._world.sessions_elsewhere(here)
        if not foreign:
            return
        session = self._chance.choice(foreign)
        self._world.history.fault("endpoint speaks for another", f"{station.name} {session.id}")
        generation = session.generation
        message: wire.FromAgent = self._chance.choice(
            (
                wire.Live(session_id=session.id, generation=generation),
                wire.Ended(session_id=session.id, generation=generation),
            )
        )
        if self._chance.random() < 0.3 and session.desktop_id is not None:
            message = wire.Fresh(desktop_id=session.desktop_id, generation=generation)
        line.say(wire.encode(message))
