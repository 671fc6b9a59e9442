"""Carries jobs out: what each verb asks of the engine, and what is written down after.

A job may be done again from any point at which its process died, by any process, and comes to
the same end: it looks first whether it is wanted still, the engine knows the operation again,
and what is written down after is refused when it does not fit any more. Two jobs of one verb
for one desktop (it was suspended, resumed, and is to be suspended again) are told apart by
their ids: only the newest counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from broker import limits
from broker.domain.errors import EngineError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import DesktopEvent, HostEvent
from broker.domain.model import Desktop, DesktopState, HostState, Job, JobVerb, Resources
from broker.ports import Engine, Machine, Operation
from broker.services.engine_work.asking import Asking
from broker.services.engine_work.settling import Settling
from broker.services.engine_work.snapshots import SNAPSHOT_VERBS, SnapshotWork
from broker.services.kit import Kit

D = DesktopState
WORKS_IN: Final[Mapping[JobVerb, frozenset[DesktopState]]] = {
    # starting: it is made, and asked again because its report may have been missed
    JobVerb.CREATE: frozenset({D.PLANNED, D.CREATING, D.STARTING}),
    JobVerb.RESET: frozenset({D.RESETTING}),
    JobVerb.REVERT: frozenset({D.RESETTING}),
    JobVerb.DESTROY: frozenset({D.DELETING}),
    JobVerb.SUSPEND: frozenset({D.SUSPENDING, D.PARKING}),
    JobVerb.RESUME: frozenset({D.RESUMING, D.UNPARKING}),
    JobVerb.RESIZE: frozenset({D.READY, D.ASSIGNED}),
}
"""in any other state of its desktop a job is not wanted any more, or done"""
_FAILS: Final = frozenset(
    {JobVerb.CREATE, JobVerb.RESET, JobVerb.REVERT, JobVerb.SUSPEND, JobVerb.RESUME}
)
"""given up, they leave a desktop that nobody can use"""
WHEREABOUTS_TRIES_MAX: Final = 4 * limits.JOB_ATTEMPTS_MAX
"""attempts of a migration after which an engine that lists no machines is not asked any more"""
_MOVES_IN: Final = frozenset({D.READY, D.ASSIGNED})
_NEWEST_COUNTS: Final = frozenset(
    {JobVerb.SUSPEND, JobVerb.RESUME, JobVerb.RESIZE, JobVerb.MIGRATE}
)
_POWER: Final[Mapping[JobVerb, tuple[bool, HostState, HostEvent]]] = {
    JobVerb.POWER_ON: (True, HostState.POWERING_ON, HostEvent.POWERED_ON),
    JobVerb.POWER_OFF: (False, HostState.POWERING_OFF, HostEvent.POWERED_OFF),
}
_Verb = Callable[[Engine, Operation, Job], Awaitable[None]]


class Carrying:
    def __init__(self, kit: Kit, asking: Asking, settling: Settling) -> None:
        self._kit = kit
        self._asking = asking
        self._settling = settling
        self._snapshots = SnapshotWork(kit, asking, settling)
        self._verbs: Mapping[JobVerb, _Verb] = {
            JobVerb.CREATE: self._create,
            JobVerb.RESET: self._reset,
            JobVerb.DESTROY: self._destroy,
            JobVerb.SUSPEND: self._suspend,
            JobVerb.RESUME: self._resume,
            JobVerb.MIGRATE: self._migrate,
            JobVerb.RESIZE: self._resize,
            JobVerb.SNAPSHOT: self._snapshots.take,
            JobVerb.REVERT: self._revert,
            JobVerb.DROP_SNAPSHOT: self._snapshots.drop,
        }

    async def carry_out(self, job: Job) -> None:
        """Do it.

        Raises:
            EngineError: it could not be done; StaleGenerationError, IllegalTransitionError,
            NotFoundError: it is not wanted any more.
        """
        if job.verb in _POWER:
            await self._power(job)
            return
        desktop = await self._wanted(job)
        if job.verb is JobVerb.MIGRATE and desktop.state not in _MOVES_IN:
            await self._stay(job, desktop)
            return
        operation = await self._asking.operation(job, desktop)
        engine = self._asking.engine(operation.host)
        await self._verbs[job.verb](engine, operation, job)

    async def give_up(self, job: Job, error: str) -> None:
        """It failed as often as is allowed. Raises EngineError: that cannot be settled yet."""
        if job.verb is JobVerb.POWER_OFF:
            await self._stay_on(job, error)
            return
        if job.verb not in _FAILS | SNAPSHOT_VERBS | {JobVerb.MIGRATE}:
            return
        desktop = await self._kit.store.desktops.desktop(job.desktop_id)
        if desktop is None or desktop.generation != job.generation:
            return
        if job.verb is JobVerb.MIGRATE:
            await self._stay(job, desktop)
        elif job.verb in SNAPSHOT_VERBS:
            await self._snapshots.failed(job, desktop, error)
        elif desktop.state is DesktopState.PARKING:
            await self._settling.not_suspended(desktop, error)
        elif desktop.state in WORKS_IN[job.verb]:
            reverted = job.verb is JobVerb.REVERT
            why = f"it could not be reverted: {error}" if reverted else error
            await self._settling.lost(desktop, why)

    async def failed_once(self, job: Job, error: str) -> None:
        """One attempt failed, whether or not there will be another."""
        if job.verb is JobVerb.CREATE:
            desktop = await self._kit.store.desktops.desktop(job.desktop_id)
            if desktop is not None:
                await self._settling.tell_outcome(desktop, error, ok=False)

    async def _wanted(self, job: Job) -> Desktop:
        """The desktop, if the job is still to be done. Raises NotFoundError if not."""
        desktop = await self._kit.store.desktops.desktop(job.desktop_id)
        if desktop is None or desktop.generation != job.generation:
            raise NotFoundError("the desktop has moved on")
        if desktop.state not in WORKS_IN.get(job.verb, frozenset(D)):
            raise NotFoundError(f"the desktop is {desktop.state}")
        if job.verb is JobVerb.MIGRATE and desktop.moving_to != job.arguments.get("to_host_id"):
            raise NotFoundError("the desktop does not go there any more")
        if job.verb in _NEWEST_COUNTS and await self._settling.newest(job) != job.id:
            raise NotFoundError("a newer job replaced it")
        return desktop

    # ------------------------------------------------------------- made, fresh, gone

    async def _create(self, engine: Engine, operation: Operation, _: Job) -> None:
        store, clock, desktop = self._kit.store, self._kit.clock, operation.desktop
        if desktop.state is DesktopState.PLANNED:
            await store.desktops.advance(
                desktop.id,
                DesktopEvent.CREATE_BEGUN,
                clock.now(),
                generation=desktop.generation,
                deadline_at=clock.now() + limits.CREATE_S * 1000,
            )
        await self._asking.ask(engine.create(operation))
        try:
            await store.desktops.advance(
                desktop.id,
                DesktopEvent.CREATED,
                clock.now(),
                generation=desktop.generation,
                deadline_at=clock.now() + limits.BOOT_S * 1000,
            )
        except IllegalTransitionError:
            await self._nobody_has(engine, desktop)
        self._settling.tell(desktop)

    async def _reset(self, engine: Engine, operation: Operation, _: Job) -> None:
        await self._asking.ask(engine.reset(operation))
        await self._nobody_has(engine, operation.desktop)

    async def _revert(self, engine: Engine, operation: Operation, job: Job) -> None:
        """Its report makes it ready."""
        await self._asking.ask(engine.revert(operation, job.arguments["snapshot_id"]))

    async def _nobody_has(self, engine: Engine, desktop: Desktop) -> None:
        """A machine that was made while its desktop was deleted goes again."""
        now = await self._kit.store.desktops.desktop(desktop.id)
        if now is not None and now.state is not DesktopState.DELETED:
            return
        machine = Machine(
            desktop_id=desktop.id,
            generation=desktop.generation,
            running=True,
            host_id=desktop.host_id or "",
        )
        await self._asking.ask(engine.discard(machine))

    async def _destroy(self, engine: Engine, operation: Operation, _: Job) -> None:
        desktop = operation.desktop
        await self._asking.ask(engine.destroy(operation))
        await self._advance(desktop, DesktopEvent.DELETED)

    # ------------------------------------------------------------ suspended, resumed

    async def _suspend(self, engine: Engine, operation: Operation, _: Job) -> None:
        await self._asking.ask(engine.suspend(operation))
        await self._advance(operation.desktop, DesktopEvent.SUSPENDED)
        self._kit.events.publish("work", pool_id=operation.desktop.pool_id)

    async def _resume(self, engine: Engine, operation: Operation, _: Job) -> None:
        """Its report makes it ready, or assigned."""
        await self._asking.ask(engine.resume(operation))

    # ---------------------------------------------------------------- moved, resized

    async def _migrate(self, engine: Engine, operation: Operation, job: Job) -> None:
        desktop, to_host_id = operation.desktop, job.arguments["to_host_id"]
        try:
            to = await self._asking.host(to_host_id)
        except NotFoundError:
            await self._stay(job, desktop)
            return
        await self._asking.ask(engine.migrate(operation, to))
        await self._end_move(job, moved=True)

    async def _stay(self, job: Job, desktop: Desktop) -> None:
        """No more attempts: it is where its engine says, and goes on there. Raises EngineError
        while the engine does not say; after WHEREABOUTS_TRIES_MAX attempts the row's host stands,
        and whoever compares machines with rows will see if it is wrong."""
        # fresh, so that the engine is told of the host where it may be
        engine = self._asking.engine(await self._asking.host(job.host_id, fresh=True))
        places: dict[str, str] = {}

        async def look() -> None:
            places.update({one.desktop_id: one.host_id for one in await engine.machines()})

        try:
            await self._asking.ask(look())
        except EngineError:
            if job.attempts < WHEREABOUTS_TRIES_MAX:
                raise
        moved = places.get(desktop.id) == job.arguments["to_host_id"]
        await self._end_move(job, moved=moved)

    async def _end_move(self, job: Job, *, moved: bool) -> None:
        desktop = await self._kit.store.desktops.end_move(
            job.desktop_id, job.arguments["to_host_id"], job.generation, moved=moved
        )
        self._settling.tell(desktop)
        self._kit.events.publish("work", pool_id=desktop.pool_id)

    async def _resize(self, engine: Engine, operation: Operation, job: Job) -> None:
        to = resources_of(job)
        await self._asking.ask(engine.resize(operation, to))
        desktop = operation.desktop
        await self._kit.store.desktops.resized(desktop.id, desktop.generation, to)
        self._settling.tell(desktop)

    # ------------------------------------------------------------------------- hosts

    async def _power(self, job: Job) -> None:
        on, state, event = _POWER[job.verb]
        host = await self._asking.host(job.host_id, fresh=True)
        if host.state is not state:
            raise NotFoundError(f"the host is {host.state}")
        engine = self._asking.engine(host)
        deadline_s = float(limits.JOB_S)
        await self._asking.ask(engine.power(job.id, host, on=on, deadline_s=deadline_s))
        await self._kit.store.directory.move_host(host.id, event, self._kit.clock.now())
        self._kit.events.publish("host", id=host.id)
        self._kit.events.publish("work")

    async def _stay_on(self, job: Job, error: str) -> None:
        """The host could not go off, so it serves on."""
        host = await self._asking.host(job.host_id, fresh=True)
        if host.state is HostState.POWERING_OFF:
            await self._kit.store.directory.move_host(
                host.id, HostEvent.BACK, self._kit.clock.now(), note=error
            )
            self._kit.events.publish("host", id=host.id)

    async def _advance(self, desktop: Desktop, event: DesktopEvent) -> None:
        await self._kit.store.desktops.advance(
            desktop.id, event, self._kit.clock.now(), generation=desktop.generation
        )
        self._settling.tell(desktop)


def resources_of(job: Job) -> Resources:
    """What a RESIZE asks for."""
    given = job.arguments
    return Resources(
        cpus=float(given["cpus"]),
        memory_mib=int(given["memory_mib"]),
        disk_mib=int(given.get("disk_mib", 0)),
        disk_iops=int(given.get("disk_iops", 0)),
        network_mbit=int(given.get("network_mbit", 0)),
    )
