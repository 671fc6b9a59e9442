"""The comparison: figures in units that people read, and what is missing shown as missing."""

from __future__ import annotations

import json

import pytest

from broker.cli.comparison import seconds, size, summary
from broker.limits import SUMMARY_BYTES_MAX
from tests.support.reports import report


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(None, "–"), (0.4, "0 ms"), (999, "999 ms"), (1000, "1.00 s"), (99_990, "99.99 s"),
     (100_000, "100 s")],
)  # fmt: skip
def test_durations(ms: float | None, shown: str) -> None:
    assert seconds(ms) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_600, "1000 kB"),
     (1_234_567, "1.23 MB"), (64e9, "64.0 GB"), (5e15, "5000 TB")],
)  # fmt: skip
def test_sizes(count: float | None, shown: str) -> None:
    assert size(count) == shown


def test_a_summary_is_small_and_has_what_others_rely_on() -> None:
    found = summary(report())
    assert len(json.dumps(found)) < SUMMARY_BYTES_MAX
    for name in ("vdi", "idv", "voi"):
        part = found["architectures"][name]
        assert {"sessions", "failures", "bytes", "phases"} <= set(part)
        assert set(part["bytes"]) == {"control", "display", "image"}
        assert set(part["phases"]["total"]) == {"n", "p50_ms", "p95_ms", "p99_ms"}
    assert found["invariants"] == {"double_assignments": 0, "lost_sessions": 0}
