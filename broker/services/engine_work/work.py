"""Takes jobs and does them, a bounded number at a time, whatever becomes of each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from broker import limits
from broker.domain.errors import (
    EngineError,
    IllegalTransitionError,
    NotFoundError,
    NotHereError,
    StaleGenerationError,
    TriviumError,
    UnsupportedError,
)
from broker.domain.lifecycle import JobEvent
from broker.domain.model import Desktop, DesktopState, Job, JobVerb
from broker.ports import Engine, MachineReport
from broker.services.engine_work.asking import Asking
from broker.services.engine_work.carrying import Carrying
from broker.services.engine_work.hooks import Hooks
from broker.services.engine_work.settling import Settling
from broker.services.engine_work.snapshots import SNAPSHOT_VERBS
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.sessions import Sessions
from broker.services.tally import Tally

_log = logging.getLogger("trivium.engines")

ADOPT_MAX: Final = 1_000_000
"""machines that are told to the engines after a restart"""
_ADOPTED: Final = frozenset(
    {
        DesktopState.STARTING,
        DesktopState.READY,
        DesktopState.ASSIGNED,
        DesktopState.RESETTING,
        DesktopState.SUSPENDING,
        DesktopState.SUSPENDED,
        DesktopState.RESUMING,
        DesktopState.PARKING,
        DesktopState.PARKED,
        DesktopState.UNPARKING,
        DesktopState.FAILED,
    }
)

_SLOW: Final = SNAPSHOT_VERBS | {JobVerb.REVERT}


class Rooms:
    """So many at once on each host."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def at(self, host_id: str) -> asyncio.Semaphore:
        room = self._hosts.get(host_id)
        if room is None:
            room = self._hosts[host_id] = asyncio.Semaphore(self._most)
        return room


