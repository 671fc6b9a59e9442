"""docs/cli.md names every command and every code of the command line, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from broker.cli.root import root

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text("utf-8")


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, *rest) for rest in commands(command, context))
        else:
            yield (name,)


def test_every_command_is_documented() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    with click.Context(root) as context:
        for words in commands(root, context):
            row = [line for line in rows if re.search(rf"`{words[0]}[ `]", line)]
            told = " ".join(line.split("|")[1] for line in row)
            assert row, words
            assert re.search(rf"(?<![\w-]){words[-1]}(?![\w-])", told), words


def test_every_code_is_documented_and_exists() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "broker/cli").glob("*.py"))
    used = set(re.findall(r'code="(cli\.\w+)"', source))
    assert set(re.findall(r"^\| `(cli\.\w+)`", PAGE, re.MULTILINE)) == used
