"""FIELD=VALUE words on a command line, as a JSON body with settings inside."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

PARTS_MAX = 4
"""steps of one dotted field name"""
NOTHING = "–"


def value_of(text: str) -> Any:
    """JSON where it is JSON (numbers, true, lists), the text itself otherwise."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def assigned(words: Iterable[str]) -> dict[str, Any]:
    """`idle_s=1200 guarantee.cpus=0.5` as {"idle_s": 1200, "guarantee": {"cpus": 0.5}}.

    Raises:
        click.BadParameter: a word without "=", without a name, or one that contradicts another.
    """
    body: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        steps = name.split(".")
        if not equals or not all(steps) or len(steps) > PARTS_MAX:
            raise click.BadParameter(f"{word!r} is not FIELD=VALUE", param_hint="FIELD=VALUE")
        here = body
        for step in steps[:-1]:
            here = here.setdefault(step, {})
            if not isinstance(here, dict):
                raise click.BadParameter(f"{name!r} is given twice", param_hint="FIELD=VALUE")
        here[steps[-1]] = value_of(text)
    return body


def flat(document: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """The fields of a settings document, nested ones by dotted name, values as JSON; an empty
    text as a dash, so that it is seen to be there."""
    rows: list[tuple[str, str]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            rows += flat(value, f"{before}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text = text or NOTHING
            rows.append((f"{before}{name}", text))
    return rows
