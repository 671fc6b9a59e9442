"""Documents as the API gives them, for tests of what reads them."""

from __future__ import annotations

from typing import Any

USER: dict[str, Any] = {
    "id": "usr_1",
    "username": "li.ming",
    "display_name": "李明 Li Ming",
    "role": "user",
    "enabled": True,
    "groups": ["07-maple"],
    "created_at": "2026-09-01T08:00:00.000Z",
}
POOL: dict[str, Any] = {
    "id": "pol_1",
    "name": "library",
    "title": "Library 图书馆",
    "architecture": "vdi",
    "kind": "floating",
    "image": {"id": "img_1", "name": "win11-study", "version": 4},
    "resources": {"cpus": 2, "memory_mib": 4096},
    "spares_min": 40,
    "size_max": 120,
    "log_off": "reset",
    "disconnect_grace_s": 900,
    "lease_s": 0,
    "enabled": True,
    "groups": ["07-maple", "teachers"],
    "desktops": {"ready": 38, "assigned": 12, "starting": 2},
    "waiting": 3,
}
SESSION: dict[str, Any] = {
    "id": "ses_1",
    "user": {"id": "usr_1", "username": "li.ming"},
    "pool": {"id": "pol_1", "name": "library"},
    "architecture": "vdi",
    "state": "active",
    "why": "entitled to library",
    "place": None,
    "desktop": {"id": "dsk_1", "name": "library-007"},
    "endpoint": {"id": "end_1", "name": "lib-01"},
    "generation": 1,
    "revision": 4,
    "requested_at": "2026-11-21T08:00:00.123Z",
    "assigned_at": "2026-11-21T08:00:00.150Z",
    "live_at": "2026-11-21T08:00:01.900Z",
    "ended_at": None,
    "lease_until": None,
    "deadline_at": None,
    "phases": [{"name": "logon", "took_ms": 5200.5, "bytes_down": 1200, "bytes_up": 300}],
    "traffic": {"control": 900, "display": 412000, "image": 0},
    "display": {
        "at": "2026-11-21T08:00:00.000Z",
        "seconds": 10.0,
        "bytes_down": 420_000,
        "bytes_up": 1_200,
        "round_trip_ms": 18.25,
    },
}
ENDPOINT: dict[str, Any] = {
    "id": "end_1",
    "name": "lib-01",
    "kind": "thin",
    "location": "Library 图书馆",
    "state": "online",
    "pools": ["library"],
    "agent_version": "0.1.0",
    "last_seen_at": "2026-11-21T08:00:00.000Z",
    "created_at": "2026-09-01T08:00:00.000Z",
}
CAMPAIGN: dict[str, Any] = {
    "id": "cam_1",
    "name": "demo",
    "seed": 7,
    "plan_sha256": "ab" * 32,
    "state": "finished",
    "verdict": "pass",
    "report_path": "reports/x/report.html",
    "summary": {},
    "started_at": "2026-11-21T08:00:00.000Z",
    "finished_at": "2026-11-21T08:02:00.000Z",
}


def page(*items: dict[str, Any], after: str | None = None) -> tuple[int, dict[str, Any]]:
    return 200, {"items": list(items), "next": after}
