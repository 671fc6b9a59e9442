"""Runs the campaign harness as a process of its own against tests.support.fake_api."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadtests.cast import write_cast
from loadtests.evidence import REPORT_JSON, SESSIONS_FILE
from loadtests.records import SessionRecord, read_sessions
from loadtests.result import Report, decode_report
from tests.support.campaigns import cast_of
from tests.support.fake_api import TOKEN

ROOT = Path(__file__).resolve().parents[2]
POOLS = {"maths": ["vdi", 12], "art": ["idv", 12], "lab": ["voi", 12]}
RECIPE = (
    *("--seed", "5", "--sessions", "20", "--arrivals", "ramp", "--window-s", "3"),
    *("--work-s", "0.3:0.8", "--think-s", "0.2", "--browser-share", "0.4"),
)
SMALL = (*RECIPE, "--live-s", "8", "--end-s", "2", "--settle-s", "3")
"""options of a campaign of about six seconds"""
DEADLINE_S = 90


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def fake_broker(knobs: Mapping[str, Any] | None = None) -> Iterator[tuple[str, int]]:
    """(address, process id) of a running fake broker."""
    asked = json.dumps({"pools": POOLS, **(knobs or {})})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fake_api", asked],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.kill()
        process.communicate()


def prepared_cast(folder: Path, url: str, token: str | None = TOKEN) -> Path:
    path = folder / "cast.json"
    write_cast(path, msgspec.structs.replace(cast_of(url=url), token=token))
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "loadtests", *arguments]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A finished campaign: exit code, what was printed line by line, and its folder."""

    code: int
    lines: list[dict[str, Any]]
    folder: Path
    errors: str

    @property
    def report(self) -> Report:
        return decode_report((self.folder / REPORT_JSON).read_bytes())

    @property
    def sessions(self) -> tuple[SessionRecord, ...]:
        return read_sessions(self.folder / SESSIONS_FILE)


def campaign(
    folder: Path,
    url: str,
    *options: str,
    token: str | None = TOKEN,
    variables: Mapping[str, str] | None = None,
) -> Ran:
    """Plans and runs a SMALL campaign with `options` to its end."""
    out = folder / "out"
    cast = prepared_cast(folder, url, token)
    done = subprocess.run(
        command("run", "--json", "--cast", str(cast), "--out", str(out), *SMALL, *options),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=folder,
        env={**environment(), **(variables or {})},
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return Ran(code=done.returncode, lines=lines, folder=out, errors=done.stderr)
