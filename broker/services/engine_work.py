"""Work on engines: takes jobs, carries them out, and settles what machines report.

Every call to an engine is a job row, taken by one process at a time, with a deadline; one that
fails is put back with a pause, and after JOB_ATTEMPTS_MAX attempts its desktop is `failed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from broker import limits
from broker.domain.errors import (
    EngineError,
    IllegalTransitionError,
    NotFoundError,
    TriviumError,
)
from broker.domain.lifecycle import DesktopEvent, JobEvent
from broker.domain.model import Desktop, DesktopState, Host, Job, JobState, JobVerb
from broker.ports import Engine, MachineReport, Operation, PageQuery
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.sessions import Sessions
from broker.services.tally import Tally

_log = logging.getLogger("trivium.engines")

ADOPT_MAX = 1_000_000
"""machines that are told to the engines after a restart"""


def new_job(kit: Kit, desktop: Desktop, verb: JobVerb) -> Job:
    """A job for this desktop as it is, due at once."""
    now = kit.clock.now()
    return Job(
        id=kit.ids.new("job"),
        verb=verb,
        desktop_id=desktop.id,
        host_id=desktop.host_id or "",
        generation=desktop.generation,
        state=JobState.QUEUED,
        attempts=0,
        deadline_at=None,
        not_before_at=now,
        error="",
        created_at=now,
        finished_at=None,
    )


class EngineWork:
    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        engines: Callable[[str], Engine],
        sessions: Sessions,
        tally: Tally,
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._engines = engines
        self._sessions = sessions
        self._tally = tally
        self._wake = asyncio.Event()
        self._working = 0
        self.on_ready: Callable[[], None] = lambda: None
        """called when a desktop became ready, so that the queue is served at once"""

    def wake(self) -> None:
        """There may be a job."""
        self._wake.set()

    async def adopt(self) -> None:
        """After a restart: tell the engines which machines there should be."""
        hosts = {load.host.id: load.host for load in await self._kit.store.directory.host_loads()}
        states = (
            DesktopState.STARTING,
            DesktopState.READY,
            DesktopState.ASSIGNED,
            DesktopState.RESETTING,
        )
        for desktop in await self._kit.store.desktops.by_state(states, ADOPT_MAX):
            host = hosts.get(desktop.host_id or "")
            if host is not None:
                await self._engines(host.engine).adopt(desktop, host)

    async def run(self) -> None:
        """Take jobs and do them, at most JOBS_AT_ONCE_MAX at a time, for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                free = limits.JOBS_AT_ONCE_MAX - self._working
                jobs = await self._take(free) if free else ()
                for job in jobs:
                    self._working += 1
                    task = tasks.create_task(self._work(job), name=f"{job.verb} {job.id}")
                    task.add_done_callback(self._worked)
                if not jobs:
                    try:
                        async with asyncio.timeout(limits.RECONCILE_S):
                            await self._wake.wait()
                    except TimeoutError:
                        pass
                    self._wake.clear()

    def _worked(self, _: object) -> None:
        if self._working == limits.JOBS_AT_ONCE_MAX:
            self._wake.set()
        self._working -= 1

    async def _take(self, limit: int) -> tuple[Job, ...]:
        now = self._kit.clock.now()
        try:
            return await self._kit.store.jobs.take(now, now + limits.JOB_S * 1000, limit)
        except TriviumError as error:
            _log.warning("no job could be taken: %s", error.detail)
            return ()

    async def _work(self, job: Job) -> None:
        """Do one job. Nothing raised here may end the loop: each failure is written down."""
        try:
            await self._do(job)
        except (EngineError, TimeoutError) as error:
            detail = error.detail if isinstance(error, EngineError) else "no answer in time"
            await self._safely_retry(job, detail)
        except (IllegalTransitionError, NotFoundError) as error:
            # the desktop went another way meanwhile, so this work is not wanted any more
            await self._safely_finish(job, error.detail)
        except TriviumError as error:
            _log.warning("job %s: %s", job.id, error.detail)

    async def _do(self, job: Job) -> None:
        store, clock = self._kit.store, self._kit.clock
        desktop = await store.desktops.desktop(job.desktop_id)
        if desktop is None or desktop.generation != job.generation:
            raise NotFoundError("the desktop has moved on")
        host = await self._host(job.host_id)
        pool = await self._pools.find(desktop.pool_id)
        operation = Operation(
            id=job.id,
            desktop=desktop,
            host=host,
            image=await self._pools.image(pool.image_id),
            deadline_s=float(limits.JOB_S),
        )
        engine = self._engines(host.engine)
        async with asyncio.timeout(limits.JOB_S):
            match job.verb:
                case JobVerb.CREATE:
                    await self._create(engine, operation)
                case JobVerb.RESET:
                    await engine.reset(operation)
                case JobVerb.DESTROY:
                    await engine.destroy(operation)
                    await store.desktops.advance(desktop.id, DesktopEvent.DELETED, clock.now())
                    self._tell(desktop)
        await store.jobs.advance(job.id, JobEvent.SUCCEEDED, clock.now())

    async def _create(self, engine: Engine, operation: Operation) -> None:
        store, clock, desktop = self._kit.store, self._kit.clock, operation.desktop
        if desktop.state is DesktopState.PLANNED:
            await store.desktops.advance(
                desktop.id,
                DesktopEvent.CREATE_BEGUN,
                clock.now(),
                deadline_at=clock.now() + limits.CREATE_S * 1000,
            )
        await engine.create(operation)
        try:
            await store.desktops.advance(
                desktop.id,
                DesktopEvent.CREATED,
                clock.now(),
                generation=desktop.generation,
                deadline_at=clock.now() + limits.BOOT_S * 1000,
            )
        except IllegalTransitionError:
            # a job that is done twice finds it created, which is as good
            now = await store.desktops.desktop(desktop.id)
            if now is None or now.state not in {DesktopState.STARTING, DesktopState.READY}:
                raise
        self._tell(desktop)

    async def _host(self, host_id: str) -> Host:
        for load in await self._kit.store.directory.host_loads():
            if load.host.id == host_id:
                return load.host
        raise NotFoundError("the host is gone")

    async def expire(self, job: Job) -> None:
        """The job's deadline has passed: whoever had it is gone or stuck."""
        await self._retry(job, JobEvent.DEADLINE_PASSED, "no answer in time")

    async def _retry(self, job: Job, event: JobEvent, error: str) -> None:
        now = self._kit.clock.now()
        if job.attempts >= limits.JOB_ATTEMPTS_MAX and event is not JobEvent.DEADLINE_PASSED:
            await self._kit.store.jobs.advance(job.id, JobEvent.FAILED_FOR_GOOD, now, error=error)
            await self._give_up(job, error)
            return
        pause_s = limits.JOB_PAUSE_S * job.attempts * self._kit.chance.uniform(0.5, 1.5)
        await self._kit.store.jobs.advance(
            job.id, event, now, error=error, not_before_at=now + int(pause_s * 1000)
        )

    async def _give_up(self, job: Job, error: str) -> None:
        desktop = await self._kit.store.desktops.desktop(job.desktop_id)
        if desktop is None or desktop.state is DesktopState.DELETING:
            return  # its deadline asks again; a removal is never given up
        await self._kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.FAILED,
            self._kit.clock.now(),
            generation=job.generation,
            note=error,
        )
        self._tell(desktop)

    async def _safely_retry(self, job: Job, detail: str) -> None:
        _log.info("job %s (%s): %s", job.id, job.verb, detail)
        try:
            await self._retry(job, JobEvent.FAILED_RETRY, detail)
        except TriviumError as error:
            _log.warning("job %s could not be put back: %s", job.id, error.detail)

    async def _safely_finish(self, job: Job, why: str) -> None:
        try:
            await self._kit.store.jobs.advance(
                job.id, JobEvent.SUCCEEDED, self._kit.clock.now(), error=f"not wanted: {why}"
            )
        except TriviumError as error:
            _log.warning("job %s could not be closed: %s", job.id, error.detail)

    async def take_reports(self, engine: Engine) -> None:
        """Settle what this engine's machines report, until it closes."""
        async for report in engine.reports():
            try:
                await self.machine_reported(report)
            except (IllegalTransitionError, NotFoundError) as error:
                _log.debug("report of %s ignored: %s", report.desktop_id, error.detail)
            except TriviumError as error:
                # the desktop's deadline will ask again
                _log.warning("report of %s was lost: %s", report.desktop_id, error.detail)

    async def machine_reported(self, report: MachineReport) -> None:
        """A machine reports ready (or that it failed). Only its current generation counts."""
        desktop = await self._kit.store.desktops.desktop(report.desktop_id)
        if desktop is None or desktop.generation != report.generation:
            return
        await self._settle_report(desktop, report)

    async def _settle_report(self, desktop: Desktop, report: MachineReport) -> None:
        now = self._kit.clock.now()
        if not report.ready and desktop.state is DesktopState.ASSIGNED:
            await self._lost_under_session(desktop, report.detail)
            return
        event = DesktopEvent.REPORTED_READY if report.ready else DesktopEvent.FAILED
        await self._kit.store.desktops.advance(
            desktop.id,
            event,
            now,
            generation=report.generation,
            note="" if report.ready else report.detail,
        )
        if report.ready:
            took_s = (now - desktop.changed_at) / 1000
            self._tally.took("boot", desktop.architecture, took_s)
        self._tell(desktop)
        self._kit.events.publish("work", pool_id=desktop.pool_id)
        self.on_ready()

    async def _lost_under_session(self, desktop: Desktop, detail: str) -> None:
        query = PageQuery(filters={"desktop_id": desktop.id, "live": "true"})
        for session in (await self._kit.store.sessions.sessions(query)).items:
            await self._sessions.failed(
                session.id, session.endpoint_id, session.generation, f"lost: {detail}"
            )

    async def endpoint_fresh(self, endpoint_id: str, desktop_id: str, generation: int) -> None:
        """A fat endpoint's own desktop is back at its image."""
        desktop = await self._kit.store.desktops.desktop(desktop_id)
        if desktop is None or desktop.endpoint_id != endpoint_id:
            return
        if desktop.generation != generation:
            return
        if desktop.state is DesktopState.RESETTING:
            await self._settle_report(
                desktop,
                MachineReport(desktop_id=desktop_id, generation=generation, ready=True),
            )

    def _tell(self, desktop: Desktop) -> None:
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)
