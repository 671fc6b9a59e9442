"""The import directions hold, and each rule is seen to fail when it is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tree import ROOT

CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
}

VIOLATIONS = [
    ("layers", "broker/domain/errors.py", "import broker.ports"),
    ("layers", "broker/services/connect.py", "import broker.store"),
    ("layers", "broker/store/__init__.py", "import broker.web"),
    ("layers", "broker/stray.py", "'a module without a layer'"),
    ("acyclic", "broker/domain/model.py", "import broker.domain.placement"),
    ("pure-domain", "broker/domain/placement.py", "import time"),
    ("pure-domain", "broker/domain/model.py", "import msgspec"),
    ("services-know-ports", "broker/services/connect.py", "import sqlalchemy"),
    ("services-know-ports", "broker/ports/engine.py", "import broker.wire"),
    ("adapters-know-ports", "broker/store/__init__.py", "import broker.services"),
    ("adapters-are-strangers", "broker/engines/__init__.py", "import broker.store"),
    ("only-app-names-adapters", "broker/services/connect.py", "import broker.engines"),
    ("who-speaks-wire", "broker/services/connect.py", "import broker.wire"),
    ("agents-see-wire", "agents/__init__.py", "import broker.domain.model"),
    ("agents-need-base", "agents/__init__.py", "import rich"),
    ("pure-agents", "agents/core/__init__.py", "import asyncio"),
    ("guest-agent-alone", "agents/guest/core.py", "import broker.guest_wire"),
    ("guest-agent-alone", "agents/guest/core.py", "import msgspec"),
    ("guest-agent-alone", "agents/guest/core.py", "import agents.limits"),
    ("loadtests-by-network", "loadtests/__init__.py", "import broker.wire"),
    ("loadtests-by-network", "loadtests/__init__.py", "import asyncio"),
]


LINT = "from importlinter.cli import lint_imports_command as run; run()"


def lint(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", tree)
    for package in ("broker", "agents", "loadtests"):
        shutil.copytree(
            ROOT / package,
            tree / package,
            ignore=lambda folder, names: [
                name
                for name in names
                if not name.endswith(".py") and not Path(folder, name).is_dir()
            ],
        )
    return tree


@pytest.fixture
def planted(copy: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    _, name, line = request.param
    path = copy / name
    before = path.read_text("utf-8") if path.exists() else None
    path.write_text((before or "") + f"\n{line}\n", "utf-8")
    yield copy
    if before is None:
        path.unlink()
    else:
        path.write_text(before, "utf-8")


def test_every_direction_holds(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken" in result.stdout


def test_every_rule_has_a_violation_below() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == CONTRACTS.keys()


@pytest.mark.parametrize(
    ("planted", "contract"),
    [pytest.param(one, one[0], id=f"{one[0]}: {one[1]}: {one[2]}") for one in VIOLATIONS],
    indirect=["planted"],
)
def test_a_violation_breaks_its_rule(planted: Path, contract: str) -> None:
    result = lint(planted, "--contract", contract)
    assert result.returncode == 1, result.stdout + result.stderr
    if "Missing layer" not in result.stdout:
        assert f"{CONTRACTS[contract]} BROKEN" in result.stdout, result.stdout
