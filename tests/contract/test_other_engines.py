"""An engine of another distribution is found, and held to the contract like this project's own.

examples/engine is built and installed into a folder of its own, and the suite run with it.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.errors import EngineError
from broker.ports import Operation
from tests.support.builders import make_desktop
from tests.support.engines import simulated_case
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


async def test_what_the_example_left_behind_does_not_overwrite_a_later_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    engine = importlib.import_module("filed_engine").FiledEngine(
        installation_id="ins_1", folder=tmp_path
    )
    await engine.open()
    begun, goes_on, make = threading.Event(), threading.Event(), engine._make

    def slowly(operation: Operation) -> None:
        if operation.desktop.generation == 1:
            begun.set()
            assert goes_on.wait(10)
        make(operation)

    monkeypatch.setattr(engine, "_make", slowly)
    case = simulated_case()
    first = replace(case.operation("job_1", make_desktop(generation=1)), deadline_s=0.1)
    with pytest.raises(EngineError, match="no answer"):
        await engine.create(first)
    assert begun.is_set()
    with pytest.raises(EngineError, match="no answer"):
        await engine.reset(
            replace(case.operation("job_2", make_desktop(generation=2)), deadline_s=0.1)
        )
    goes_on.set()
    await engine.reset(case.operation("job_3", make_desktop(generation=2)))
    [machine] = await engine.machines()
    assert machine.generation == 2
    await engine.close()


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
