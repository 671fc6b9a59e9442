"""`trivium simulate`: what it prints and how it ends."""

from __future__ import annotations

import json

from click.testing import CliRunner

from broker.cli.root import root
from broker.simulation.plants import PLANTS


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(root, ["simulate", *arguments])
    return result.exit_code, result.output


def test_it_says_what_it_did() -> None:
    code, said = run("--seeds", "2", "--operations", "300")
    assert code == 0, said
    for word in ("person: connect", "reconciler look", "virtual time", "operations/s", "broken"):
        assert word in said


def test_one_seed_shows_its_digest_and_its_end() -> None:
    code, said = run("--seed", "7", "--operations", "300", "--trace")
    assert code == 0, said
    assert "digest" in said
    assert "reconciler look broker" in said


def test_the_document_for_programs() -> None:
    code, said = run("--seed", "7", "--operations", "300", "--json")
    document = json.loads(said)
    assert code == 0
    assert document["seed"] == 7
    assert document["runs"] == 1
    assert document["operations"] >= 300
    assert document["violations"] == []
    assert len(document["digest"]) == 32


def test_every_plant_is_listed() -> None:
    code, said = run("--plants")
    assert code == 0
    assert all(name in said for name in PLANTS)


def test_a_planted_bug_ends_with_1_and_says_what_broke() -> None:
    code, said = run("--plant", "machine-left-behind", "--operations", "500")
    assert code == 1
    assert "I14" in said
    assert "caught" in said
