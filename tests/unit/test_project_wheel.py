"""The wheel carries what an installed Trivium reads, and nothing of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.tree import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked far from the checkout, as an installer leaves it."""
    folder = tmp_path_factory.mktemp("installed")
    wheel.extractall(folder)
    return folder


def run_installed(installed: Path, code: str) -> None:
    """Run code that imports Trivium from the unpacked wheel and not from the checkout."""
    guard = f"import broker; assert broker.__file__.startswith({str(installed)!r}); "
    result = subprocess.run(
        [sys.executable, "-c", guard + code],
        cwd=installed,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def copied(folder: str, into: str) -> set[str]:
    """Names in the wheel of every file that the checkout has in a folder."""
    root = ROOT / folder
    return {
        f"{into}/{path.relative_to(root).as_posix()}"
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    ("folder", "into"),
    [("templates", "broker/_templates"), ("examples", "broker/_examples")],
)
def test_the_wheel_carries_a_folder_inside_the_package(
    wheel: zipfile.ZipFile, folder: str, into: str
) -> None:
    expected = copied(folder, into)
    assert expected
    assert expected <= set(wheel.namelist())


def test_an_installed_wheel_finds_its_calibration(installed: Path) -> None:
    run_installed(
        installed, "from broker.engines.simulated import load_calibration; load_calibration()"
    )


def test_the_wheel_carries_the_console_libraries(wheel: zipfile.ZipFile) -> None:
    vendor = "broker/web/console/static/vendor"
    carried = {Path(name).name for name in wheel.namelist() if name.startswith(vendor)}
    assert {"htmx.min.js", "sse.min.js", "uPlot.iife.min.js", "uPlot.min.css"} <= carried
    novnc = {name.removeprefix(f"{vendor}/novnc/") for name in wheel.namelist()}
    assert {"core/rfb.js", "vendor/pako/LICENSE", "LICENSE.txt"} <= novnc


def test_the_wheel_carries_the_licence_and_no_tests(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "tools/", "requirements/"))]
    assert not [name for name in names if "__pycache__" in name]


def test_every_declared_entry_point_loads_from_an_installed_wheel(installed: Path) -> None:
    (file,) = installed.glob("*.dist-info/entry_points.txt")
    declared = ConfigParser()
    declared.read_string(file.read_text("utf-8"))
    targets = {name: value for section in declared.values() for name, value in section.items()}
    assert {"trivium", "trivium-agent", "simulated"} <= targets.keys()
    for target in targets.values():
        module, function = target.split(":")
        # an engine whose extra is not installed says so
        run_installed(
            installed,
            "from broker.domain.errors import ConfigError\n"
            f"try:\n    import {module}; {module}.{function}\n"
            "except ConfigError as error:\n    assert 'install trivium[' in str(error)",
        )


def test_an_installed_console_has_its_templates_and_libraries(installed: Path) -> None:
    run_installed(
        installed,
        "from broker.web.console.static_files import StaticFiles; "
        "assert not StaticFiles().missing(), StaticFiles().missing(); "
        "from broker.web.console import build_console; build_console()",
    )


def test_an_installed_campaign_finds_the_template_of_its_report(installed: Path) -> None:
    run_installed(
        installed,
        "from loadtests.report import FOLDERS; "
        "folder = next(one for one in FOLDERS if one.is_dir()); "
        "assert (folder / 'report.html.j2').is_file()",
    )
