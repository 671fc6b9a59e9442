"""Each package imports only what its own extra installs, and nothing is installed in vain."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from tests.support.tree import PACKAGES, ROOT, modules, parsed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

ALLOWED = {
    "agents": PROJECT["dependencies"],
    "broker": [
        *PROJECT["dependencies"],
        *EXTRAS["broker"],
        *EXTRAS["libvirt"],
        *EXTRAS["openstack"],
    ],
    "loadtests": [*PROJECT["dependencies"], *EXTRAS["load"]],
    "tests": [
        requirement
        for requirements in (PROJECT["dependencies"], *EXTRAS.values())
        for requirement in requirements
    ],
}

NOT_EVERYWHERE = {
    "keystoneauth1": ["keystoneauth1"],
    "libvirt": ["libvirt-python"],
    "libvirt_qemu": ["libvirt-python"],
    "openstack": ["openstacksdk"],
}
"""module -> its distribution, for what `make check` does without"""

NOT_IMPORTED = {
    "psycopg": "SQLAlchemy loads the driver by name",
    "tzdata": "zoneinfo reads it where the system has no time zones",
}


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def names_of(requirements: Iterable[str]) -> set[str]:
    return {name_of(requirement) for requirement in requirements}


@cache
def imported(package: str) -> dict[str, str]:
    """Distribution -> a file that imports it, for every import of other people's modules."""
    known = packages_distributions()
    found: dict[str, str] = {}
    for path in modules():
        if path.relative_to(ROOT).parts[0] != package:
            continue
        for node in ast.walk(parsed(path)):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for module in {name.partition(".")[0] for name in names}:
                if module in sys.stdlib_module_names or module in {*PACKAGES, "tools", "examples"}:
                    continue
                for distribution in known.get(module, NOT_EVERYWHERE.get(module, [module])):
                    found[name_of(distribution)] = path.relative_to(ROOT).as_posix()
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_its_extra_declares(package: str) -> None:
    declared = names_of(ALLOWED[package])
    undeclared = {name: file for name, file in imported(package).items() if name not in declared}
    assert undeclared == {}


@pytest.mark.parametrize(
    ("package", "extra"), [("agents", None), ("broker", "broker"), ("loadtests", "load")]
)
def test_nothing_is_declared_in_vain(package: str, extra: str | None) -> None:
    declared = names_of(EXTRAS[extra] if extra else PROJECT["dependencies"])
    assert declared - imported(package).keys() - NOT_IMPORTED.keys() == set()


def test_what_not_everybody_installs_is_imported_by_its_engine_only() -> None:
    importing = {
        (module.partition(".")[0], path.relative_to(ROOT).parts[:3])
        for path in modules()
        if path.relative_to(ROOT).parts[0] == "broker"
        for node in ast.walk(parsed(path))
        for module in named_in(node)
        if module.partition(".")[0] in NOT_EVERYWHERE
    }
    engines = {"keystoneauth1": "openstack", "libvirt": "libvirt", "openstack": "openstack"}
    assert importing == {
        (module, ("broker", "engines", engine)) for module, engine in engines.items()
    }


@pytest.mark.xdist_group("grouped")
def test_a_group_of_tests_has_one_worker(request: pytest.FixtureRequest) -> None:
    """pytest-xdist puts a group's name behind a test's. Where pytest does not let it, tests that
    must not overlap do, and nothing else tells."""
    grouping = request.config.getoption("loadgroup", False)
    assert ("@grouped" in request.node.nodeid) is bool(grouping)


def named_in(node: ast.AST) -> list[str]:
    """The modules of an import."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
