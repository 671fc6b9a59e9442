"""Snapshots of desktops."""

from __future__ import annotations

import sqlalchemy as sa

from broker.domain.audit import AuditEntry
from broker.domain.errors import NotFoundError
from broker.domain.lifecycle import SNAPSHOT as LIFECYCLE
from broker.domain.lifecycle import DesktopEvent, SnapshotEvent
from broker.domain.model import Desktop, Instant, Job
from broker.domain.snapshots import Snapshot, counts_for
from broker.store.desktop_snapshots import check_new_snapshot, move_snapshot, reverted
from broker.store.sql import desktop_moves as moves
from broker.store.sql import tables as t
from broker.store.sql.audit import insert_entries
from broker.store.sql.faults import WorldMoved
from broker.store.sql.rows.machines import DESKTOP, from_job, to_desktop
from broker.store.sql.rows.snapshots import SNAPSHOT, from_snapshot, to_snapshot
from broker.store.sql.runner import Database
from broker.store.sql.statements import first

_KEY: sa.BindParameter[str] = sa.bindparam("key")
_ONE = sa.select(*SNAPSHOT).where(t.snapshots.c.id == _KEY)
_OF_DESKTOP = (
    sa.select(*SNAPSHOT)
    .where(t.snapshots.c.desktop_id == _KEY)
    .order_by(t.snapshots.c.created_at, t.snapshots.c.id)
)
_DESKTOP = sa.select(*DESKTOP).where(t.desktops.c.id == _KEY)
# who changes the desktop, or another of its snapshots, waits
_LOCK_DESKTOP = _DESKTOP.with_for_update()
_FORMER = sa.delete(t.snapshots).where(
    t.snapshots.c.desktop_id == _KEY, t.snapshots.c.generation != sa.bindparam("present")
)
_INSERT = sa.insert(t.snapshots)
_DELETE = sa.delete(t.snapshots).where(t.snapshots.c.id == _KEY)
_MOVE = (
    sa.update(t.snapshots)
    .where(t.snapshots.c.id == _KEY)
    .values(
        prior_state=t.snapshots.c.state,
        state=sa.bindparam("to"),
        why=sa.bindparam("words"),
        size_bytes=sa.bindparam("size"),
        changed_at=sa.bindparam("now"),
    )
)
_NEXT_GENERATION = (
    sa.update(t.snapshots)
    .where(t.snapshots.c.desktop_id == _KEY, t.snapshots.c.generation == sa.bindparam("present"))
    .values(generation=t.snapshots.c.generation + 1)
)


class SqlSnapshots:
    """Implements broker.ports.SnapshotStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def snapshot(self, snapshot_id: str) -> Snapshot | None:
        def work(connection: sa.Connection) -> Snapshot | None:
            found = _find(connection, snapshot_id)
            return found[0] if found is not None else None

        return await self._database.view(work)

    async def of_desktop(self, desktop_id: str) -> tuple[Snapshot, ...]:
        def work(connection: sa.Connection) -> tuple[Snapshot, ...]:
            row = first(connection.execute(_DESKTOP, {"key": desktop_id}))
            if row is None:
                return ()
            desktop = to_desktop(row)
            every = _of_desktop(connection, desktop_id)
            return tuple(one for one in every if counts_for(one, desktop))

        return await self._database.view(work)

    async def add(self, snapshot: Snapshot, job: Job, entry: AuditEntry, *, most: int) -> None:
        def work(connection: sa.Connection) -> None:
            row = first(connection.execute(_LOCK_DESKTOP, {"key": snapshot.desktop_id}))
            desktop = to_desktop(row) if row is not None else None
            others = _of_desktop(connection, snapshot.desktop_id)
            check_new_snapshot(desktop, snapshot, others, most)
            former = {"key": snapshot.desktop_id, "present": snapshot.generation}
            connection.execute(_FORMER, former)
            connection.execute(_INSERT, from_snapshot(snapshot))
            connection.execute(sa.insert(t.jobs), from_job(job))
            insert_entries(connection, [entry])

        await self._database.transaction(work)

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
        def work(connection: sa.Connection) -> Snapshot:
            found = _find(connection, snapshot_id, lock=True)
            known = found[0] if found is not None else None
            moved = move_snapshot(known, event, now, why=why, size_bytes=size_bytes)
            if moved.state in LIFECYCLE.terminal:
                connection.execute(_DELETE, {"key": moved.id})
            else:
                values = {
                    "key": moved.id,
                    "to": moved.state.value,
                    "words": moved.why,
                    "size": moved.size_bytes,
                    "now": now,
                }
                connection.execute(_MOVE, values)
            if job is not None:
                connection.execute(sa.insert(t.jobs), from_job(job))
            insert_entries(connection, [entry] if entry is not None else ())
            return moved

        return await self._database.transaction(work)

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
        def work(connection: sa.Connection) -> Desktop:
            found = _find(connection, snapshot_id, lock=True)
            if found is None:
                raise NotFoundError("there is no such snapshot")
            snapshot, desktop = found
            others = _of_desktop(connection, desktop.id)
            # the same rules as everywhere say why not
            reverted(desktop, snapshot, others, generation, now, deadline_at=deadline_at, note=note)
            values = moves.parameters(
                desktop.id, now, fresh=True, deadline_at=deadline_at, generation=generation,
                note=note,
            )  # fmt: skip
            row = first(connection.execute(moves.ADVANCING[DesktopEvent.RESET_ASKED], values))
            if row is None:
                raise WorldMoved
            moved = to_desktop(row)
            connection.execute(_NEXT_GENERATION, {"key": desktop.id, "present": generation})
            moves.add_job(connection, job, moved)
            insert_entries(connection, [entry])
            return moved

        return await self._database.transaction(work)


def _of_desktop(connection: sa.Connection, desktop_id: str) -> list[Snapshot]:
    return [to_snapshot(row) for row in connection.execute(_OF_DESKTOP, {"key": desktop_id}).all()]


def _find(
    connection: sa.Connection, snapshot_id: str, *, lock: bool = False
) -> tuple[Snapshot, Desktop] | None:
    """The snapshot with its desktop, where it lies on that one's disk. `lock`: the desktop's row
    is this transaction's."""
    row = first(connection.execute(_ONE, {"key": snapshot_id}))
    if row is None:
        return None
    of = {"key": to_snapshot(row).desktop_id}
    desktop = to_desktop(connection.execute(_LOCK_DESKTOP if lock else _DESKTOP, of).one())
    # it may have changed until the desktop was ours
    row = first(connection.execute(_ONE, {"key": snapshot_id}))
    snapshot = to_snapshot(row) if row is not None else None
    if snapshot is None or not counts_for(snapshot, desktop):
        return None
    return snapshot, desktop
