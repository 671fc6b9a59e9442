"""Mutation testing of broker/domain with mutmut: `python -m tools.mutants [MODULE …]`.

Works in a temporary copy that holds the domain, the limits and the unit tests that need nothing
else of the broker, so no file of mutmut's comes into the tree. Prints the score of each module: the
share of mutants that some test notices. A mutant that changes nothing anybody could see counts
against the score, too, and so does one in a function that runs while its module is imported: the
mutant is chosen when the function is called. Exits 1 when the whole score is below GOAL, or when
the tests fail without any mutant.

MODULE: a part of a module's name, such as `planning` or `domain.calendar`; without it, all.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.85
"""share of mutants that must be noticed"""
WORKERS = 2
ALLOWED = ("broker.domain", "broker.limits")
"""what a test may import of the broker to be one of the domain's"""
SUPPORT = ("builders", "planning", "policies", "roster_files")
"""modules of tests/support that need nothing but the domain"""
UNNOTICED = frozenset({None, 0, 5, 33})
"""mutmut's exit codes of a mutant: 0 survived; 5 and 33: no test runs it; None: not tried"""

SETTINGS = """
[tool.mutmut]
source_paths = ["broker"]
only_mutate = {only}
also_copy = ["tests"]
pytest_add_cli_args = [
    "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:unraisableexception",
    "-p", "no:threadexception", "--assert=plain",
]
pytest_add_cli_args_test_selection = ["tests/unit"]
use_git_change_detection = false
track_dependencies = false
timeout_constant = 2.0
timeout_multiplier = 8.0

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
asyncio_default_fixture_loop_scope = "function"
"""

CONFTEST = '''
"""Few examples of each property, always the same ones: a mutant is tried many thousand times."""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "mutants",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutants")
'''


def imports(path: Path) -> Iterator[str]:
    """Everything that this file imports, with its module's name in front."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def is_of_the_domain(path: Path) -> bool:
    """Whether a test file imports the domain, and nothing else of ours."""
    ours = [
        name
        for name in imports(path)
        if name.split(".")[0] in {"broker", "agents", "loadtests", "tools", "tests", "examples"}
    ]
    support = tuple(f"tests.support.{name}." for name in SUPPORT)
    others = [name for name in ours if not name.startswith(support)]
    return bool(others) and all(name.startswith(ALLOWED) for name in others)


def domain_tests() -> list[Path]:
    return [path for path in sorted((ROOT / "tests/unit").glob("*.py")) if is_of_the_domain(path)]


def fill(place: Path, parts: Iterable[str]) -> None:
    """Make the copy in which mutmut works."""
    for package in ("broker/domain", "broker/limits"):
        shutil.copytree(
            ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("broker/__init__.py", "tests/__init__.py"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    (place / "tests/support").mkdir()
    for name in ("__init__", *SUPPORT):
        shutil.copy(ROOT / f"tests/support/{name}.py", place / "tests/support")
    (place / "tests/unit").mkdir()
    for path in domain_tests():
        shutil.copy(path, place / "tests/unit")
    (place / "tests/conftest.py").write_text(CONFTEST, encoding="utf-8")
    (place / "pyproject.toml").write_text(
        SETTINGS.format(only=json.dumps(list(patterns(place, parts)))), encoding="utf-8"
    )


def patterns(place: Path, parts: Iterable[str]) -> Iterator[str]:
    """Files to mutate: those whose dotted name has one of these parts in it."""
    wanted = tuple(parts)
    for path in sorted((place / "broker/domain").rglob("*.py")):
        name = path.relative_to(place).as_posix()
        if not wanted or any(part in name[:-3].replace("/", ".") for part in wanted):
            yield name


def results(place: Path) -> Iterator[tuple[str, str, int | None]]:
    """(module, mutant, mutmut's exit code for it)."""
    for path in sorted((place / "mutants/broker/domain").rglob("*.py.meta")):
        module = path.relative_to(place / "mutants").as_posix()[: -len(".py.meta")]
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        for mutant, code in codes.items():
            yield module.replace("/", "."), mutant, code


def report(found: Iterable[tuple[str, str, int | None]]) -> bool:
    """Print the score of each module; whether the whole reaches the goal."""
    total: Counter[str] = Counter()
    noticed: Counter[str] = Counter()
    for module, _, code in found:
        total[module] += 1
        noticed[module] += code not in UNNOTICED
    for module in sorted(total):
        share = noticed[module] / total[module]
        sys.stdout.write(f"{module:<44}{noticed[module]:>6}/{total[module]:<6}{share:>7.1%}\n")
    if not total:
        sys.stdout.write("there was nothing to mutate\n")
        return False
    score = noticed.total() / total.total()
    sys.stdout.write(f"{'all':<44}{noticed.total():>6}/{total.total():<6}{score:>7.1%}")
    sys.stdout.write(f"  (goal {GOAL:.0%})\n")
    return score >= GOAL


def try_all(place: Path, workers: int) -> bool:
    """Let mutmut try every mutant; False if it could not, with its words on stdout.

    Its progress is shown at a terminal only: elsewhere it would be thousands of lines.
    """
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers)]
    quiet = None if sys.stdout.isatty() else subprocess.PIPE
    done = subprocess.run(  # noqa: S603 - our own words
        command, cwd=place, check=False, stdout=quiet, text=True
    )
    if done.returncode:
        sys.stdout.write("".join(line for line in _lines(done.stdout) if "\r" not in line))
        sys.stdout.write("mutmut gave up before it tried a mutant: see above\n")
        return False
    return _all_tests_run(place / "mutants")


def _lines(text: str | None) -> list[str]:
    return [] if text is None else text.splitlines(keepends=True)


def _all_tests_run(place: Path) -> bool:
    """Whether pytest finds each test by the name that mutmut has of it: it takes one that is not
    found for a test that noticed the mutant."""
    stats = json.loads((place / "mutmut-stats.json").read_text(encoding="utf-8"))
    tests = sorted(stats["duration_by_test"])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-qqq"]
    found = subprocess.run(  # noqa: S603 - our own words
        [*command, *tests], cwd=place, check=False, capture_output=True, text=True
    )
    if found.returncode:
        sys.stdout.write(f"{found.stderr}pytest does not find each test by its name: see above\n")
    return not found.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation testing of broker/domain.")
    parser.add_argument("module", nargs="*", help="part of a module's name; without it, all")
    parser.add_argument("--survivors", action="store_true", help="list mutants nobody noticed")
    parser.add_argument(
        "--workers", type=int, default=WORKERS, help="mutants tried at once (default: %(default)s)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        fill(place, options.module)
        if not list(patterns(place, options.module)):
            parser.error(f"no module's name has {' or '.join(options.module)} in it")
        if not try_all(place, options.workers):
            return 1
        found = list(results(place))
        if options.survivors:
            survivors = (mutant for _, mutant, code in found if code in UNNOTICED)
            sys.stdout.writelines(_differences(place, survivors))
    return 0 if report(found) else 1


def _differences(place: Path, mutants: Iterable[str]) -> Iterator[str]:
    """What each mutant changes: its name, the old line and the new one."""
    with contextlib.chdir(place):
        for mutant in mutants:
            changed = [
                line
                for line in get_diff_for_mutant(mutant).splitlines()
                if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
            ]
            yield "\n".join([f"# {mutant}", *changed, ""])


if __name__ == "__main__":
    sys.exit(main())
