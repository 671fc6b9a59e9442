"""What every `why` command does: the decisions about one thing, newest first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import click

from broker.cli.output import Output, clean, json_option, state, when
from broker.cli.remote import Access, Remote, ask, path_of, remote_options

Find: TypeAlias = Callable[[Remote, str], Awaitable[dict[str, Any]]]

DECISIONS: Final = 50
"""shown unless --limit asks for another number"""


def why_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --limit, the broker's address and --json to a `why` command."""
    limit = click.option(
        "--limit", default=DECISIONS, show_default=True, type=click.IntRange(1, 100_000)
    )
    return limit(remote_options(json_option(command)))


def explain(access: Access, nouns: str, name: str, limit: int, find: Find | None = None) -> None:
    """Print why the one of `nouns` with this name or id is as it is.

    `find` gets the record of that name, where the API takes ids alone.
    """

    async def read(remote: Remote) -> dict[str, Any]:
        ref = name if find is None else str((await find(remote, name))["id"])
        return await remote.page(path_of(nouns, ref, "why"), limit=limit)

    found = ask(access, read)
    output = Output.current()
    if output.as_json:
        output.document(found)
        return
    if not found["items"]:
        output.say("nothing was decided about it yet, or that was too long ago")
        return
    output.table(
        ("at", "what and why", "outcome", "by"),
        [
            (when(one["at"]), _told(one), state(one["outcome"]), clean(one["by"]))
            for one in found["items"]
        ],
    )
    output.more(found, limit)


def _told(one: dict[str, Any]) -> str:
    """The sentence, and below it the reasons one by one."""
    return "\n".join([clean(one["text"]), *(f"  · {clean(text)}" for text in one["reasons"])])
