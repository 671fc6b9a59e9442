"""What all pages of the console have to hold to."""

from __future__ import annotations

import re

from tests.support.tree import ROOT

PART = re.compile(r"<[^>]*\bhx-sync=(?:[^>{]|\{\{.*?\}\}|\{%.*?%\})*>")


def test_nothing_within_a_part_waits_behind_the_parts_own_fetch() -> None:
    """It would be gone with what that replaces, and the press with it."""
    parts = [
        found.group()
        for path in (ROOT / "templates").rglob("*.html")
        for found in PART.finditer(path.read_text("utf-8"))
    ]
    assert len(parts) > 20
    assert [part for part in parts if 'hx-disinherit="hx-sync"' not in part] == []
