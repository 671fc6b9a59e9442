"""Engine work alone: jobs in a store, an engine, and brokers that die where the test says.

Nothing runs by itself. A test takes desktops to the states that it needs, asks for work, and lets
a broker attempt it; another broker then finishes what the first left.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from broker import limits
from broker.domain.errors import IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import DesktopEvent, HostEvent
from broker.domain.model import Desktop, DesktopState, Host, Job, JobVerb, Resources, Session
from broker.events.memory import MemoryEvents
from broker.identity.ed25519 import Ed25519Signatures
from broker.imaging.simulated import SimulatedImages
from broker.ports import Engine, MachineReport, PageQuery, Store
from broker.services.assembly import assemble
from broker.services.engine_work import EngineWork, new_job
from broker.services.images import Images
from broker.services.kit import Kit
from broker.store.memory import MemoryStore
from broker.store.memory.state import State
from tests.support.builders import make_desktop, make_host
from tests.support.fakes import PlainPasswords
from tests.support.prompt_engine import PromptEngine
from tests.support.stores import claim_one, fill, make_request, new_desktop, ready_desktops
from tests.support.world import CountedIds, HandClock, RecordingLink, SeededChance

D = DesktopState
E = DesktopEvent
OTHER = make_host(id="hst_2", name="server-2")
SMALLER = Resources(cpus=1, memory_mib=2048)
_WAYS: dict[DesktopState, tuple[DesktopEvent, ...]] = {
    D.READY: (),
    D.SUSPENDING: (E.SUSPEND_ASKED,),
    D.SUSPENDED: (E.SUSPEND_ASKED, E.SUSPENDED),
    D.RESUMING: (E.SUSPEND_ASKED, E.SUSPENDED, E.RESUME_ASKED),
    D.PARKING: (E.SUSPEND_ASKED,),
    D.PARKED: (E.SUSPEND_ASKED, E.SUSPENDED),
    D.UNPARKING: (E.SUSPEND_ASKED, E.SUSPENDED, E.RESUME_ASKED),
    D.DELETING: (E.DELETE_ASKED,),
}
_UNDER_SESSION = frozenset({D.ASSIGNED, D.PARKING, D.PARKED, D.UNPARKING})


class DiedError(BaseException):
    """The broker process is no more: nothing catches this."""


@dataclass
class Fate:
    """The port call at which a broker dies: `before` it is made, or right after it was."""

    call: int
    before: bool
    calls: int = 0

    def guard(self, port: object) -> Any:
        """The port, as this broker has it; what hangs on it (store.desktops) too."""
        return _Mortal(port, self)

    async def meet(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        here = self.calls == self.call
        if here and self.before:
            raise DiedError
        result = await call(*args, **kwargs)
        if here:
            raise DiedError
        return result


class _Mortal:
    def __init__(self, port: object, fate: Fate) -> None:
        self._port = port
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if inspect.iscoroutinefunction(found):

            async def call(*args: Any, **kwargs: Any) -> Any:
                return await self._fate.meet(found, *args, **kwargs)

            return call
        if inspect.isroutine(found) or isinstance(found, str | tuple | frozenset):
            return found
        return _Mortal(found, self._fate)


@dataclass
class Bench:
    store: Store = field(default_factory=MemoryStore)
    clock: HandClock = field(default_factory=HandClock)
    engine: PromptEngine = field(default_factory=PromptEngine)
    ids: CountedIds = field(default_factory=CountedIds)
    outcomes: list[tuple[str, str, bool, str]] = field(default_factory=list)
    bugs: list[BaseException] = field(default_factory=list)

    @classmethod
    async def make(cls, store: Store | None = None) -> Bench:
        """Two hosts, one VDI pool, ten people, no desktops; in that store, which is open, or in
        memory."""
        bench = cls()
        if store is not None:
            bench.store = store
        else:
            await bench.store.open()
        await fill(bench.store)
        await bench.store.directory.save_host(OTHER, new=True)
        return bench

    def broker(self, fate: Fate | None = None) -> EngineWork:
        """A new process; `fate` says where it dies."""
        guard: Callable[[Any], Any] = fate.guard if fate is not None else lambda port: port
        engines: dict[str, Engine] = {"simulated": guard(self.engine)}
        works = assemble(
            replace(self.kit, store=guard(self.store)),
            link=RecordingLink(),
            engines=engines.__getitem__,
            hasher=PlainPasswords(),
            signatures=Ed25519Signatures(),
            images=Images(SimulatedImages(), b"key"),
        ).engine_work

        async def outcome(pool_id: str, host_id: str, ok: bool, detail: str) -> None:
            self.outcomes.append((pool_id, host_id, ok, detail))

        works.on_outcome, works.on_bug = outcome, self.bugs.append
        return works

    @property
    def kit(self) -> Kit:
        return Kit(
            store=self.store,
            clock=self.clock,
            ids=self.ids,
            chance=SeededChance(),
            events=MemoryEvents(),
            installation_id="tri_test",
        )

    # ------------------------------------------------------------------ what there is

    async def desktop(self, state: DesktopState, number: int = 1) -> Desktop:
        """A desktop in that state, with its machine; those of a session have one."""
        if state is D.PLANNED:
            desktop = new_desktop(number)
            await self.store.desktops.add([desktop], [])
            return desktop
        [desktop] = await ready_desktops(self.store, [number])
        if state in _UNDER_SESSION:
            await claim_one(self.store, make_request(number))
        if state is D.RESETTING:
            await claim_one(self.store, make_request(number))
            desktop = await self.advance(desktop, E.RELEASED_RESET, fresh=True)
            await self.engine.adopt(replace(desktop, generation=1, state=D.READY), make_host())
            return desktop
        for event in _WAYS.get(state, ()):
            await self.advance(desktop, event)
        desktop = await self.read(desktop)
        assert desktop.state is state
        await self.engine.adopt(desktop, make_host())
        return desktop

    async def advance(self, desktop: Desktop, event: DesktopEvent, **more: Any) -> Desktop:
        return await self.store.desktops.advance(desktop.id, event, self.clock.now(), **more)

    async def read(self, desktop: Desktop) -> Desktop:
        found = await self.store.desktops.desktop(desktop.id)
        assert found is not None
        return found

    async def session(self, desktop: Desktop) -> Session:
        query = PageQuery(filters={"desktop_id": desktop.id})
        return (await self.store.sessions.sessions(query)).items[0]

    async def host(self, host_id: str = "hst_1") -> Host:
        loads = await self.store.directory.host_loads()
        return next(load.host for load in loads if load.host.id == host_id)

    async def jobs(self) -> list[Job]:
        return list((await self.store.jobs.jobs(PageQuery(limit=500))).items)

    # ----------------------------------------------------------------- asking for work

    async def ask(self, desktop: Desktop, verb: JobVerb) -> Job:
        """A job for it, as whoever decides stores one."""
        job = new_job(self.kit, desktop, verb)
        if verb is JobVerb.MIGRATE:
            job = replace(job, arguments={"to_host_id": OTHER.id})
            await self.store.desktops.begin_move(desktop.id, OTHER.id, desktop.generation, job)
        else:
            if verb is JobVerb.RESIZE:
                job = replace(job, arguments={"cpus": "1", "memory_mib": "2048"})
            await self.store.desktops.add([], [job])
        return job

    async def ask_power(self, *, on: bool) -> Job:
        """To switch the second host on (it is off already), or off."""
        now = self.clock.now()
        if on:
            for event in (HostEvent.POWER_OFF_ASKED, HostEvent.POWERED_OFF):
                await self.store.directory.move_host(OTHER.id, event, now)
            self.engine.off.add(OTHER.id)
        event = HostEvent.POWER_ON_ASKED if on else HostEvent.POWER_OFF_ASKED
        verb = JobVerb.POWER_ON if on else JobVerb.POWER_OFF
        job = replace(
            new_job(self.kit, make_desktop(host_id=OTHER.id), verb), desktop_id="", generation=0
        )
        await self.store.directory.move_host(OTHER.id, event, now, job=job)
        return job

    # ---------------------------------------------------------------------- doing it

    async def attempt(self, works: EngineWork) -> list[Job]:
        """Do every job that is due, once."""
        now = self.clock.now()
        jobs = await self.store.jobs.take(now, now + limits.JOB_S * 1000, 32)
        for job in jobs:
            await works.work(job)
        return list(jobs)

    def heard(self) -> list[MachineReport]:
        """What machines said that nobody has taken yet."""
        return self.engine.take_reports()

    async def job(self, job: Job) -> Job:
        """As it is now."""
        found = await self.store.jobs.job(job.id)
        assert found is not None
        return found

    async def give_up(self, works: EngineWork) -> None:
        """Attempt whatever fails until it is given up."""
        for _ in range(limits.JOB_ATTEMPTS_MAX):
            await self.attempt(works)
            self.clock.advance(limits.JOB_PAUSE_S * limits.JOB_ATTEMPTS_MAX * 2)

    async def tell(self, works: EngineWork, reports: list[MachineReport]) -> None:
        for report in reports:
            try:
                await works.machine_reported(report)
            except (IllegalTransitionError, NotFoundError):
                continue

    async def finish(self, works: EngineWork, *, times: int = 8) -> None:
        """Time passes; whatever is left is done, asked again and settled."""
        for _ in range(times):
            for job in await self.store.jobs.expired(self.clock.now(), 100):
                await works.expire(job)
            await self.attempt(works)
            await self.tell(works, self.heard())
            self.clock.advance(limits.JOB_S / 4)


def ready(desktop_id: str, generation: int, operation_id: str = "") -> MachineReport:
    """What a machine says that came up."""
    return MachineReport(
        desktop_id=desktop_id, generation=generation, ready=True, operation_id=operation_id
    )


def memory_of(bench: Bench) -> State:
    """What the store in memory holds, for looking at all of it at once."""
    assert isinstance(bench.store, MemoryStore)
    return bench.store._state
