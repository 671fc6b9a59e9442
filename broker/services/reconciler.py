"""The reconciler: looks, plans in the domain, acts through ports, for ever.

It reads the database each time, so hints only make it look sooner, and a restart resumes: every
transient state has its deadline in its row, and every engine call is a job row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from broker import limits
from broker.domain.errors import (
    AlreadyExistsError,
    IllegalTransitionError,
    NotFoundError,
    TriviumError,
)
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, JobVerb
from broker.domain.reconcile import (
    ClearDesktop,
    Command,
    ExpireDesktop,
    ExpireJob,
    ExpireSession,
    FreshenDesktop,
    MakeDesktop,
    NoRoom,
    ServeQueue,
    View,
    plan,
)
from broker.ports import Engine
from broker.services.connect import Connect
from broker.services.delivery import SWEEP_S, Delivery
from broker.services.endpoints import SEEN_FLUSH_S, Endpoints
from broker.services.engine_work import EngineWork, new_job
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.sessions import Sessions
from broker.services.tally import Tally

_log = logging.getLogger("trivium.reconciler")

PER_POOL_MAX = 50
"""machines that one look begins for one pool"""
SILENCE_S = 10.0
"""between two looks for silent endpoints"""


class Reconciler:
    def __init__(
        self,
        kit: Kit,
        pools: Pools,
        works: EngineWork,
        connect: Connect,
        sessions: Sessions,
        delivery: Delivery,
        endpoints: Endpoints,
        tally: Tally,
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._works = works
        self._connect = connect
        self._sessions = sessions
        self._delivery = delivery
        self._endpoints = endpoints
        self._tally = tally
        self._wake = asyncio.Event()
        self._last: dict[str, float] = {}
        self._told_no_room: dict[str, str] = {}
        works.on_ready = self.wake
        self.looked_at_s: float | None = None
        """monotonic time of the last look that ended well; /readyz reads it"""

    # ------------------------------------------------------------------ the loops

    async def run(self, engines: Sequence[Engine]) -> None:
        """Look, hear hints, work on jobs and take engines' reports until cancelled."""
        await self._works.adopt()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(), name="reconciler hints")
            tasks.create_task(self._look_for_ever(), name="reconciler")
            tasks.create_task(self._works.run(), name="jobs")
            for engine in engines:
                tasks.create_task(self._works.take_reports(engine), name=f"reports {engine.name}")

    async def _hear(self) -> None:
        subscription = self._kit.events.subscribe("work")
        try:
            async for _ in subscription:
                self._wake.set()
                self._works.wake()
        finally:
            subscription.close()

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
                self.looked_at_s = self._kit.clock.monotonic()
            except TriviumError as error:
                # the store is away: the next look tries again, nothing is lost
                _log.warning("the reconciler could not look: %s", error.detail)
            try:
                async with asyncio.timeout(limits.RECONCILE_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def look(self) -> None:
        """One look: gather, plan, act. A command that fails does not stop the others."""
        view = await self._gather()
        for command in plan(view, per_pool_max=PER_POOL_MAX):
            try:
                await self._act(command)
            except (IllegalTransitionError, NotFoundError, AlreadyExistsError) as error:
                # the world moved since the snapshot; the next look sees it as it is
                _log.debug("%s was overtaken: %s", type(command).__name__, error.detail)
        await self._now_and_then("sweep", SWEEP_S, self._delivery.sweep)
        await self._now_and_then("seen", SEEN_FLUSH_S, self._endpoints.flush)
        await self._now_and_then("silent", SILENCE_S, self._lose_silent)
        await self._now_and_then("purge", limits.PURGE_S, self._purge)

    async def _now_and_then(self, what: str, every_s: float, do: Callable[[], object]) -> None:
        now_s = self._kit.clock.monotonic()
        if now_s - self._last.get(what, -every_s) < every_s:
            return
        self._last[what] = now_s
        result = do()
        if asyncio.iscoroutine(result):
            await result

    # ------------------------------------------------------------------ gather

    async def _gather(self) -> View:
        store, now = self._kit.store, self._kit.clock.now()
        pools = await self._pools.all()
        overview = await store.overview()
        queued = any(count for (_, state), count in overview.sessions.items() if state == "queued")
        waiting: dict[str, int] = {}
        if queued:
            for pool in pools:
                waiting[pool.id] = len(await store.sessions.waiting(pool.id))
        batch = limits.RECONCILE_BATCH_MAX
        return View(
            now=now,
            pools=pools,
            counts=await store.desktops.counts(),
            waiting=waiting,
            hosts=await store.directory.host_loads(),
            expired_sessions=await store.sessions.expired(now, batch),
            expired_desktops=await store.desktops.expired(now, batch),
            expired_jobs=await store.jobs.expired(now, batch),
            failed_desktops=await store.desktops.by_state([DesktopState.FAILED], batch),
        )

    # ------------------------------------------------------------------ act

    async def _act(self, command: Command) -> None:
        match command:
            case MakeDesktop():
                await self._make(command)
            case NoRoom(pool=pool, why=why):
                if self._told_no_room.get(pool.id) != why:
                    self._told_no_room[pool.id] = why
                    _log.warning("%s wants a desktop, but %s", pool.name, why)
            case ClearDesktop(desktop=desktop, why=why):
                await self._clear(desktop, why)
            case FreshenDesktop(desktop=desktop):
                await self._freshen(desktop)
            case ExpireDesktop(desktop=desktop):
                await self._expire_desktop(desktop)
            case ExpireSession(session=session):
                await self._sessions.expire(session)
            case ExpireJob(job=job):
                await self._works.expire(job)
            case ServeQueue(pool=pool):
                await self._connect.serve_queue(pool)

    async def _make(self, command: MakeDesktop) -> None:
        kit, pool = self._kit, command.pool
        self._told_no_room.pop(pool.id, None)
        now = kit.clock.now()
        taken = await kit.store.desktops.names(pool.id)
        name = next(
            name
            for number in range(1, pool.size_max + len(taken) + 2)
            if (name := f"{pool.name}-{number:03d}") not in taken
        )
        desktop = Desktop(
            id=kit.ids.new("dsk"),
            name=name,
            pool_id=pool.id,
            architecture=pool.architecture,
            host_id=command.host_id,
            endpoint_id=None,
            owner_id=None,
            state=DesktopState.PLANNED,
            target=DesktopState.READY,
            deadline_at=now + limits.CREATE_S * 1000,
            generation=1,
            resources=pool.resources,
            note=command.why,
            created_at=now,
            changed_at=now,
        )
        await kit.store.desktops.add([desktop], [new_job(self._kit, desktop, JobVerb.CREATE)])
        self._works.wake()
        kit.events.publish("desktop", id=desktop.id, pool_id=pool.id)

    async def _clear(self, desktop: Desktop, why: str) -> None:
        now = self._kit.clock.now()
        await self._kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.DELETE_ASKED,
            now,
            generation=desktop.generation,
            deadline_at=now + limits.DELETE_S * 1000,
            note=why,
            job=new_job(self._kit, desktop, JobVerb.DESTROY),
        )
        self._works.wake()
        self._tell(desktop)

    async def _freshen(self, desktop: Desktop) -> None:
        if desktop.endpoint_id is None or not self._delivery.connected(desktop.endpoint_id):
            return
        now = self._kit.clock.now()
        moved = await self._kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.ENDPOINT_BACK,
            now,
            generation=desktop.generation,
            deadline_at=now + limits.RESET_S * 1000,
        )
        self._delivery.owe_fresh(moved)

    async def _expire_desktop(self, desktop: Desktop) -> None:
        now = self._kit.clock.now()
        deleting = desktop.state is DesktopState.DELETING
        await self._kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.DEADLINE_PASSED,
            now,
            generation=desktop.generation,
            deadline_at=now + limits.DELETE_S * 1000 if deleting else None,
            note=f"{desktop.state} took longer than its deadline",
            job=new_job(self._kit, desktop, JobVerb.DESTROY) if deleting else None,
        )
        self._tally.count("desktops_late", desktop.architecture)
        self._works.wake()
        self._tell(desktop)

    def _tell(self, desktop: Desktop) -> None:
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)

    async def _lose_silent(self) -> None:
        before = self._kit.clock.now() - int(limits.SILENT_S * 1000)
        for endpoint in await self._kit.store.endpoints.silent(before, limits.RECONCILE_BATCH_MAX):
            if not self._delivery.connected(endpoint.id):
                await self._endpoints.gone(endpoint.id)

    async def _purge(self) -> None:
        await self._kit.store.credentials.purge(self._kit.clock.now())

    def wake(self) -> None:
        """Look now."""
        self._wake.set()
