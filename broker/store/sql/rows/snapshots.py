"""Snapshots of desktops."""

from __future__ import annotations

from broker.domain.model import Resources
from broker.domain.snapshots import Snapshot, SnapshotState
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.resources import from_resources
from broker.store.sql.schema import NOTHING

SNAPSHOT = (
    t.snapshots.c.id,
    t.snapshots.c.desktop_id,
    t.snapshots.c.generation,
    t.snapshots.c.name,
    t.snapshots.c.note,
    t.snapshots.c.state,
    t.snapshots.c.why,
    t.snapshots.c.size_bytes,
    t.snapshots.c.created_at,
    t.snapshots.c.changed_at,
    t.snapshots.c.cpus,
    t.snapshots.c.memory_mib,
    t.snapshots.c.disk_mib,
    t.snapshots.c.disk_iops,
    t.snapshots.c.network_mbit,
)


def to_snapshot(row: Row) -> Snapshot:
    snapshot_id, desktop_id, generation, name, note, state, why, size, created, *rest = row
    changed_at, cpus, memory_mib, disk_mib, disk_iops, network_mbit = rest
    return Snapshot(
        id=snapshot_id,
        desktop_id=desktop_id,
        generation=generation,
        name=name,
        note=note,
        state=SnapshotState(state),
        why=why,
        resources=Resources(
            cpus=cpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            disk_iops=disk_iops,
            network_mbit=network_mbit,
        ),
        size_bytes=size,
        created_at=created,
        changed_at=changed_at,
    )


def from_snapshot(snapshot: Snapshot) -> Values:
    """A new snapshot's row."""
    return {
        "id": snapshot.id,
        "desktop_id": snapshot.desktop_id,
        "generation": snapshot.generation,
        "name": snapshot.name,
        "note": snapshot.note,
        "prior_state": NOTHING,
        "state": snapshot.state.value,
        "why": snapshot.why,
        "size_bytes": snapshot.size_bytes,
        **from_resources(snapshot.resources),
        "created_at": snapshot.created_at,
        "changed_at": snapshot.changed_at,
    }
