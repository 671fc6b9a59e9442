"""What the database is asked, and how it would find the answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa


@contextmanager
def statements() -> Iterator[dict[str, Any]]:
    """Every statement that runs meanwhile, with one set of its parameters."""
    seen: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, text: str, parameters: Any, _context: Any, many: bool) -> None:
        seen[text] = parameters[0] if isinstance(parameters, list) else parameters

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def steps(url: str, seen: dict[str, Any]) -> list[tuple[str, str]]:
    """(statement, step) of every plan."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    found = [
        (text, row[3])
        for text, parameters in seen.items()
        if text.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
        for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters).fetchall()
    ]
    connection.close()
    return found


def scanned(step: str) -> str | None:
    """The table that a step reads from end to end, if it does."""
    words = step.split()
    return words[1] if words[0] == "SCAN" else None
