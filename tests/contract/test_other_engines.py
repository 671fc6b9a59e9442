"""An engine of another distribution is found, and held to the contract like this project's own.

examples/engine is built and installed into a folder of its own, and the suite run with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.tree import ROOT

EXAMPLE = ROOT / "examples" / "engine"
SUITE = sorted(str(one.relative_to(ROOT)) for one in ROOT.glob("tests/contract/test_engine*.py"))
FENCE = "if found is not None and found.generation > operation.desktop.generation:"


def installed(work: Path, *, without: str = "") -> Path:
    """The example's wheel, unpacked as an installer leaves it. `without`: a condition in its
    code that never holds."""
    source = work / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    engine = source / "filed_engine.py"
    text = engine.read_text("utf-8")
    assert not without or text.count(without) == 1
    engine.write_text(text.replace(without, "if False:") if without else text, "utf-8")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work)],
        cwd=source, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    [wheel] = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(work / "installed")
    return work / "installed"


def held_to(folder: Path, *files: str, engine: str = "filed") -> subprocess.CompletedProcess[str]:
    """The suite's own run with what is installed there."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--engine", engine, *files],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_an_engine_of_another_distribution_passes_the_whole_suite(tmp_path: Path) -> None:
    ran = held_to(installed(tmp_path), *SUITE)
    assert ran.returncode == 0, ran.stdout
    last = ran.stdout.splitlines()[-1]
    assert int(last.split(" passed")[0].split()[-1]) > 20, last
    assert "deselected" in last, "what it does not claim is not asked of it"


def test_an_engine_that_forgets_its_fence_fails_the_suite(tmp_path: Path) -> None:
    ran = held_to(installed(tmp_path, without=FENCE), SUITE[2])
    assert ran.returncode == 1, ran.stdout
    assert "test_an_operation_of_an_older_generation_is_refused" in ran.stdout


def test_an_engine_that_nobody_brings_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    ran = held_to(tmp_path, SUITE[2], engine="nowhere")
    assert ran.returncode != 0
    assert "no engine kind is called 'nowhere'" in ran.stdout + ran.stderr
