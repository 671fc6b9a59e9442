"""Makes and drops snapshots: jobs that leave their desktop where it is.

The desktop may be on its way meanwhile: then the job waits for it, as often as any is tried.
What it comes to is written on the snapshot's row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.domain.errors import EngineError, NotFoundError, StaleGenerationError
from broker.domain.lifecycle import SnapshotEvent
from broker.domain.model import Desktop, Job, JobVerb
from broker.domain.snapshots import SNAPSHOT_STATES, Snapshot, SnapshotState
from broker.ports import Engine, Operation
from broker.services.engine_work.asking import Asking
from broker.services.engine_work.settling import Settling
from broker.services.kit import Kit

_T = TypeVar("_T")
SNAPSHOT_VERBS = frozenset({JobVerb.SNAPSHOT, JobVerb.DROP_SNAPSHOT})


class SnapshotWork:
    def __init__(self, kit: Kit, asking: Asking, settling: Settling) -> None:
        self._kit = kit
        self._asking = asking
        self._settling = settling

    async def take(self, engine: Engine, operation: Operation, job: Job) -> None:
        snapshot = await self._wanted(job, operation.desktop, SnapshotState.MAKING)
        size_bytes = await self._asked(operation, snapshot, engine.snapshot)
        await self._settle(operation.desktop, snapshot.id, SnapshotEvent.MADE, size_bytes)

    async def drop(self, engine: Engine, operation: Operation, job: Job) -> None:
        snapshot = await self._wanted(job, operation.desktop, SnapshotState.DROPPING)
        await self._asked(operation, snapshot, engine.drop_snapshot)
        await self._settle(operation.desktop, snapshot.id, SnapshotEvent.DROPPED)

    async def _asked(
        self,
        operation: Operation,
        snapshot: Snapshot,
        verb: Callable[[Operation, str], Awaitable[_T]],
    ) -> _T:
        try:
            return await self._asking.ask(verb(operation, snapshot.id))
        except StaleGenerationError as error:
            # the job is over then, and nothing else would end the snapshot's state
            await self._settle(
                operation.desktop, snapshot.id, SnapshotEvent.FAILED, why=error.detail
            )
            raise

    async def failed(self, job: Job, desktop: Desktop, error: str) -> None:
        """It failed as often as is allowed: what is left of it waits to be dropped."""
        await self._settle(desktop, job.arguments["snapshot_id"], SnapshotEvent.FAILED, why=error)

    async def _wanted(self, job: Job, desktop: Desktop, state: SnapshotState) -> Snapshot:
        """Raises NotFoundError: not any more. EngineError: its desktop is on its way."""
        snapshot = await self._kit.store.snapshots.snapshot(job.arguments["snapshot_id"])
        if snapshot is None or snapshot.state is not state:
            raise NotFoundError("the snapshot has moved on")
        if desktop.state not in SNAPSHOT_STATES:
            raise EngineError(f"{desktop.name} is {desktop.state}")
        return snapshot

    async def _settle(
        self,
        desktop: Desktop,
        snapshot_id: str,
        event: SnapshotEvent,
        size_bytes: int | None = None,
        *,
        why: str = "",
    ) -> None:
        now = self._kit.clock.now()
        await self._kit.store.snapshots.advance(
            snapshot_id, event, now, why=why, size_bytes=size_bytes
        )
        self._settling.tell(desktop)
