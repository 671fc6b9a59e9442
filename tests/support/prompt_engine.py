"""An engine that does at once what it is asked, for tests of the services above it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from broker.domain.errors import EngineError, StaleGenerationError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.lifecycle import HOST_RUNS
from broker.domain.model import Desktop, DesktopState, Host, Resources
from broker.domain.settings import Limits, Share
from broker.domain.silence import Silence
from broker.domain.storage import StorageClass
from broker.ports import Console, Machine, MachineReport, Operation
from tests.support.prompt_guests import PromptGuests

_SUSPENDED = frozenset(
    {DesktopState.SUSPENDED, DesktopState.PARKED, DesktopState.RESUMING, DesktopState.UNPARKING}
)
_NOT_MADE = frozenset({DesktopState.PLANNED, DesktopState.CREATING, DesktopState.DELETED})
_COMING = frozenset({DesktopState.STARTING, DesktopState.RESETTING})


class PromptEngine(PromptGuests):
    """The Engine port, as far as `can` goes and without displays. `failing` names verbs that
    fail, `forgetful` verbs that do their work and lose the answer; `done` is what was carried
    out, in order: (verb, name of the desktop or host)."""

    name = "simulated"
    profiles: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, int] = {}
        """desktop id -> generation"""
        self.sizes: dict[str, int] = {}
        self.weights: dict[str, Share] = {}
        self.limits: dict[str, tuple[Limits, bool]] = {}
        """of the machines that were resized; and whether their pages are shared"""
        self.classes: dict[str, dict[str, StorageClass]] = {}
        """of storage, by name, of each host by its name"""
        self.stored: dict[str, str] = {}
        """desktop id -> the class that its disk was made in"""
        self.asleep: set[str] = set()
        self.halted: set[str] = set()
        """desktop ids of machines that are off"""
        self.places: dict[str, str] = {}
        self.off: set[str] = set()
        self.can: frozenset[Feature] = frozenset(Feature)
        self.done: list[tuple[str, str]] = []
        self.failing: set[str] = set()
        self.forgetful: set[str] = set()
        self.silent = False
        self.unheard: dict[str, Silence] = {}
        """hosts that are not heard, by id"""
        self.snapshots: dict[str, list[str]] = {}
        """desktop id -> ids of its snapshots, oldest first"""
        self._finished: set[str] = set()
        self._closed = False
        self._reports: asyncio.Queue[MachineReport | None] = asyncio.Queue()

    def check_profile(self, profile: str) -> None:
        """Free text."""

    async def open(self) -> None:
        return

    async def close(self) -> None:
        self._closed = True
        self._reports.put_nowait(None)

    def storage_classes(self, host: Host) -> Mapping[str, StorageClass]:
        return self.classes.get(host.name, {})

    def silence(self, host: Host) -> Silence | None:
        return self.unheard.get(host.id)

    def features(self, host: Host) -> frozenset[Feature]:
        del host
        return self.can

    # ------------------------------------------------------------------------- verbs

    async def create(self, operation: Operation) -> None:
        if self._begins("create", operation) and not self._is_at(operation):
            self._make("create", operation)
        self._answer("create", operation)

    async def reset(self, operation: Operation) -> None:
        if self._begins("reset", operation) and not self._is_at(operation):
            self._make("reset", operation)
        self._answer("reset", operation)

    async def destroy(self, operation: Operation) -> None:
        if self._begins("destroy", operation):
            self._forget(operation.desktop.id)
            self.done.append(("destroy", operation.desktop.name))
        self._end("destroy", operation.id)

    async def suspend(self, operation: Operation) -> None:
        self._need(Feature.SUSPEND)
        if self._begins("suspend", operation):
            self._exists(operation)
            self.asleep.add(operation.desktop.id)
            self.done.append(("suspend", operation.desktop.name))
        self._end("suspend", operation.id)

    async def resume(self, operation: Operation) -> None:
        if operation.desktop.id in self.asleep:
            self._need(Feature.SUSPEND)
        if self._begins("resume", operation):
            self._exists(operation)
            self.known[operation.desktop.id] = operation.desktop.generation
            self.asleep.discard(operation.desktop.id)
            self.halted.discard(operation.desktop.id)
            verb = "restart" if operation.restart else "resume"
            self.done.append((verb, operation.desktop.name))
        self._answer("resume", operation)

    async def migrate(self, operation: Operation, to: Host) -> None:
        self._need(Feature.MIGRATE)
        if self._begins("migrate", operation):
            desktop_id = operation.desktop.id
            self._runs(operation)
            if self.places[desktop_id] != to.id:
                if to.id in self.off or self._free_mib(to) < self.sizes[desktop_id]:
                    raise EngineError(f"{to.name} has no room")
                self.places[desktop_id] = to.id
            self.done.append(("migrate", operation.desktop.name))
        self._end("migrate", operation.id)

    async def resize(self, operation: Operation, to: Resources) -> None:
        self._need(Feature.RESIZE)
        if self._begins("resize", operation):
            self._runs(operation)
            more_mib = to.memory_mib - self.sizes[operation.desktop.id]
            if more_mib > self._free_mib(operation.host):
                raise EngineError(f"{operation.host.name} has no room")
            self._keep(operation.desktop, self.places[operation.desktop.id], to)
            self.weights[operation.desktop.id] = operation.weights
            self.limits[operation.desktop.id] = (operation.limits, operation.share_pages)
            self.done.append(("resize", operation.desktop.name))
        self._end("resize", operation.id)

    async def snapshot(self, operation: Operation, snapshot_id: str) -> int | None:
        self._need(Feature.SNAPSHOT)
        if self._begins("snapshot", operation):
            self._exists(operation)
            kept = self.snapshots.setdefault(operation.desktop.id, [])
            if snapshot_id not in kept:
                kept.append(snapshot_id)
            self.done.append(("snapshot", operation.desktop.name))
        self._end("snapshot", operation.id)
        return 1024

    async def revert(self, operation: Operation, snapshot_id: str) -> None:
        self._need(Feature.SNAPSHOT)
        if self._begins("revert", operation):
            self._exists(operation)
            if self._is_at(operation):
                raise StaleGenerationError
            if snapshot_id not in self.snapshots.get(operation.desktop.id, []):
                raise EngineError(f"{operation.desktop.name} has no such snapshot")
            host_id = self.places[operation.desktop.id]
            kept = self.snapshots[operation.desktop.id]
            self._keep(operation.desktop, host_id, operation.desktop.resources)
            self.snapshots[operation.desktop.id] = kept
            self.halted.discard(operation.desktop.id)
            self.done.append(("revert", operation.desktop.name))
        self._answer("revert", operation)

    async def drop_snapshot(self, operation: Operation, snapshot_id: str) -> None:
        self._need(Feature.SNAPSHOT)
        if self._begins("drop_snapshot", operation):
            self._exists(operation)
            kept = self.snapshots.get(operation.desktop.id, [])
            self.snapshots[operation.desktop.id] = [one for one in kept if one != snapshot_id]
            self.done.append(("drop_snapshot", operation.desktop.name))
        self._end("drop_snapshot", operation.id)

    async def power(self, operation_id: str, host: Host, *, on: bool, deadline_s: float) -> None:
        del deadline_s
        self._need(Feature.HOST_POWER)
        verb = "power_on" if on else "power_off"
        self._fail(verb)
        if operation_id not in self._finished:
            awake = self.known.keys() - self.asleep
            if not on and any(self.places.get(one) == host.id for one in awake):
                raise EngineError(f"machines run on {host.name}")
            (self.off.discard if on else self.off.add)(host.id)
            self.done.append((verb, host.name))
        self._end(verb, operation_id)

    async def discard(self, machine: Machine) -> None:
        self._fail("discard")
        generation = self.known.get(machine.desktop_id)
        if generation is not None:
            if generation > machine.generation:
                raise StaleGenerationError
            if self.places.get(machine.desktop_id, machine.host_id) != machine.host_id:
                raise EngineError(f"{machine.desktop_id} is not on host {machine.host_id!r}")
            self._forget(machine.desktop_id)
            self.done.append(("discard", machine.desktop_id))

    # -------------------------------------------------------------------- what there is

    async def adopt(self, desktop: Desktop, host: Host) -> None:
        if desktop.state in _NOT_MADE or self.known.get(desktop.id, -1) >= desktop.generation:
            return
        self._keep(desktop, host.id, desktop.resources)
        if desktop.state in _SUSPENDED:
            self.asleep.add(desktop.id)
        if desktop.state in _COMING:
            self._say_ready(desktop, "")

    async def machines(self) -> tuple[Machine, ...]:
        return tuple(
            Machine(
                desktop_id=one,
                generation=generation,
                running=one not in self.asleep | self.halted,
                host_id=self.places.get(one, ""),
                suspended=one in self.asleep,
            )
            for one, generation in sorted(self.known.items())
        )

    def displays(self, host: Host) -> frozenset[str]:
        return frozenset()

    async def console(self, desktop: Desktop, session_id: str = "", protocol: str = "") -> Console:
        raise EngineError(f"no display of {desktop.name} for {session_id} here")

    async def reports(self) -> AsyncIterator[MachineReport]:
        while not self._closed:
            report = await self._reports.get()
            if report is not None:
                yield report

    def say(self, report: MachineReport) -> None:
        self._reports.put_nowait(report)

    def take_reports(self) -> list[MachineReport]:
        """Those that nobody has taken yet, without waiting."""
        taken: list[MachineReport] = []
        while not self._reports.empty():
            report = self._reports.get_nowait()
            if report is not None:
                taken.append(report)
        return taken

    # ---------------------------------------------------------------------------- parts

    def _need(self, feature: Feature) -> None:
        if feature not in self.can:
            raise UnsupportedError(f"no {feature} here")

    def _fail(self, verb: str) -> None:
        if verb in self.failing:
            raise EngineError(f"{verb} failed as the test asked")

    def _begins(self, verb: str, operation: Operation) -> bool:
        """Whether it is to be done now: not again, and not on a later machine."""
        self._fail(verb)
        if self.known.get(operation.desktop.id, 0) > operation.desktop.generation:
            raise StaleGenerationError
        if self.places.get(operation.desktop.id, operation.host.id) in self.off:
            raise EngineError("the host is off")
        return operation.id not in self._finished

    def _end(self, verb: str, operation_id: str) -> None:
        self._finished.add(operation_id)
        if verb in self.forgetful:
            raise EngineError(f"the answer to {verb} was lost as the test asked")

    def _answer(self, verb: str, operation: Operation) -> None:
        """The end of a verb that a report follows."""
        desktop = operation.desktop
        there = self.known.get(desktop.id) == desktop.generation
        if there and desktop.id not in self.asleep and not self.silent:
            self._say_ready(desktop, operation.id)
        self._end(verb, operation.id)

    def _say_ready(self, desktop: Desktop, operation_id: str) -> None:
        self.say(
            MachineReport(
                desktop_id=desktop.id,
                generation=desktop.generation,
                ready=True,
                operation_id=operation_id,
            )
        )

    def _make(self, verb: str, operation: Operation) -> None:
        self._keep(operation.desktop, operation.host.id, operation.desktop.resources)
        self.stored[operation.desktop.id] = operation.storage
        self.done.append((verb, operation.desktop.name))

    def _keep(self, desktop: Desktop, host_id: str, resources: Resources) -> None:
        self.known[desktop.id] = desktop.generation
        self.places[desktop.id] = host_id
        self.sizes[desktop.id] = resources.memory_mib
        self.asleep.discard(desktop.id)
        self.snapshots.pop(desktop.id, None)

    def _forget(self, desktop_id: str) -> None:
        self.known.pop(desktop_id, None)
        self.places.pop(desktop_id, None)
        self.asleep.discard(desktop_id)

    def _is_at(self, operation: Operation) -> bool:
        return self.known.get(operation.desktop.id) == operation.desktop.generation

    def _exists(self, operation: Operation) -> None:
        if operation.desktop.id not in self.known:
            raise EngineError(f"there is no {operation.desktop.name}")

    def _runs(self, operation: Operation) -> None:
        self._exists(operation)
        if operation.desktop.id in self.asleep:
            raise EngineError(f"{operation.desktop.name} does not run")

    def _free_mib(self, host: Host) -> int:
        there = (one for one, place in self.places.items() if place == host.id)
        used = sum(self.sizes[one] for one in there if one not in self.asleep)
        return host.capacity.memory_mib - used


class ByItsBook(PromptEngine):
    """Lists the machines of hosts that it was told of, and that run by the record that it was
    told last: the port allows it to leave out the others."""

    def __init__(self) -> None:
        super().__init__()
        self.book: dict[str, Host] = {}

    def features(self, host: Host) -> frozenset[Feature]:
        self.book[host.id] = host
        return super().features(host)

    async def machines(self) -> tuple[Machine, ...]:
        running = {one.id for one in self.book.values() if one.state in HOST_RUNS}
        return tuple(one for one in await super().machines() if one.host_id in running)
