"""`trivium backup`: a whole installation into one file, while it serves, and back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

import click

from broker.cli.errors import CommandError
from broker.cli.output import Output, clean, json_option, short_path
from broker.cli.settings import setting_options
from broker.cli.steps import Step, Steps
from broker.config import Config, load
from broker.domain.errors import ConfigError, ConflictError
from broker.ports import BackupStore
from broker.services.backup import Backups, Manifest, Progress, when
from broker.store import open_store
from broker.store.sql.files import database_file, remove_database, take_place
from broker.store.sql.inspection import inspect_database
from broker.system import SystemClock, SystemIds, lock_data

FILE: Final = click.Path(dir_okay=False, path_type=Path)
FILE_THERE: Final = click.Path(dir_okay=False, path_type=Path, exists=True)


@click.group()
def backup() -> None:
    """Back up a whole installation while it serves, check a backup, restore it."""


@backup.command()
@click.argument("path", type=FILE)
@setting_options
@json_option
def create(path: Path, **flags: str | None) -> None:
    """Write everything in the database to PATH, a new file. A broker may be serving meanwhile.

    The file is a secret: it holds password hashes and the installation's own keys.
    """
    config = _with_database(load(os.environ, flags))
    found = inspect_database(config.database_url)
    if not found.up_to_date:
        raise CommandError(
            "The database does not fit this Trivium",
            detail=f"its schema is {found.current or 'not made yet'}, not {found.newest}",
            advice="`trivium db status` says more.",
            code=ConfigError.code,
        )

    async def work(step: Step) -> Manifest:
        async with _backups(config.database_url, migrate=False) as backups:
            return await backups.create(path, lambda told: _note(step, told))

    manifest = _run("backup", work, lambda made: f"{made.rows:,} rows to {short_path(path)}")
    _tell(manifest, path)


@backup.command()
@click.argument("path", type=FILE_THERE)
@setting_options
@json_option
def check(path: Path, **flags: str | None) -> None:
    """Read all of a backup: is it whole, and can this version restore it? Nothing is changed."""
    config = _with_database(load(os.environ, flags))

    async def work(step: Step) -> Manifest:
        return await _check(config, path, step)

    manifest = _run("check", work, lambda found: f"{found.rows:,} rows, all as they were written")
    _tell(manifest, path)


@backup.command()
@click.argument("path", type=FILE_THERE)
@click.option(
    "--replace", is_flag=True, help="Move a SQLite database that is there aside, and keep it."
)
@setting_options
@json_option
def restore(path: Path, *, replace: bool, **flags: str | None) -> None:
    """Fill an empty database from a backup; all of it or nothing. No broker may be running.

    Whatever was given out before works no more: people sign in again, sessions are over,
    machines are made anew. Endpoints keep their keys and come back by themselves.
    """
    config = _with_database(load(os.environ, flags))
    file = database_file(config.database_url)
    if replace and file is None:
        raise CommandError(
            "--replace is for SQLite alone",
            advice="Make a new PostgreSQL database and name it in TRIVIUM_DATABASE_URL.",
            code="cli.replace_postgresql",
        )
    with ExitStack() as stack:
        if file is not None:
            config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.enter_context(closing(lock_data(config.data)))

        async def checked(step: Step) -> Manifest:
            return await _check(config, path, step)

        _run("check", checked, lambda found: f"{found.rows:,} rows, all as they were written")
        if replace and file is not None and file.exists():
            manifest, aside = _replace(file, path)
        else:
            manifest, aside = _fill(config.database_url, path), None
        # it is of the trail that was there before
        config.anchor_file.unlink(missing_ok=True)
    _tell(manifest, path, replaced=aside)


def _fill(address: str, path: Path) -> Manifest:
    async def work(step: Step) -> Manifest:
        async with _backups(address, migrate=True) as backups:
            return await backups.restore(path, lambda told: _note(step, told))

    try:
        return _run("restore", work, lambda made: f"{made.rows:,} rows of {when(made.made_at)}")
    except ConflictError as error:
        raise CommandError(
            "The database is not empty; nothing was changed",
            detail=error.detail,
            advice="--replace moves a SQLite database aside; for PostgreSQL make a new database.",
            code=ConflictError.code,
        ) from error


def _replace(file: Path, path: Path) -> tuple[Manifest, Path]:
    """Fill a database beside the one there, and only then let it take the place."""
    fresh = file.with_name(f"{file.name}.restoring")
    moment = datetime.fromtimestamp(SystemClock().now() / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = file.with_name(f"{file.name}.before-{moment}")
    remove_database(fresh)
    try:
        manifest = _fill(f"sqlite:///{fresh}", path)
        take_place(fresh, file, aside)
    finally:
        remove_database(fresh)
    return manifest, aside


def _with_database(config: Config) -> Config:
    if config.database_url.startswith("memory:"):
        raise CommandError(
            "A broker in memory has nothing to back up or restore",
            advice="Name a database in TRIVIUM_DATABASE_URL, or leave it unset for SQLite.",
            code=ConfigError.code,
        )
    return config


@asynccontextmanager
async def _backups(address: str, *, migrate: bool) -> AsyncIterator[Backups]:
    store = open_store(address, migrate=migrate, connections=1)
    try:
        await store.open()
        yield _of(store.backup)
    finally:
        await store.close()


def _of(store: BackupStore) -> Backups:
    return Backups(store, clock=SystemClock(), ids=SystemIds(), version=_version())


def _version() -> str:
    try:
        return metadata.version("trivium")
    except metadata.PackageNotFoundError:
        # run from a checkout that was not installed
        return "0"


async def _check(config: Config, path: Path, step: Step) -> Manifest:
    # not opened: only its schema's name is asked for
    store = open_store(config.database_url, connections=1)
    try:
        return await _of(store.backup).check(path, lambda told: _note(step, told))
    finally:
        await store.close()


def _note(step: Step, told: Progress) -> None:
    text = f"{told.rows:,} rows [dim]{clean(told.table)}[/]"
    step.note(text, done=told.rows, total=told.rows_total)


def _run(
    name: str, work: Callable[[Step], Awaitable[Manifest]], said: Callable[[Manifest], str]
) -> Manifest:
    async def shown() -> Manifest:
        steps = Steps(Output.current(), SystemClock())
        with steps.shown(), steps.step(name) as step:
            manifest = await work(step)
            step.end(clean(said(manifest)))
            return manifest

    return asyncio.run(shown())


def _tell(manifest: Manifest, path: Path, *, replaced: Path | None = None) -> None:
    output = Output.current()
    seal = f"{manifest.audit_number}:{manifest.audit_seal}" if manifest.audit_number else ""
    if output.as_json:
        output.document(
            {
                "path": str(path),
                "file_bytes": path.stat().st_size,
                "made_at": when(manifest.made_at),
                "made_by": manifest.trivium,
                "schema": manifest.schema,
                "installation_id": manifest.installation_id,
                "audit": {"number": manifest.audit_number, "seal": manifest.audit_seal},
                "tables": {name: one.rows for name, one in manifest.tables.items()},
                "replaced": str(replaced) if replaced is not None else None,
            }
        )
        return
    output.fields(
        (
            ("file", f"{clean(short_path(path))}, {path.stat().st_size / 2**20:,.1f} MiB"),
            ("made", f"{when(manifest.made_at)} by Trivium {clean(manifest.trivium)}"),
            ("schema", clean(manifest.schema)),
            ("installation", clean(manifest.installation_id)),
            ("audit anchor", clean(seal)),
            ("old database", clean(short_path(replaced)) if replaced is not None else ""),
        )
    )
