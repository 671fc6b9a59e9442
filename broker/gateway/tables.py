"""Text for a stranger's terminal: printable characters only, in columns that fit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.limits import SSH_ROWS_MAX

CELL_CHARS_MAX: Final = 200
LONG_CELL_CHARS_MAX: Final = 1200
"""of a cell that holds sentences, or a message to a person"""
NARROW_IT: Final = "narrow it down"
_WHOLE: Final = frozenset({"id", "session"})
"""columns that are never broken"""


def plain(text: str, limit: int = CELL_CHARS_MAX) -> str:
    """Printable characters only, cut to `limit`: no controls, no escapes, no direction marks."""
    shown = (" " if one.isspace() else one for one in text[: 2 * limit])
    return "".join(one for one in shown if one.isprintable())[:limit]


def table(
    width: int,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    chars_max: int = CELL_CHARS_MAX,
    cut: str = NARROW_IT,
) -> str:
    """Columns as wide as their text, ids never broken; no colours, no control codes.

    `width` in columns; `chars_max` of each cell; `cut` is the advice where rows are left out.
    """
    if not rows:
        return "None.\n"
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in head:
        made.add_column(name, no_wrap=name in _WHOLE, overflow="ellipsis")
    for row in rows[:SSH_ROWS_MAX]:
        made.add_row(*(Text(plain(cell, chars_max)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False).print(made)
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    if len(rows) >= SSH_ROWS_MAX:
        text += f"Only the first {SSH_ROWS_MAX}; {cut}.\n"
    return text
