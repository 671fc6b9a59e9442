"""The set-up scripts, run with tools of our own making in place of the machine's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tree import ROOT

SCRIPTS = sorted((ROOT / "tools").glob("*.sh"))


class Machine:
    """A machine that has only what a test gives it; apt-get writes down how it was called."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.bin.mkdir()
        self.log = root / "apt.log"
        for tool in ("bash", "env", "cat", "rm"):
            found = shutil.which(tool)
            assert found
            (self.bin / tool).symlink_to(found)

    def give(self, name: str, script: str = "exit 0") -> None:
        path = self.bin / name
        path.write_text(f"#!{self.bin / 'bash'}\n{script}\n", "utf-8")
        path.chmod(0o755)

    def give_apt(self, *, user: int = 0) -> None:
        self.give("id", f"echo {user}")
        self.give("apt-get", f'echo "$*" >> "{self.log}"')

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(command),
            cwd=ROOT,
            env={"PATH": str(self.bin), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def asked_apt(self) -> str:
        return self.log.read_text("utf-8") if self.log.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_and_stops_at_the_first_error(script: Path) -> None:
    text = script.read_text("utf-8")
    assert script.stat().st_mode & 0o111
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text


def test_apt_is_left_alone_where_the_browser_and_a_font_are_there(machine: Machine) -> None:
    machine.give_apt()
    machine.give("chromium")
    machine.give("fc-list", "echo WenQuanYi Micro Hei")
    assert machine.run("tools/browser.sh").returncode == 0
    assert machine.asked_apt == ""


def test_a_missing_browser_is_installed(machine: Machine) -> None:
    machine.give_apt()
    machine.give("fc-list", "echo WenQuanYi Micro Hei")
    result = machine.run("tools/browser.sh")
    assert result.returncode == 0, result.stderr
    update, install = machine.asked_apt.splitlines()
    assert update.endswith(" update")
    assert install.endswith(" --no-install-recommends chromium")


def test_a_missing_chinese_font_is_installed(machine: Machine) -> None:
    machine.give_apt()
    machine.give("chromium")
    machine.give("fc-list")
    assert machine.run("tools/browser.sh").returncode == 0
    assert machine.asked_apt.rstrip().endswith(" fonts-wqy-microhei")


def test_what_cannot_be_installed_is_named_and_fails(machine: Machine) -> None:
    machine.give("fc-list", "echo WenQuanYi Micro Hei")
    result = machine.run("tools/browser.sh")
    assert result.returncode == 1
    assert "install by hand: chromium" in result.stderr


def test_without_the_right_to_install_the_command_for_root_is_named(machine: Machine) -> None:
    machine.give_apt(user=1000)
    machine.give("fc-list", "echo WenQuanYi Micro Hei")
    result = machine.run("tools/browser.sh")
    assert result.returncode == 1
    assert "apt-get install chromium" in result.stderr
    assert machine.asked_apt == ""


def test_an_older_python_is_refused_with_advice(machine: Machine, tmp_path: Path) -> None:
    machine.give("python3", 'if [[ $1 == --version ]]; then echo "Python 3.9.2"; else exit 1; fi')
    result = machine.run("tools/venv.sh", str(tmp_path / "venv"))
    assert result.returncode == 1
    assert "needs Python 3.11 or newer; found: Python 3.9.2" in result.stderr
    assert "make PYTHON=" in result.stderr


def test_a_newer_python_is_found_behind_an_older_python3(machine: Machine, tmp_path: Path) -> None:
    machine.give("python3", "exit 1")
    machine.give(
        "python3.12",
        f'if [[ $1 == -m ]]; then echo made > "{tmp_path}/made"; fi',
    )
    result = machine.run("tools/venv.sh", str(tmp_path / "venv"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "made").exists()


def test_a_missing_venv_module_asks_for_its_package(machine: Machine, tmp_path: Path) -> None:
    machine.give_apt()
    machine.give("python3", "if [[ $2 == *ensurepip* ]]; then exit 1; fi")
    result = machine.run("tools/venv.sh", str(tmp_path / "venv"))
    assert result.returncode == 0, result.stderr
    assert "python3-venv" in machine.asked_apt


def test_the_machines_own_npm_is_used_where_it_has_one(machine: Machine) -> None:
    machine.give("node")
    machine.give("npm", 'echo "npm $*"')
    result = machine.run("tools/npm.sh", "ci", "--loglevel=error")
    assert result.stdout == "npm ci --loglevel=error\n"
