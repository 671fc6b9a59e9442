"""Snapshots: a desktop's disk, and its memory, as they were at one moment, kept to come back to.

A snapshot lies in its desktop's own disk: it goes with that disk, when the desktop is made fresh
or removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker.domain.model import Desktop, DesktopState, Instant, Resources


class SnapshotState(StrEnum):
    """Dropped ones are not stored any more."""

    MAKING = "making"
    READY = "ready"
    FAILED = "failed"
    DROPPING = "dropping"
    DROPPED = "dropped"


SNAPSHOT_STATES: Final = frozenset(
    {DesktopState.READY, DesktopState.ASSIGNED, DesktopState.SUSPENDED, DesktopState.PARKED}
)
"""states of a desktop in which snapshots of it are made and dropped: it stays where it is"""
UNDER_WAY: Final = frozenset({SnapshotState.MAKING, SnapshotState.DROPPING})
"""states of a snapshot that end with its job: until then the engine may be at its desktop's disk"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`generation`: of the desktop on whose disk it lies; it counts only while the desktop is of
    that generation. A revert takes both to the next one. `resources`: what the desktop had then;
    its memory is that of a machine of this size, so only a desktop that has it can go back.
    `size_bytes`: what it took on the host's disk when it was made;
    None: the engine does not know. `why`: of one that failed.
    """

    id: str
    desktop_id: str
    generation: int
    name: str
    note: str
    state: SnapshotState
    why: str
    resources: Resources
    size_bytes: int | None
    created_at: Instant
    changed_at: Instant


def counts_for(snapshot: Snapshot, desktop: Desktop) -> bool:
    """Whether it lies on the disk that the desktop has now."""
    gone = desktop.state in {DesktopState.DELETING, DesktopState.DELETED}
    same = snapshot.desktop_id == desktop.id and snapshot.generation == desktop.generation
    return same and not gone


def under_way(snapshots: Iterable[Snapshot], desktop: Desktop) -> Snapshot | None:
    """The first of these that is just being made or dropped on the disk that the desktop has now;
    what is asked of the machine meanwhile has to wait for it."""
    here = (one for one in snapshots if one.state in UNDER_WAY)
    return next((one for one in here if counts_for(one, desktop)), None)
