"""The tool that scores the domain's tests by mutation: what counts, and which tests it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import mutants

KILLED, TIMEOUT = 1, -24
UNNOTICED = (0, 5, 33, None)


@pytest.mark.parametrize("code", UNNOTICED)
def test_a_mutant_that_survived_or_that_no_test_ran_counts_against_the_score(
    code: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [("domain.names", "one", KILLED), ("domain.names", "two", code)]
    assert not mutants.report(found)
    assert "domain.names" in (shown := capsys.readouterr().out)
    assert "1/2" in shown
    assert "50.0%" in shown


def test_a_mutant_that_failed_a_test_or_made_it_last_too_long_is_noticed() -> None:
    assert mutants.report([("a", "one", KILLED), ("a", "two", TIMEOUT)])


def test_the_whole_score_decides_and_not_a_modules(capsys: pytest.CaptureFixture[str]) -> None:
    weak = [("weak", str(n), 0) for n in range(15)]
    strong = [("strong", str(n), KILLED) for n in range(85)]
    assert mutants.report([*weak, *strong])
    assert not mutants.report([*weak, *strong[1:]])
    assert "85/100" in capsys.readouterr().out


def test_nothing_mutated_is_no_success() -> None:
    assert not mutants.report([])


def test_every_module_of_the_domain_has_tests_that_are_taken() -> None:
    """Not those of which records are all there is: nothing in them can be changed."""
    text = "".join(path.read_text(encoding="utf-8") for path in mutants.domain_tests())
    unseen = [
        path.stem
        for path in sorted((mutants.ROOT / "broker/domain").glob("*.py"))
        if "def " in path.read_text(encoding="utf-8")
        and f"broker.domain.{path.stem} " not in text
        and f"from broker.domain import {path.stem}\n" not in text
    ]
    assert unseen == []


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("from broker.domain.names import clean", True),
        ("from broker import limits\nfrom tests.support.builders import NOW", True),
        ("from broker.domain import names\nfrom broker.store import open_store", False),
        ("from broker.domain import names\nfrom tests.support.world import World", False),
        ("import json", False),
    ],
)
def test_tests_that_need_the_domain_and_nothing_else_are_taken(
    text: str, taken: bool, tmp_path: Path
) -> None:
    path = tmp_path / "test_x.py"
    path.write_text(text, encoding="utf-8")
    assert mutants.is_of_the_domain(path) is taken


def test_the_copy_that_is_mutated_has_all_that_its_tests_import(tmp_path: Path) -> None:
    mutants.fill(tmp_path, [])
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout
    assert "tests/unit/test_planning_moves.py" in collected.stdout
