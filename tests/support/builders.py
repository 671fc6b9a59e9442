"""Records with sensible defaults for tests."""

from __future__ import annotations

from typing import Any

from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    EndpointState,
    Host,
    HostState,
    LogOff,
    Pool,
    PoolKind,
    Resources,
    Session,
    SessionState,
)
from broker.domain.shadowing import Shadow, ShadowMode
from broker.domain.snapshots import Snapshot, SnapshotState

NOW = 1_790_000_000_000
"""a fixed instant, ms since the Unix epoch"""


def make_pool(**changes: Any) -> Pool:
    values: dict[str, Any] = {
        "id": "pol_1",
        "name": "library",
        "title": "Library",
        "architecture": Architecture.VDI,
        "kind": PoolKind.FLOATING,
        "image_id": "img_1",
        "resources": Resources(cpus=2, memory_mib=4096),
        "spares_min": 2,
        "size_max": 10,
        "log_off": LogOff.RESET,
        "disconnect_grace_s": 600,
        "lease_s": 7 * 86400,
        "enabled": True,
        "group_ids": ("grp_1",),
        "created_at": NOW,
    }
    return Pool(**(values | changes))


def make_host(**changes: Any) -> Host:
    values: dict[str, Any] = {
        "id": "hst_1",
        "name": "server-1",
        "engine": "simulated",
        "profile": "bare-metal",
        "state": HostState.UP,
        "capacity": Resources(cpus=32, memory_mib=131072),
        "overcommit_cpu": 4.0,
        "start_limit": 8,
        "created_at": NOW,
    }
    return Host(**(values | changes))


def make_desktop(**changes: Any) -> Desktop:
    values: dict[str, Any] = {
        "id": "dsk_1",
        "name": "library-001",
        "pool_id": "pol_1",
        "architecture": Architecture.VDI,
        "host_id": "hst_1",
        "endpoint_id": None,
        "owner_id": None,
        "state": DesktopState.READY,
        "target": None,
        "deadline_at": None,
        "generation": 1,
        "resources": Resources(cpus=2, memory_mib=4096),
        "note": "",
        "created_at": NOW,
        "changed_at": NOW,
    }
    return Desktop(**(values | changes))


def make_session(**changes: Any) -> Session:
    values: dict[str, Any] = {
        "id": "ses_1",
        "user_id": "usr_1",
        "pool_id": "pol_1",
        "architecture": Architecture.VDI,
        "desktop_id": "dsk_1",
        "endpoint_id": None,
        "group_id": "grp_1",
        "state": SessionState.DELIVERING,
        "deadline_at": NOW + 60_000,
        "generation": 1,
        "revision": 1,
        "why": "",
        "requested_at": NOW,
        "assigned_at": NOW,
        "live_at": None,
        "ended_at": None,
        "lease_until": None,
    }
    return Session(**(values | changes))


def make_endpoint(**changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "id": "ept_1",
        "name": "LAB-01",
        "kind": EndpointKind.FAT,
        "location": "Room 101",
        "state": EndpointState.ONLINE,
        "public_key": None,
        "pool_ids": ("pol_1",),
        "agent_version": "",
        "last_seen_at": None,
        "created_at": NOW,
    }
    return Endpoint(**(values | changes))


def make_shadow(**changes: Any) -> Shadow:
    """Somebody was asked just now."""
    values: dict[str, Any] = {
        "id": "shd_1",
        "session_id": "ses_1",
        "user_id": "usr_1",
        "staff_id": "usr_9",
        "staff_name": "oliver",
        "mode": ShadowMode.VIEW,
        "reason": "the printer",
        "desktop_id": "dsk_1",
        "generation": 3,
        "display": "b1.tkt_1",
        "asked_at": NOW,
        "changed_at": NOW,
        "until": NOW + 60_000,
    }
    return Shadow(**(values | changes))


def make_snapshot(number: int = 1, **changes: Any) -> Snapshot:
    """One that was asked for just now."""
    values: dict[str, Any] = {
        "id": f"snp_{number}",
        "desktop_id": "dsk_1",
        "generation": 3,
        "name": f"before-{number}",
        "note": "an update",
        "state": SnapshotState.MAKING,
        "why": "",
        "resources": Resources(cpus=2, memory_mib=4096),
        "size_bytes": None,
        "created_at": NOW + number,
        "changed_at": NOW + number,
    }
    return Snapshot(**(values | changes))
