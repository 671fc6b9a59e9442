"""Snapshots of desktops, in memory."""

from __future__ import annotations

from dataclasses import replace

from broker.domain.audit import AuditEntry
from broker.domain.errors import NotFoundError
from broker.domain.lifecycle import SNAPSHOT, SnapshotEvent
from broker.domain.model import Desktop, Instant, Job
from broker.domain.snapshots import Snapshot, counts_for
from broker.store.desktop_snapshots import check_new_snapshot, move_snapshot, reverted
from broker.store.memory.audit import insert_entries
from broker.store.memory.state import State


class MemorySnapshots:
    """Implements broker.ports.SnapshotStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def snapshot(self, snapshot_id: str) -> Snapshot | None:
        return self._find(snapshot_id)

    def _find(self, snapshot_id: str) -> Snapshot | None:
        found = self._state.snapshots.get(snapshot_id)
        if found is None or not counts_for(found, self._state.desktops[found.desktop_id]):
            return None
        return found

    async def of_desktop(self, desktop_id: str) -> tuple[Snapshot, ...]:
        desktop = self._state.desktops.get(desktop_id)
        if desktop is None:
            return ()
        present = (one for one in self._of(desktop_id) if counts_for(one, desktop))
        return tuple(sorted(present, key=lambda one: (one.created_at, one.id)))

    def _of(self, desktop_id: str) -> list[Snapshot]:
        return [one for one in self._state.snapshots.values() if one.desktop_id == desktop_id]

    async def add(self, snapshot: Snapshot, job: Job, entry: AuditEntry, *, most: int) -> None:
        state = self._state
        desktop = state.desktops.get(snapshot.desktop_id)
        others = self._of(snapshot.desktop_id)
        check_new_snapshot(desktop, snapshot, others, most)
        state.add_job(job)
        for one in others:
            if one.generation != snapshot.generation:
                del state.snapshots[one.id]
        state.snapshots[snapshot.id] = snapshot
        insert_entries(state.audit, [entry])

    async def advance(
        self,
        snapshot_id: str,
        event: SnapshotEvent,
        now: Instant,
        *,
        why: str = "",
        size_bytes: int | None = None,
        job: Job | None = None,
        entry: AuditEntry | None = None,
    ) -> Snapshot:
        state = self._state
        moved = move_snapshot(self._find(snapshot_id), event, now, why=why, size_bytes=size_bytes)
        if job is not None:
            state.add_job(job)
        if moved.state in SNAPSHOT.terminal:
            del state.snapshots[moved.id]
        else:
            state.snapshots[moved.id] = moved
        insert_entries(state.audit, [entry] if entry is not None else ())
        return moved

    async def begin_revert(
        self,
        snapshot_id: str,
        generation: int,
        now: Instant,
        *,
        deadline_at: Instant,
        note: str,
        job: Job,
        entry: AuditEntry,
    ) -> Desktop:
        state, snapshot = self._state, self._find(snapshot_id)
        if snapshot is None:
            raise NotFoundError("there is no such snapshot")
        desktop = state.desktops[snapshot.desktop_id]
        others = self._of(desktop.id)
        moved = reverted(
            desktop, snapshot, others, generation, now, deadline_at=deadline_at, note=note
        )
        state.add_job(replace(job, generation=moved.generation))
        state.put_desktop(moved)
        for one in others:
            if counts_for(one, desktop):
                state.snapshots[one.id] = replace(one, generation=moved.generation)
        insert_entries(state.audit, [entry])
        return moved
