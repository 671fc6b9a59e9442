"""Snapshots of simulated machines: what a machine was at one moment, kept on it.

The caller (engine.py) has the machine for itself, as for the other verbs.
"""

from __future__ import annotations

from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.features import Feature
from broker.engines.simulated.hosts import SimulatedHost
from broker.engines.simulated.plant import Kept, Plant, SimulatedMachine
from broker.engines.simulated.verbs import need
from broker.ports import Operation

_BYTES_PER_MIB = 1024 * 1024


class Snapshots:
    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    async def take(self, operation: Operation, place: SimulatedHost, snapshot_id: str) -> int:
        """The bytes of its memory, which are written while it stands still."""
        need(place, Feature.SNAPSHOT)
        machine = self._known(operation)
        known = machine.snapshots.get(snapshot_id)
        if known is not None:
            return known.size_bytes
        self._may_fail(place, f"keep a snapshot of {machine.desktop.name}")
        memory_mib = 0.0
        if machine.running or machine.suspended:
            memory_mib = machine.desktop.resources.memory_mib * place.profile.memory_factor
        profile = place.profile
        await self._work(place, profile.snapshot_s + memory_mib / profile.save_mib_s)
        self._plant.settle()
        size_bytes = round(memory_mib * _BYTES_PER_MIB)
        machine.snapshots[snapshot_id] = Kept(users=tuple(machine.users), size_bytes=size_bytes)
        return size_bytes

    async def revert(self, operation: Operation, place: SimulatedHost, snapshot_id: str) -> None:
        """It is off meanwhile. One that was taken up from the store's record after a restart is
        believed to have what the store says."""
        need(place, Feature.SNAPSHOT)
        plant, machine = self._plant, self._known(operation)
        if machine.generation == operation.desktop.generation and not machine.adopted:
            raise StaleGenerationError(f"{machine.desktop.name} goes on as it is by now")
        kept = machine.snapshots.get(snapshot_id)
        if kept is None:
            if not machine.adopted:
                raise EngineError(f"{machine.desktop.name} has no such snapshot")
            kept = machine.snapshots[snapshot_id] = Kept(users=tuple(machine.users), size_bytes=0)
        self._may_fail(place, f"revert {machine.desktop.name}")
        machine.close_displays()
        plant.power_off(machine)
        machine.suspended, machine.left_s = False, 0.0
        machine.desktop, machine.generation = operation.desktop, operation.desktop.generation
        machine.users = dict.fromkeys(kept.users)
        place.add(machine.desktop.id, machine.desktop.resources.memory_mib)
        loaded_s = kept.size_bytes / _BYTES_PER_MIB / place.profile.load_mib_s
        plant.boot(machine, plant.drawn(place, place.profile.revert_s + loaded_s), operation.id)

    async def drop(self, operation: Operation, place: SimulatedHost, snapshot_id: str) -> None:
        need(place, Feature.SNAPSHOT)
        machine = self._known(operation)
        self._may_fail(place, f"drop a snapshot of {machine.desktop.name}")
        await self._work(place, place.profile.snapshot_s)
        machine.snapshots.pop(snapshot_id, None)

    def _known(self, operation: Operation) -> SimulatedMachine:
        machine = self._plant.machines.get(operation.desktop.id)
        if machine is None:
            raise EngineError(f"there is no machine of {operation.desktop.name}")
        return machine

    def _may_fail(self, place: SimulatedHost, what: str) -> None:
        if self._plant.happens(place.knobs.snapshot_fail):
            raise EngineError(f"{place.host.name} could not {what}")

    async def _work(self, place: SimulatedHost, seconds: float) -> None:
        await self._plant.wait(self._plant.drawn(place, seconds))
