"""What the documentation takes from the code is as the code says."""

from __future__ import annotations

from pathlib import Path

from broker import architectures
from tools.reference import stale

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_made_from_the_code_are_fresh() -> None:
    assert stale() == [], "run `make docs`"


def test_every_phase_of_every_architecture_is_in_the_map() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for rules in architectures.RULES.values():
        for phase in rules.phases:
            assert f"`{phase.name}`" in page


def test_files_named_in_the_map_exist() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    root = DOCS.parent
    named = {
        word.strip("`")
        for line in page.splitlines()
        if line.startswith("| ")
        for word in line.split()
        if word.startswith("`") and word.rstrip("`,;").endswith((".py", ".toml"))
    }
    missing = [
        one
        for one in sorted(name.rstrip("`,;") for name in named)
        if not any((root / start / one).exists() for start in ("", "broker"))
    ]
    assert not missing
