"""What a failing command says, and its exit code.

0: done. 1: it failed. 2: it was called wrongly. 3: the broker cannot be reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import IO, Any, Final

import click

from broker.cli.output import Output, clean
from broker.domain.errors import TriviumError

UNREACHABLE: Final = 3


class CommandError(click.ClickException):
    """A failure as a person or a program is told of it: on stderr, never with a traceback.

    `fields` holds what the code adds, such as a roster's `problems`.
    """

    def __init__(
        self,
        title: str,
        *,
        detail: str = "",
        advice: str = "",
        code: str = "",
        request_id: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(title)
        self.title = title
        self.detail = "" if detail == title else detail
        self.advice = advice
        self.code = code
        self.request_id = request_id
        self.fields = dict(fields or {})
        # click shows an error when the context is gone already.
        self._output = Output.current()

    @classmethod
    def of(cls, error: TriviumError) -> CommandError:
        return cls(
            error.title,
            detail=error.detail,
            advice=error.advice,
            code=error.code,
            fields=error.fields,
        )

    def as_fields(self) -> dict[str, Any]:
        """The error as JSON; empty members are left out."""
        found = {
            "title": self.title,
            "detail": self.detail,
            "advice": self.advice,
            "code": self.code,
            "request_id": self.request_id,
            **self.fields,
        }
        return {name: value for name, value in found.items() if value not in ("", None)}

    def show(self, file: IO[Any] | None = None) -> None:
        if self._output.as_json:
            click.echo(json.dumps({"error": self.as_fields()}, ensure_ascii=False), err=True)
            return
        err = self._output.err(file or sys.stderr)
        err.print(f"[bold red]✗[/] [bold]{clean(self.title)}[/]")
        if self.detail:
            err.print(f"  {clean(self.detail)}")
        self._output.problems(self.fields.get("problems"), self.fields.get("more"), err)
        if self.advice:
            err.print(f"  [cyan]→[/] {clean(self.advice)}")
        trace = " · ".join(
            part
            for part in (
                clean(self.code),
                f"request {clean(self.request_id)}" if self.request_id else "",
            )
            if part
        )
        if trace:
            err.print(f"  [dim]{trace}[/]")


class UnreachableError(CommandError):
    """The broker does not answer, or something else answers in its place."""

    exit_code = UNREACHABLE


def unreachable(url: str, reason: str) -> UnreachableError:
    return UnreachableError(
        f"No broker answers at {url}",
        detail=reason,
        advice="Start one with `trivium serve`, or say where it is: --url or TRIVIUM_URL.",
        code="cli.unreachable",
    )
