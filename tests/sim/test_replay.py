"""One seed is one history, to the last letter, in whatever process it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from broker.simulation.run import run_one
from broker.simulation.simulation import Spec
from tests.support.tree import ROOT

OPERATIONS = 1500
SEEDS = (3, 6)
"""one with a single broker and one with several"""


def digest_elsewhere(seed: int, hash_seed: str) -> str:
    """The digest of a run in a process of its own, whose sets are in another order."""
    command = ("simulate", "--seed", str(seed), "--operations", str(OPERATIONS), "--json")
    found = subprocess.run(
        [sys.executable, "-m", "broker", *command],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    digest: str = json.loads(found.stdout)["digest"]
    return digest


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_replays_identically(seed: int) -> None:
    result = run_one(Spec(seed=seed, operations=OPERATIONS))
    again = run_one(Spec(seed=seed, operations=OPERATIONS))
    assert again == result
    for hash_seed in ("0", "4711"):
        assert digest_elsewhere(seed, hash_seed) == result.digest


def test_one_of_the_seeds_has_several_brokers() -> None:
    brokers = {run_one(Spec(seed=seed, operations=200)).processes for seed in SEEDS}
    assert 1 in brokers
    assert max(brokers) > 1


def test_another_seed_is_another_history() -> None:
    digests = {run_one(Spec(seed=seed, operations=200)).digest for seed in range(5)}
    assert len(digests) == 5
