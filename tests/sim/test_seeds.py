"""Hundreds of seeds under every fault, and no invariant broken."""

from __future__ import annotations

import pytest

from broker.simulation.run import Total, run_one
from broker.simulation.simulation import Spec

OPERATIONS = 5000
SEEDS = 200
OPERATION_KINDS_MIN = 44
"""kinds of operations in ten seeds, out of 53"""
USUAL = {
    *("engine create", "engine destroy", "engine reset", "engine suspend", "engine resize"),
    *("engine report", "display opens", "segment", "reconciler look"),
    *("person: connect", "person: wait", "person: log off", "person: disconnect"),
    *(f"person: administrator: {noun}.open" for noun in ("host", "pool")),
    *(f"person: administrator: {noun}.change" for noun in ("host", "pool")),
    *(f"person: administrator: {noun}.create" for noun in ("rule", "quota")),
    *(f"person: administrator: {noun}.delete" for noun in ("rule", "quota")),
    *(f"person: administrator: session.{verb}" for verb in ("message", "extend", "log_off")),
    "person: administrator: preview",
}
"""what any ten seeds do"""
PARTS = 20
"""tests that the seeds are split into, so that two workers share them"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_breaks_an_invariant(part: int) -> None:
    total = Total()
    for seed in range(1 + part, 1 + SEEDS, PARTS):
        total.add(run_one(Spec(seed=seed, operations=OPERATIONS)))
    broken = [
        f"seed {result.spec.seed}: {one.invariant} at {one.at_s:.3f} s: {one.what}"
        for result in total.broken
        for one in result.violations
    ]
    assert broken == []
    assert total.done >= OPERATIONS * SEEDS / PARTS
    assert sorted(USUAL - total.operations.keys()) == [], "the runs did not do everything"
    assert len(total.operations) >= OPERATION_KINDS_MIN, "the runs did not do everything"
    assert len(total.faults) > 20, "the runs did not suffer everything"
