"""Snapshots as they are stored."""

from __future__ import annotations

from typing import Protocol

from broker.domain.audit import AuditEntry
from broker.domain.lifecycle import SnapshotEvent
from broker.domain.model import Desktop, Instant, Job
from broker.domain.snapshots import Snapshot


class SnapshotStore(Protocol):
    async def snapshot(self, snapshot_id: str) -> Snapshot | None:
        """None, too, where its desktop has another disk by now (`counts_for`)."""

    async def of_desktop(self, desktop_id: str) -> tuple[Snapshot, ...]:
        """Those that lie on the desktop's present disk, oldest first."""

    async def add(self, snapshot: Snapshot, job: Job, entry: AuditEntry, *, most: int) -> None:
        """A new one (`making`) with its job, in one transaction; those on the desktop's former
        disks are forgotten with it.

        Raises:
            NotFoundError: there is no such desktop. IllegalTransitionError: it is of another
            generation, in a state other than SNAPSHOT_STATES, or moves to another host.
            AlreadyExistsError: it has one of that name. SnapshotRefusedError: it has `most`.
        """

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
        """Move one, with its job and its entry in one transaction. One that was dropped is not
        stored any more. `size_bytes` None leaves what is known.

        Raises NotFoundError, as `snapshot` finds none; IllegalTransitionError.
        """

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
        """The desktop (RESET_ASKED) and all of its snapshots go to the next generation, in one
        transaction with the job, for that generation.

        Raises:
            NotFoundError, as `snapshot` finds none. SnapshotRefusedError: the snapshot is not
            ready, the desktop has other resources than it had, or another snapshot of it is under
            way. IllegalTransitionError: it is of another generation, in a state that does not
            take it, or moves.
        """
