"""Rules about the project's own files that no other tool checks."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from broker.domain.errors import every_error
from tests.support.tree import ROOT, functions, kept_files, modules, parsed, shown

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 450
TEST_LINES_MAX = 600

LONGER_FILES: dict[str, str] = {}
LONGER_FUNCTIONS = {
    "broker/store/sql/migrations/versions/0002_desktops_and_sessions.py:_sessions": (
        "a table: one entry a column"
    ),
    "broker/web/api/sessions.py:routes": "a table: one entry a route",
    "broker/web/api/users.py:routes": "a table: one entry a route",
}

LOCKS = sorted((ROOT / "requirements").glob("*.lock"))

# written in pieces, or this file would break its own rule
REGISTRIES = ("registry.npmjs" + ".org", "pypi" + ".org", "pythonhosted" + ".org")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:root|work|home/\w+|Users/\w+|opt/tv)/")

TEXT = {
    "", ".cfg", ".css", ".csv", ".html", ".in", ".ini", ".ipxe", ".j2", ".js", ".json", ".lock",
    ".md", ".py", ".sh", ".sql", ".svg", ".toml", ".txt", ".xml", ".yaml", ".yml",
}  # fmt: skip


def text_files() -> list[Path]:
    return [path for path in kept_files() if path.suffix in TEXT]


def test_no_file_names_a_package_registry() -> None:
    found = [
        f"{shown(path)}: {host}"
        for path in text_files()
        for host in REGISTRIES
        if host in path.read_text("utf-8")
    ]
    assert found == []


def test_no_file_holds_an_absolute_path_of_somebodys_machine() -> None:
    found = [
        f"{shown(path)}: {match.group()}"
        for path in text_files()
        if path != Path(__file__)
        for match in MACHINE_PATH.finditer(path.read_text("utf-8"))
    ]
    assert found == []


def test_there_are_locks_to_check() -> None:
    names = {
        "agent", "bench", "broker", "dev", "libvirt", "load", "node", "openstack",
        "openstack-lab", "run",
    }  # fmt: skip
    assert {lock.stem for lock in LOCKS} == names


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_every_package_by_version_and_hash_and_names_no_address(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert " @ " not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        first, *rest = entry.splitlines()
        assert re.match(r"[a-z0-9-]+==\S+( ; .+)? \\$", first), first
        assert rest, f"{first} has no hash"
        assert all(re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in rest), first


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["agent", "broker", "load", "run"])
def test_every_lock_takes_its_versions_from_the_one_that_is_tested(name: str) -> None:
    tested = locked("dev")
    assert locked(name).items() <= tested.items()


def test_an_endpoint_installs_none_of_the_servers_libraries() -> None:
    servers = {"sqlalchemy", "psycopg", "jinja2", "argon2-cffi", "asyncssh", "locust", "rich"}
    assert not servers & locked("agent").keys()


def test_the_console_libraries_are_pinned_by_integrity_and_without_addresses() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text("utf-8"))
    wanted = json.loads((ROOT / "package.json").read_text("utf-8"))["dependencies"]
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {
        name.removeprefix("node_modules/"): entry["version"] for name, entry in packages.items()
    } == wanted
    for entry in packages.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry


def test_the_licence_is_the_one_that_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_ignored_lint_rule_gives_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    ruff = text[text.index("ignore = [") : text.index("[tool.ruff.lint.flake8-tidy")]
    rules = re.findall(r'^.*"[A-Z]+[0-9]*"(?:,|\]).*$', ruff, re.MULTILINE)
    assert rules
    assert [line for line in rules if "#" not in line] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        shown(path)
        for path in modules()
        if not path.name.startswith("test_")
        and parsed(path).body
        and not ast.get_docstring(parsed(path))
    ]
    assert silent == []


def test_no_file_grows_past_what_can_be_read_at_once() -> None:
    long = {}
    for path in modules():
        lines = len(path.read_text("utf-8").splitlines())
        if lines > (TEST_LINES_MAX if shown(path).startswith("tests/") else FILE_LINES_MAX):
            long[shown(path)] = lines
    assert long.keys() <= LONGER_FILES.keys(), long


def test_no_function_grows_past_a_page() -> None:
    long = {
        f"{shown(path)}:{name}": lines
        for path in modules()
        for name, lines in functions(path)
        if lines > FUNCTION_LINES_MAX
    }
    assert long.keys() <= LONGER_FUNCTIONS.keys(), long


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in every_error()]
    assert sorted(codes) == sorted(set(codes))


def test_every_error_code_is_documented() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    missing = [kind.code for kind in every_error() if f"`{kind.code}`" not in page]
    assert missing == []
