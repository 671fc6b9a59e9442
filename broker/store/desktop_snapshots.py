"""What a snapshot's row takes: the same for every store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.domain.errors import (
    AlreadyExistsError,
    IllegalTransitionError,
    NotFoundError,
    SnapshotRefusedError,
)
from broker.domain.lifecycle import SNAPSHOT, DesktopEvent, SnapshotEvent
from broker.domain.model import Desktop, Instant
from broker.domain.snapshots import (
    SNAPSHOT_STATES,
    UNDER_WAY,
    Snapshot,
    SnapshotState,
    counts_for,
    under_way,
)
from broker.store.moves import move_desktop


def check_new_snapshot(
    desktop: Desktop | None, snapshot: Snapshot, others: Iterable[Snapshot], most: int
) -> None:
    """See SnapshotStore.add. `others`: those of the desktop, former ones too."""
    if desktop is None:
        raise NotFoundError("there is no such desktop")
    if snapshot.state not in SNAPSHOT.first:
        raise IllegalTransitionError(f"a new snapshot is not {snapshot.state}")
    if not counts_for(snapshot, desktop):
        raise IllegalTransitionError(f"{desktop.name} has been made fresh since")
    if desktop.state not in SNAPSHOT_STATES:
        raise IllegalTransitionError(f"{desktop.name} is {desktop.state}: wait until it is not")
    _check_stays(desktop)
    present = [one for one in others if counts_for(one, desktop)]
    if any(one.name == snapshot.name for one in present):
        raise AlreadyExistsError(f"{desktop.name} has a snapshot {snapshot.name!r}")
    if len(present) >= most:
        raise SnapshotRefusedError(f"{desktop.name} has {len(present)} snapshots: drop one first")


def _check_stays(desktop: Desktop) -> None:
    if desktop.moving_to is not None:
        raise IllegalTransitionError(
            f"{desktop.name} moves to another host: wait until it is there"
        )


def move_snapshot(
    snapshot: Snapshot | None,
    event: SnapshotEvent,
    now: Instant,
    *,
    why: str = "",
    size_bytes: int | None = None,
) -> Snapshot:
    """The snapshot after `event`; see SnapshotStore.advance."""
    if snapshot is None:
        raise NotFoundError("there is no such snapshot")
    return replace(
        snapshot,
        state=SNAPSHOT.advance(snapshot.state, event),
        why=why,
        size_bytes=snapshot.size_bytes if size_bytes is None else size_bytes,
        changed_at=now,
    )


def reverted(
    desktop: Desktop,
    snapshot: Snapshot,
    others: Iterable[Snapshot],
    generation: int,
    now: Instant,
    *,
    deadline_at: Instant,
    note: str,
) -> Desktop:
    """The desktop on its way back; see SnapshotStore.begin_revert. `others`: of the desktop."""
    if snapshot.state is not SnapshotState.READY:
        raise SnapshotRefusedError(f"the snapshot {snapshot.name!r} is {snapshot.state}")
    busy = under_way(others, desktop)
    if busy is not None:
        raise SnapshotRefusedError(f"the snapshot {busy.name!r} is {busy.state}: wait for it")
    _check_stays(desktop)
    if snapshot.resources != desktop.resources:
        then = f"{snapshot.resources.cpus:g} CPUs and {snapshot.resources.memory_mib} MiB"
        text = f"had another size ({then}), and goes back once it has that again"
        raise SnapshotRefusedError(f"{desktop.name} {text}")
    return move_desktop(
        desktop,
        DesktopEvent.RESET_ASKED,
        now,
        generation=generation,
        deadline_at=deadline_at,
        note=note,
        fresh=True,
    )


def restored_state(state: SnapshotState) -> SnapshotState:
    """After a restore from a backup: its job is over, and nobody knows how far that had come."""
    return SnapshotState.FAILED if state in UNDER_WAY else state
