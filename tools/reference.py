"""Write the parts of docs/ that are made from the code: lifecycles, errors, settings, limits.

`python -m tools.reference` writes them; `--check` only says which are stale, and a test runs it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import broker.ports  # noqa: F401 - it has errors of its own
from broker import limits
from broker.config import SETTINGS
from broker.domain.errors import every_error
from broker.domain.lifecycle import DESKTOP, ENDPOINT, JOB, SESSION, SNAPSHOT

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Made by `make docs` from the code; do not edit. -->\n\n"


def lifecycles() -> str:
    """docs/lifecycles.md: a diagram and a table for each noun."""
    parts = [
        NOTE,
        "# Lifecycles\n\n",
        "Each noun has one table in `broker/domain/lifecycle.py`: (state, event) → (next state, ",
        "why). What is not in a table is refused, by the code and by a foreign key in the ",
        "database. A transient state has a deadline in its row, so nothing is stuck for ever.\n",
    ]
    for table in (DESKTOP, SESSION, ENDPOINT, JOB, SNAPSHOT):
        parts += [f"\n## {table.noun.capitalize()}\n\n```mermaid\n", table.mermaid(), "```\n\n"]
        if table.transient:
            heading = ", ".join(f"`{state}` → `{to}`" for state, to in table.transient.items())
            parts.append(f"Transient, and heading for: {heading}.\n\n")
        parts.append("| in | when | then | why |\n| --- | --- | --- | --- |\n")
        parts += [
            f"| `{state}` | `{event}` | `{rule.to}` | {rule.why} |\n"
            for (state, event), rule in table.table.items()
        ]
    return "".join(parts)


def errors() -> str:
    """docs/errors.md: every code that an answer may carry."""
    rows = [
        f"| `{kind.code}` | {kind.title} | {kind.advice} |\n"
        for kind in sorted(every_error(), key=lambda one: one.code)
    ]
    return (
        NOTE
        + "# Errors\n\nEvery error is `application/problem+json` with `type`, `title`, `status`, "
        "`detail`, `instance`, `code`, `advice` and `request_id`. The code is stable; the words "
        "are for people.\n\n| code | what happened | what to do |\n| --- | --- | --- |\n"
        + "".join(rows)
    )


def settings() -> str:
    """docs/settings.md: what may be set, and every fixed limit."""
    rows = [f"| `{one.env}` | `{one.default or '–'}` | {one.says} |\n" for one in SETTINGS]
    return (
        NOTE
        + "# Settings and limits\n\nDefault < environment < flag. `trivium check-config` shows "
        "each value and where it comes from; a misspelt `TRIVIUM_…` variable is refused.\n\n"
        "| variable | default | what |\n| --- | --- | --- |\n"
        + "".join(rows)
        + "\n## Limits\n\nFixed in `broker/limits`; names ending in `_S` are seconds.\n"
        + "".join(
            _limits(path)
            for path in sorted(Path(limits.__file__).parent.glob("*.py"))
            if path.name != "__init__.py"
        )
    )


def _limits(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    title = (ast.get_docstring(tree) or "").rstrip(".")
    return f"\n### {title}\n\n| limit | value | what |\n| --- | --- | --- |\n" + "".join(
        f"| `{name}` | {value} | {says} |\n" for name, value, says in _named(tree)
    )


def _named(tree: ast.Module) -> list[tuple[str, object, str]]:
    rows: list[tuple[str, object, str]] = []
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            rows.append((node.target.id, getattr(limits, node.target.id), ""))
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            and rows
        ):
            name, value, _ = rows[-1]
            rows[-1] = (name, value, " ".join(node.value.value.split()))
    return rows


PAGES = {"lifecycles.md": lifecycles, "errors.md": errors, "settings.md": settings}


def stale() -> list[str]:
    """Pages that differ from what the code says."""
    found = []
    for name, make in PAGES.items():
        path = ROOT / "docs" / name
        if not path.exists() or path.read_text(encoding="utf-8") != make():
            found.append(name)
    return found


def main() -> int:
    if "--check" in sys.argv:
        for name in stale():
            sys.stderr.write(f"docs/{name} is stale: run `make docs`\n")
        return 1 if stale() else 0
    for name, make in PAGES.items():
        (ROOT / "docs" / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
