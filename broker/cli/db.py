"""`trivium db`: the database's schema, its health, and the lifecycles as diagrams."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import click

from broker.cli.consistency import contradictions
from broker.cli.errors import CommandError
from broker.cli.output import Output, clean, json_option, short_path
from broker.cli.settings import setting_options
from broker.config import Config, hide_password, load
from broker.domain.errors import ConfigError, ConflictError
from broker.domain.lifecycle import DESKTOP, ENDPOINT, JOB, SESSION, SNAPSHOT, Lifecycle
from broker.limits import PAGE_LIMIT_MAX
from broker.ports import Page, PageQuery, Store
from broker.store import open_store
from broker.store.sql.inspection import Inspection, inspect_database

Item = TypeVar("Item")

LIFECYCLES: Final[dict[str, Lifecycle[Any, Any]]] = {
    lifecycle.noun: lifecycle for lifecycle in (DESKTOP, SESSION, ENDPOINT, JOB, SNAPSHOT)
}
SECOND_LOOK_S: Final = 1.0
"""before what looks wrong is read again: a running broker may have been between two rows"""


@click.group()
def db() -> None:
    """Migrate and check the database, draw the lifecycles."""


@db.command()
@setting_options
@json_option
def migrate(**flags: str | None) -> None:
    """Bring the database to this version's schema; a new one is made."""
    config = load(os.environ, flags)
    before = _inspect(config)
    config.data.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def open_and_close() -> None:
        store = open_store(config.database_url)
        await store.open()
        await store.close()

    if before.backend != "memory":
        asyncio.run(open_and_close())
    output = Output.current()
    if output.as_json:
        output.document({"before": before.current, "now": before.newest})
    elif before.up_to_date:
        output.done(f"the schema is at {before.newest} already")
    else:
        output.done(f"the schema went from {before.current or 'nothing'} to {before.newest}")


@db.command()
@setting_options
@json_option
def status(**flags: str | None) -> None:
    """Show which database is used and at which schema it is. Exit code 1 if it must be migrated."""
    config = load(os.environ, flags)
    found = _inspect(config)
    word = _standing(found)
    output = Output.current()
    if output.as_json:
        output.document(
            {
                "backend": found.backend,
                "address": hide_password(config.database_url),
                "schema": found.current,
                "newest": found.newest,
                "standing": word,
            }
        )
    else:
        output.fields(
            (
                ("database", clean(found.backend)),
                ("address", clean(hide_password(config.database_url))),
                ("data directory", clean(short_path(config.data))),
                ("schema", clean(found.current or "none yet")),
                ("this version's", clean(found.newest)),
                ("standing", f"[{'green' if found.up_to_date else 'yellow'}]{word}[/]"),
            )
        )
    _refuse_if_old(found, word)


@db.command()
@setting_options
@json_option
def check(**flags: str | None) -> None:
    """Look for damage and contradictions; nothing is changed. May run beside a broker."""
    config = load(os.environ, flags)
    found = inspect_database(config.database_url, deep=True)
    _refuse_if_old(found, _standing(found))
    problems = [*found.faults, *asyncio.run(_contradictions(config))]
    output = Output.current()
    if output.as_json:
        output.document({"problems": problems})
    for problem in [] if output.as_json else problems:
        output.out.print(f"[bold red]✗[/] {clean(problem)}")
    if problems:
        raise CommandError(
            f"The database has {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            advice="Keep a copy, then report what is named above.",
            code=ConflictError.code,
        )
    if not output.as_json:
        output.done("no damage and no contradiction")


@db.command()
@click.argument("noun", required=False, type=click.Choice(list(LIFECYCLES)))
def diagram(noun: str | None) -> None:
    """Print the lifecycles as Mermaid text: one, or all."""
    for name, lifecycle in LIFECYCLES.items():
        if noun is None:
            click.echo(f"%% {name}")
        if noun in {None, name}:
            click.echo(lifecycle.mermaid())


def _inspect(config: Config) -> Inspection:
    if config.database_url.startswith("memory:"):
        return Inspection(backend="memory", current="–", newest="–", known=True)
    return inspect_database(config.database_url)


def _standing(found: Inspection) -> str:
    if found.up_to_date:
        return "up to date"
    if not found.known:
        return "newer than this Trivium"
    return "to be migrated" if found.current else "not made yet"


def _refuse_if_old(found: Inspection, word: str) -> None:
    """Raises CommandError unless this code and the database fit."""
    if found.up_to_date:
        return
    advice = "`trivium db migrate` makes it ready." if found.known else "Update Trivium."
    raise CommandError(
        "The database does not fit this Trivium",
        detail=f"its schema is {word}",
        advice=advice,
        code=ConfigError.code,
    )


async def _contradictions(config: Config) -> list[str]:
    store = open_store(config.database_url, migrate=False)
    await store.open()
    try:
        first = await _look(store)
        if not first:
            return []
        await asyncio.sleep(SECOND_LOOK_S)
        again = set(await _look(store))
        return [one for one in first if one in again]
    finally:
        await store.close()


async def _look(store: Store) -> tuple[str, ...]:
    desktops = await _all(store.desktops.desktops)
    sessions = await _all(store.sessions.sessions, live="true")
    return contradictions(desktops, sessions)


async def _all(read: Callable[[PageQuery], Awaitable[Page[Item]]], **filters: str) -> list[Item]:
    found: list[Item] = []
    after: str | None = None
    while True:
        page = await read(PageQuery(limit=PAGE_LIMIT_MAX, after=after, filters=filters))
        found += page.items
        after = page.next_after
        if after is None:
            return found
