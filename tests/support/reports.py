"""A campaign's report.json, small, for tests of what reads it."""

from __future__ import annotations

from typing import Any

PLAN = "cd" * 32


def _architecture(sessions: int, failures: int, p50_ms: float, image: int) -> dict[str, Any]:
    phase = {"n": sessions, "p50_ms": p50_ms, "p95_ms": 2 * p50_ms, "p99_ms": 3 * p50_ms}
    total = 1_000 + image
    return {
        "title": "…",
        "sessions": sessions,
        "live": sessions - failures,
        "failures": failures,
        "queued": 3,
        "phases": {"total": phase, "assign": {**phase, "p95_ms": 12.0}},
        "bytes": {
            "control": 1_000,
            "display": 0,
            "image": image,
            "total": total,
            "per_session": {"control": 10, "display": 0, "image": 90, "total": 100.0},
            "modelled": {"control": 10, "display": 0, "image": 23_040, "total": 23_050.0},
        },
    }


def report(verdict: str = "pass") -> dict[str, Any]:
    return {
        "version": 1,
        "verdict": verdict,
        "reasons": [] if verdict == "pass" else ["a person waited too long"],
        "seed": 7,
        "plan_sha256": PLAN,
        "speed": 8.0,
        "bytes_scale": 256.0,
        "duration_s": 91.5,
        "architectures": {
            "vdi": _architecture(120, 0, 800.0, 0),
            "idv": _architecture(80, 2, 3_600.0, 5_000_000),
            "voi": _architecture(70, 0, 2_500.0, 9_000_000_000),
        },
        "invariants": {"double_assignments": 0, "lost_sessions": 0, "checks": []},
    }
