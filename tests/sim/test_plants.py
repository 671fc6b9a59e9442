"""Every bug that can be planted is caught, and without one the same seeds are clean."""

from __future__ import annotations

import pytest

from broker.simulation.plants import PLANTS
from broker.simulation.run import run_one
from broker.simulation.simulation import Spec

SEEDS_MAX = 50
OPERATIONS = 2000

CAUGHT_BY = {
    "check-then-act": {"I1", "I3", "I4", "I8"},
    "lost-idempotency": {"I6"},
    "old-reports-believed": {"I2"},
    "not-made-fresh": {"I3"},
    "logged-off-in-name-only": {"I22"},
    "job-taken-twice": {"I5"},
    "ticket-usable-twice": {"I10"},
    "no-deadline": {"I11"},
    "deadline-ignored": {"L1"},
    "machine-left-behind": {"I14"},
    "deletion-forgotten": {"L1"},
    "queue-reversed": {"I13"},
    "waiter-lost": {"I13", "L3"},
    "no-jitter": {"L4"},
    "lease-too-long": {"I7"},
    "loss-unnoticed": {"L6"},
    "anybody-speaks": {"I9"},
    "outage-kills": {"I15"},
    "revision-stands": {"I8"},
    "lease-for-everybody": {"I16"},
    "reset-in-name-only": {"I17"},
    "resumed-as-new": {"I17"},
    "quota-ignored": {"I18"},
    "deny-forgotten": {"I19"},
    "closed-unseen": {"I20"},
    "host-drain-ignored": {"I20"},
    "room-not-counted": {"I12"},
    "move-without-entry": {"I21"},
    "entry-afterwards": {"I21"},
    "two-sealers": {"L7"},
}
"""plant -> the invariants of which one must be what catches it"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    seen: set[str] = set()
    for seed in range(1, SEEDS_MAX + 1):
        result = run_one(Spec(seed=seed, operations=OPERATIONS, plant=PLANTS[name]))
        seen |= {one.invariant for one in result.violations}
        if seen & CAUGHT_BY[name]:
            return
    raise AssertionError(f"{name} was not caught in {SEEDS_MAX} seeds; seen: {sorted(seen)}")


def test_every_plant_has_its_invariant() -> None:
    assert CAUGHT_BY.keys() == PLANTS.keys()
    assert len(PLANTS) >= 10
    assert all(plant.says for plant in PLANTS.values())
