"""What commands print: tables and marks for people, JSON for programs.

With --json stdout carries one JSON document and nothing else; everything said beside it goes to
stderr, in both modes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Command = TypeVar("Command", bound=Callable[..., Any])

WIDTH_OF_PIPES: Final = 1000
"""columns when the output is no terminal, so that nothing is cut for a program that reads it"""

STATE_STYLES: Final[Mapping[str, str]] = {
    "ready": "green",
    "active": "green",
    "online": "green",
    "up": "green",
    "finished": "green",
    "succeeded": "green",
    "pass": "bold green",
    "assigned": "cyan",
    "delivering": "cyan",
    "running": "cyan",
    "starting": "cyan",
    "creating": "cyan",
    "resetting": "cyan",
    "ending": "cyan",
    "suspending": "cyan",
    "resuming": "cyan",
    "parking": "cyan",
    "unparking": "cyan",
    "powering_on": "cyan",
    "powering_off": "cyan",
    "parked": "yellow",
    "maintenance": "yellow",
    "queued": "yellow",
    "disconnected": "yellow",
    "draining": "yellow",
    "offline": "yellow",
    "unavailable": "yellow",
    "failed": "bold red",
    "fail": "bold red",
    "down": "bold red",
}


def clean(value: object) -> str:
    """Text from outside, safe to print: no control characters, no markup of ours."""
    text = "" if value is None else str(value)
    visible = (char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    return escape("".join(visible))


def state(value: object) -> str:
    """A state, coloured."""
    text = clean(value)
    style = STATE_STYLES.get(text)
    return f"[{style}]{text}[/]" if style else text


def when(value: object, *, zone: bool = False) -> str:
    """An RFC 3339 time as local date and time, with the zone's name if asked for; other text as
    it is."""
    if not isinstance(value, str):
        return ""
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return clean(value)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z" if zone else "%Y-%m-%d %H:%M:%S")


def name_of(value: object) -> str:
    """The name within an API reference such as {"id": …, "name": …}; "" for null."""
    if isinstance(value, Mapping):
        return clean(value.get("name") or value.get("username") or value.get("id"))
    return clean(value)


def listed(values: object, *, most: int = 4) -> str:
    """The first few of a list of names, and how many more."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return clean(values)
    more = f" +{len(values) - most}" if len(values) > most else ""
    return clean(", ".join(str(value) for value in values[:most])) + more


def short_path(path: Path) -> str:
    """The path from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@dataclass(slots=True)
class Output:
    """How this run of a command prints."""

    as_json: bool = False
    traceback: bool = False

    @classmethod
    def current(cls) -> Output:
        """The one of the command that runs, or the default outside of any."""
        context = click.get_current_context(silent=True)
        found = context.find_object(Output) if context is not None else None
        return found if found is not None else cls()

    @property
    def out(self) -> Console:
        return self._console(sys.stdout)

    def err(self, file: IO[Any] | None = None) -> Console:
        return self._console(file or sys.stderr)

    @staticmethod
    def _console(file: IO[Any]) -> Console:
        width = None if file.isatty() else WIDTH_OF_PIPES
        return Console(file=file, width=width, highlight=False, soft_wrap=True)

    def document(self, value: object) -> None:
        """The JSON document of a command."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))

    def say(self, text: str) -> None:
        """A message beside the output; markup is ours, so clean what comes from outside."""
        self.err().print(text)

    def done(self, text: str) -> None:
        self.say(f"[green]✓[/] {text}")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()
    ) -> None:
        """A table on stdout. Cells are markup; `numbers` names the columns set to the right."""
        made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for column in columns:
            right = column in numbers
            made.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            made.add_row(*row)
        # Without soft wrapping, so that a narrow terminal folds cells and not lines.
        self.out.print(made, soft_wrap=False)

    def fields(self, pairs: Sequence[tuple[str, str]]) -> None:
        """One record on stdout: a line for each field that has a value. Values are markup."""
        made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        made.add_column(style="dim", no_wrap=True)
        made.add_column(overflow="fold")
        for name, value in pairs:
            if value != "":
                made.add_row(name, value)
        self.out.print(made, soft_wrap=False)

    def more(self, found: Mapping[str, Any], limit: int) -> None:
        """Say that a list goes on."""
        if found.get("next") is not None:
            self.say(f"[dim]the first {limit}; --limit shows more[/]")

    def problems(self, problems: object, more: object, console: Console) -> None:
        """A roster's bad lines, if there are any."""
        if not isinstance(problems, Sequence) or not problems:
            return
        made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for column, right in (("file", False), ("line", True), ("column", False)):
            made.add_column(column, justify="right" if right else "left", no_wrap=True)
        made.add_column("problem", overflow="fold")
        for one in problems:
            if isinstance(one, Mapping):
                line = clean(one.get("line") or "")
                field = clean(one.get("field"))
                made.add_row(clean(one.get("file")), line, field, clean(one.get("message")))
        console.print(made, soft_wrap=False)
        if isinstance(more, int) and more > 0:
            console.print(f"  and {more} more")


def json_option(command: Command) -> Command:
    """Adds --json to a command."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's form
        if value:
            context.ensure_object(Output).as_json = True

    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=remember,
        help="Print JSON on stdout, messages on stderr.",
    )(command)


def logged_on(guest: dict[str, Any] | None) -> str:
    """Who is logged on in the desktop, as its agent says."""
    if not guest:
        return ""
    user = clean(guest["user"]) or "nobody"
    idle_s = guest["idle_s"]
    idle = "" if idle_s is None else f", idle for {int(idle_s):,} s"
    failed = f"; policy not laid down: {clean(guest['policy_why'])}"
    return f"{user}{idle}{failed if guest['policy'] == 'failed' else ''}"
