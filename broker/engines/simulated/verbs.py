"""What each verb does to a simulated machine, once its turn has come.

The caller (engine.py) has the machine for itself, has held the operation against the machine's
generation and its host against the verb, and knows that the operation is not done yet.

Memories that cross one host's storage or network at once share it: each takes as many times as
long as there are of them when it begins, which is when the last of them would be done if they
went one after another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.model import Host, Resources
from broker.engines.simulated.hosts import SimulatedHost
from broker.engines.simulated.plant import Plant, SimulatedMachine
from broker.ports import Operation


def need(place: SimulatedHost, feature: Feature) -> None:
    """Raises UnsupportedError where the host cannot do it."""
    if feature not in place.features:
        raise UnsupportedError(f"{place.host.name} has no {feature} (profile {place.profile.name})")


class Verbs:
    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    # ------------------------------------------------------------- made, fresh, gone

    async def create(self, operation: Operation, place: SimulatedHost) -> None:
        plant, desktop = self._plant, operation.desktop
        known = plant.machines.get(desktop.id)
        if known is not None and known.generation == desktop.generation:
            if known.running or known.suspended:
                plant.report_again(known, operation.id)
                return
            self._may_fail(place, place.knobs.create_fail, f"start {desktop.name}")
            plant.boot(known, plant.drawn(place, place.profile.boot_s), operation.id)
            return
        home = self._home(operation)
        self._may_fail(home, home.knobs.create_fail, f"make {desktop.name}")
        await self._work(home, home.profile.create_s)
        self._start_fresh(operation, home)

    async def reset(self, operation: Operation, place: SimulatedHost) -> None:
        """Made fresh where the store believes it: one that is elsewhere, by a move that nobody
        waited for, comes home."""
        plant, desktop = self._plant, operation.desktop
        known = plant.machines.get(desktop.id)
        if known is None:
            await self.create(operation, place)
            return
        if known.generation == desktop.generation and (known.running or known.suspended):
            plant.report_again(known, operation.id)
            return
        home = self._home(operation)
        self._may_fail(home, home.knobs.reset_fail, f"make {desktop.name} fresh")
        known.close_displays()
        plant.power_off(known)
        await self._work(home, home.profile.reset_s)
        self._start_fresh(operation, home)

    def _home(self, operation: Operation) -> SimulatedHost:
        home = self._plant.host(operation.host)
        self._plant.check_answers(home)
        return home

    def _start_fresh(self, operation: Operation, home: SimulatedHost) -> None:
        machine = self._plant.add(operation.desktop, home)
        machine.image_id = operation.image.id
        self._plant.copies.setdefault(home.host.id, set()).add(operation.image.id)
        boot_s = self._plant.drawn(home, home.profile.boot_s)
        self._plant.boot(machine, boot_s, operation.id)

    async def take_away(self, machine: SimulatedMachine, place: SimulatedHost) -> None:
        """For `destroy` and `discard`."""
        plant, name = self._plant, machine.desktop.name
        self._may_fail(place, place.knobs.destroy_fail, f"remove {name}")
        machine.close_displays()
        plant.power_off(machine)
        await self._work(place, place.profile.destroy_s)
        plant.remove(machine.desktop.id)
        plant.claims.pop(machine.desktop.id, None)

    # ------------------------------------------------------------------ suspended

    async def suspend(self, operation: Operation, place: SimulatedHost) -> None:
        need(place, Feature.SUSPEND)
        machine = self._known(operation)
        if machine.suspended:
            return
        self._runs(machine)
        self._may_fail(place, place.knobs.suspend_fail, f"suspend {machine.desktop.name}")
        async with self._transfer(machine, place):
            sharing = place.sharing(machine.desktop.id, "disk")
            per_mib_s = sharing / place.profile.save_mib_s
            saved_s = self._memory_mib(machine, place) * per_mib_s
            await self._work(place, place.profile.suspend_s + saved_s)
        self._plant.settle()
        self._runs(machine)
        machine.left_s = place.suspend(machine.desktop.id)
        machine.running, machine.suspended = False, True
        machine.close_displays()
        self._plant.changed.set()

    async def resume(self, operation: Operation, place: SimulatedHost) -> None:
        """Reading the memory back competes with the boots under way, as one of them. One that is
        off boots as it is."""
        plant = self._plant
        machine = self._known(operation)
        machine.generation = operation.desktop.generation
        if machine.running and not operation.restart:
            plant.report_again(machine, operation.id)
            return
        if machine.suspended:
            need(place, Feature.SUSPEND)
        self._may_fail(place, place.knobs.resume_fail, f"resume {machine.desktop.name}")
        if machine.running:
            machine.close_displays()
            plant.power_off(machine)
        if machine.suspended:
            loaded_s = self._memory_mib(machine, place) / place.profile.load_mib_s
            work_s = plant.drawn(place, place.profile.resume_s + loaded_s) + machine.left_s
        else:
            work_s = plant.drawn(place, place.profile.boot_s)
        machine.left_s = 0.0
        place.add(machine.desktop.id, machine.desktop.resources.memory_mib)
        plant.boot(machine, work_s, operation.id)

    # -------------------------------------------------------------- moved, resized

    async def migrate(self, operation: Operation, place: SimulatedHost, to: Host) -> None:
        plant, there = self._plant, self._plant.host(to)
        machine = self._known(operation)
        if machine.host_id == to.id:
            return
        for end in (place, there):
            need(end, Feature.MIGRATE)
        if place.profile.name != there.profile.name:
            text = f"{place.host.name} and {to.name} are not of one kind"
            raise UnsupportedError(f"{text}: {place.profile.name}, {there.profile.name}")
        self._runs(machine)
        self._has_room(there, machine.desktop.resources.memory_mib)
        self._may_fail(place, place.knobs.migrate_fail, f"move {machine.desktop.name} away")
        there.expect(machine.desktop.id, machine.desktop.resources.memory_mib)
        try:
            async with self._transfer(machine, place, there):
                desktop_id = machine.desktop.id
                sharing = max(end.sharing(desktop_id, "network") for end in (place, there))
                rate = place.profile.migrate_mib_s / sharing
                moved_s = self._memory_mib(machine, place) / rate
                await self._work(place, place.profile.migrate_s + moved_s)
            plant.settle()
            self._runs(machine)
            self._plant.check_answers(there)
        except BaseException:
            there.remove(machine.desktop.id)
            raise
        left_s = place.suspend(machine.desktop.id)
        there.run(machine.desktop.id)
        if left_s > 0:
            there.boot(machine.desktop.id, left_s)
        machine.host_id = to.id
        plant.changed.set()

    async def resize(self, operation: Operation, place: SimulatedHost, to: Resources) -> None:
        need(place, Feature.RESIZE)
        machine = self._known(operation)
        if machine.desktop.resources == to:
            return
        self._runs(machine)
        more_mib = to.memory_mib - machine.desktop.resources.memory_mib
        if more_mib > 0:
            self._has_room(place, more_mib)
        self._may_fail(place, place.knobs.resize_fail, f"resize {machine.desktop.name}")
        await self._work(place, place.profile.resize_s)
        self._plant.settle()
        self._runs(machine)
        machine.desktop = replace(machine.desktop, resources=to)
        place.add(machine.desktop.id, to.memory_mib)

    # ---------------------------------------------------------------------- hosts

    async def power_on(self, place: SimulatedHost) -> None:
        """What was begun goes on without its caller: the next call waits for the rest."""
        plant = self._plant
        plant.settle()
        if not place.off:
            return
        if place.on_at is None:
            self._may_fail(place, place.knobs.power_fail, "go on")
            begins = max(plant.now(), place.gone_at)
            place.on_at = begins + plant.drawn(place, place.profile.power_on_s)
        await plant.wait(place.on_at - plant.now())
        plant.settle()

    async def power_off(self, place: SimulatedHost) -> None:
        plant = self._plant
        plant.settle()
        if not place.off or place.on_at is not None:
            if place.occupied():
                raise EngineError(f"{place.host.name} cannot go off: machines run on it")
            self._may_fail(place, place.knobs.power_fail, "go off")
            gone_at = plant.now() + plant.drawn(place, place.profile.power_off_s)
            place.switch_off(gone_at, plant.clock.now())
        await plant.wait(place.gone_at - plant.now())

    # ---------------------------------------------------------------------- parts

    def _known(self, operation: Operation) -> SimulatedMachine:
        machine = self._plant.machines.get(operation.desktop.id)
        if machine is None:
            raise EngineError(f"there is no machine of {operation.desktop.name}")
        return machine

    def _runs(self, machine: SimulatedMachine) -> None:
        if not machine.running:
            raise EngineError(f"{machine.desktop.name} does not run")

    def _has_room(self, place: SimulatedHost, memory_mib: int) -> None:
        self._plant.check_answers(place)
        lacks = place.lacks_mib(memory_mib)
        if lacks:
            raise EngineError(f"{place.host.name} lacks {lacks} MiB of memory")

    def _may_fail(self, place: SimulatedHost, share: float, what: str) -> None:
        if self._plant.happens(share):
            raise EngineError(f"{place.host.name} could not {what}")

    def _memory_mib(self, machine: SimulatedMachine, place: SimulatedHost) -> float:
        return machine.desktop.resources.memory_mib * place.profile.memory_factor

    async def _work(self, place: SimulatedHost, seconds: float) -> None:
        await self._plant.wait(self._plant.drawn(place, seconds))

    @asynccontextmanager
    async def _transfer(
        self, machine: SimulatedMachine, *places: SimulatedHost
    ) -> AsyncIterator[None]:
        for place in places:
            place.transfers.add(machine.desktop.id)
        try:
            yield
        finally:
            for place in places:
                place.transfers.discard(machine.desktop.id)
