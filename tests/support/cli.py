"""Runs commands in this process and reads what they print."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from broker.cli.root import root


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout as JSON; fails when it is anything else."""
        return json.loads(self.out)


def run(*words: str, env: dict[str, str] | None = None, stdin: str | None = None) -> Ran:
    """Run `trivium words…` with none of this machine's TRIVIUM_ settings."""
    runner = CliRunner()
    blank: dict[str, str | None] = {"TRIVIUM_URL": None, "TRIVIUM_TOKEN": None}
    result = runner.invoke(root, list(words), env={**blank, **(env or {})}, input=stdin)
    return Ran(code=result.exit_code, out=result.stdout, err=result.stderr)