class EngineWork(Hooks):
    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        engines: Callable[[str], Engine],
        sessions: Sessions,
        tally: Tally,
    ) -> None:
        super().__init__()
        self._kit = kit
        self._asking = Asking(kit, pools, engines, self)
        self._settling = Settling(kit, sessions, tally, self)
        self._carrying = Carrying(kit, self._asking, self._settling)
        self._wake = asyncio.Event()
        self._taken = 0
        self._calls = asyncio.Semaphore(limits.JOBS_AT_ONCE_MAX)
        self._hosts = Rooms(limits.JOBS_PER_HOST_MAX)
        self._snapshots = Rooms(limits.SNAPSHOTS_PER_HOST_MAX)

    def wake(self) -> None:
        """There may be a job."""
        self._wake.set()

    async def adopt(self) -> None:
        """After a restart: tell the engines which machines there should be."""
        hosts = await self._asking.hosts()
        for desktop in await self._kit.store.desktops.by_state(_ADOPTED, ADOPT_MAX):
            host = hosts.get(desktop.host_id or "")
            spoiled = desktop.state is DesktopState.FAILED and desktop.owner_id is None
            if host is None or spoiled:
                continue
            try:
                await self._asking.engine(host).adopt(desktop, host)
            except EngineError as error:
                _log.warning("%s was not taken up: %s", desktop.name, error.detail)

    async def take_reports(self, engine: Engine) -> None:
        """Settle what this engine's machines report, until it closes."""
        await self._settling.take_reports(engine)

    async def machine_reported(self, report: MachineReport) -> None:
        """A machine reports ready (or that it failed). Only its current generation counts.

        Raises:
            IllegalTransitionError: its desktop does not wait for that.
        """
        await self._settling.machine_reported(report)

    async def endpoint_fresh(self, endpoint_id: str, desktop_id: str, generation: int) -> None:
        """A fat endpoint's own desktop is back at its image."""
        await self._settling.endpoint_fresh(endpoint_id, desktop_id, generation)

    async def lost(self, desktop: Desktop, why: str) -> None:
        """The machine of this desktop is gone: it fails, and the session that has it.

        Raises:
            IllegalTransitionError: it has moved on, or there is nothing to lose in its state.
        """
        await self._settling.lost(desktop, why)

    async def not_suspended(self, desktop: Desktop, why: str) -> None:
        """The machine of a person who is away could not be put to rest: the person is logged off.

        Raises:
            IllegalTransitionError: it has moved on.
        """
        await self._settling.not_suspended(desktop, why)

    # ------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Take jobs and do them for ever, at most JOBS_AT_ONCE_MAX at a time, JOBS_PER_HOST_MAX of
        them on one host, SNAPSHOTS_PER_HOST_MAX of these about snapshots, which take long: one
        that hangs keeps nobody else waiting."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                free = limits.JOBS_TAKEN_MAX - self._taken
                jobs = await self._take(free) if free else ()
                for job in jobs:
                    self._taken += 1
                    task = tasks.create_task(self._in_turn(job), name=f"{job.verb} {job.id}")
                    task.add_done_callback(self._worked)
                if not jobs:
                    try:
                        async with asyncio.timeout(limits.RECONCILE_S):
                            await self._wake.wait()
                    except TimeoutError:
                        pass
                    self._wake.clear()

    def _worked(self, _: object) -> None:
        if self._taken == limits.JOBS_TAKEN_MAX:
            self._wake.set()
        self._taken -= 1

    async def _in_turn(self, job: Job) -> None:
        """Do it when its host's turn comes; past its deadline it is somebody else's."""
        slow = job.verb in _SLOW
        few = self._snapshots.at(job.host_id) if slow else contextlib.nullcontext()
        async with few, self._hosts.at(job.host_id), self._calls:
            if job.deadline_at is None or self._kit.clock.now() < job.deadline_at:
                await self.work(job)

    async def _take(self, limit: int) -> tuple[Job, ...]:
        now = self._kit.clock.now()
        try:
            return await self._kit.store.jobs.take(now, now + limits.JOB_S * 1000, limit)
        except TriviumError as error:
            _log.warning("no job could be taken: %s", error.detail)
            return ()

    async def work(self, job: Job) -> None:
        """Do one job that was taken. Nothing raised here may end the loop: each failure is
        written down, or left to the job's deadline."""
        try:
            await self._settle(job)
        except TriviumError as error:
            # the store is away: the job's deadline asks again
            _log.warning("job %s (%s): %s", job.id, job.verb, error.detail)
        except Exception as error:  # noqa: BLE001 - work on the others goes on
            _log.exception("job %s (%s) failed by a fault of the broker", job.id, job.verb)
            self.on_bug(error)

    async def _settle(self, job: Job) -> None:
        try:
            await self._carrying.carry_out(job)
        except StaleGenerationError as error:
            await self._finish(job, f"not wanted: {error.detail}")
        except NotHereError as error:
            await self._hand_back(job, error.detail)
        except UnsupportedError as error:
            await self._failed(job, error.detail, again=False)
        except EngineError as error:
            await self._failed(job, error.detail, again=job.attempts < limits.JOB_ATTEMPTS_MAX)
        except (IllegalTransitionError, NotFoundError) as error:
            await self._finish(job, f"not wanted: {error.detail}")
        else:
            await self._finish(job)

    async def _finish(self, job: Job, error: str = "") -> None:
        now = self._kit.clock.now()
        await self._kit.store.jobs.advance(job.id, JobEvent.SUCCEEDED, now, error=error)

    async def _hand_back(self, job: Job, why: str) -> None:
        """No attempt, and no failure of the host's: processes that cannot do it (some may run a
        version of before) would use up the attempts of those that can."""
        _log.warning("job %s (%s) is left to other processes: %s", job.id, job.verb, why)
        pause_s = limits.JOB_HANDED_BACK_S * self._kit.chance.uniform(0.5, 1.5)
        now = self._kit.clock.now()
        await self._kit.store.jobs.advance(
            job.id, JobEvent.HANDED_BACK, now, error=why, not_before_at=now + int(pause_s * 1000)
        )

    async def _failed(self, job: Job, error: str, *, again: bool) -> None:
        """Put it back, or give it up: what becomes of its desktop first, so that a process that
        dies in between leaves a job that is done again and not a desktop that waits for ever."""
        _log.info("job %s (%s): %s", job.id, job.verb, error)
        await self._carrying.failed_once(job, error)
        if not again:
            try:
                await self._carrying.give_up(job, error)
            except EngineError as why:
                _log.info("job %s (%s) cannot be given up yet: %s", job.id, job.verb, why.detail)
                again = True
            except (IllegalTransitionError, NotFoundError) as why:
                _log.debug("job %s (%s): %s", job.id, job.verb, why.detail)
        if again:
            await self._put_back(job, JobEvent.FAILED_RETRY, error)
            return
        now = self._kit.clock.now()
        await self._kit.store.jobs.advance(job.id, JobEvent.FAILED_FOR_GOOD, now, error=error)

    async def expire(self, job: Job) -> None:
        """The job's deadline has passed: whoever had it is gone or stuck.

        Raises:
            IllegalTransitionError: he was not, and has settled it. NotFoundError.
        """
        await self._put_back(job, JobEvent.DEADLINE_PASSED, "no answer in time")
        self.wake()

    async def _put_back(self, job: Job, event: JobEvent, error: str) -> None:
        """To be tried again after a pause that grows with the attempts."""
        attempts = min(job.attempts, limits.JOB_ATTEMPTS_MAX)
        pause_s = limits.JOB_PAUSE_S * attempts * self._kit.chance.uniform(0.5, 1.5)
        now = self._kit.clock.now()
        await self._kit.store.jobs.advance(
            job.id, event, now, error=error, not_before_at=now + int(pause_s * 1000)
        )
