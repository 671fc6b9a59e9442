"""Brings a database to the schema of this code, and refuses one that is newer.

The steps are Alembic revisions in migrations/versions, forward only. All of them, and the moves
that the lifecycles allow, are one transaction behind one lock, so that any number of processes
may start at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from broker.domain.errors import ConfigError, UnavailableError
from broker.domain.lifecycle import DESKTOP, ENDPOINT, HOST, JOB, SESSION, SNAPSHOT, Lifecycle
from broker.store.sql import tables as t
from broker.store.sql.schema import METADATA, NOTHING

VERSION_TABLE = "schema_version"

_LOCK_NUMBER = 7_283_654_901_127
"""PostgreSQL's advisory lock for migrations; any number that nobody else uses"""

# Alembic hands the connection to its steps through module-level proxies.
_alembic = threading.Lock()


def _config(connection: sa.Connection | None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "broker.store.sql:migrations")
    return config


def script_directory() -> ScriptDirectory:
    """The steps that this code knows."""
    return ScriptDirectory.from_config(_config(None))


def current_version(connection: sa.Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def bring_up_to_date(connection: sa.Connection, *, migrate: bool) -> None:
    """Migrate, if allowed, and fill the tables of moves.

    Raises:
        ConfigError: the database is newer than this code, belongs to something else, is older
            and `migrate` is False, or is set up in a way that we cannot use.
    """
    _check_server(connection)
    script = script_directory()
    if not migrate and current_version(connection) != script.get_current_head():
        _check_known(script, current_version(connection))
        raise ConfigError("the database has an older schema; run `trivium db migrate`")
    driver = connection.connection.driver_connection
    if driver is None:
        raise UnavailableError("the database does not answer")
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        # a table is made anew to change it; what refers to it is held against it at the end
        driver.execute("PRAGMA foreign_keys = OFF")
    try:
        driver.execute("BEGIN IMMEDIATE" if sqlite else "BEGIN")
        try:
            if not sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_NUMBER))).all()
            stepped = _upgrade(connection, script)
            fill_moves(connection)
            if stepped and sqlite:
                _check_references(connection)
        except BaseException:
            driver.rollback()
            raise
        driver.commit()
    finally:
        if sqlite:
            driver.execute("PRAGMA foreign_keys = ON")


def _check_references(connection: sa.Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        raise ConfigError(f"the database has {len(broken)} rows that refer to nothing")


def _upgrade(connection: sa.Connection, script: ScriptDirectory) -> bool:
    """Run the steps that are missing; False when there are none."""
    version = current_version(connection)
    if version == script.get_current_head():
        return False
    if version is None:
        ours = set(METADATA.tables) & set(sa.inspect(connection).get_table_names())
        if ours:
            raise ConfigError("the database holds tables of something else; give Trivium its own")
    _check_known(script, version)
    with _alembic:
        command.upgrade(_config(connection), "head")
    return True


def _check_known(script: ScriptDirectory, version: str | None) -> None:
    try:
        if version is not None:
            script.get_revision(version)
    except CommandError as error:
        raise ConfigError(
            f"the database has schema {version}, which is newer than this Trivium; update it"
        ) from error


def _check_server(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise ConfigError(f"the database's encoding is {encoding}; Trivium needs UTF8")
    elif connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
        raise ConfigError("SQLite cannot use write-ahead logging there; use a local disk")


def moves() -> Mapping[sa.Table, set[tuple[str, str]]]:
    """(prior_state, state) for each noun; a new row comes from NOTHING."""
    lifecycles: dict[sa.Table, Lifecycle[Any, Any]] = {
        t.desktop_moves: DESKTOP,
        t.session_moves: SESSION,
        t.endpoint_moves: ENDPOINT,
        t.job_moves: JOB,
        t.host_moves: HOST,
        t.snapshot_moves: SNAPSHOT,
    }
    return {
        table: {(NOTHING, state.value) for state in lifecycle.first}
        | {(prior.value, state.value) for prior, state in lifecycle.edges()}
        for table, lifecycle in lifecycles.items()
    }


def fill_moves(connection: sa.Connection) -> None:
    """Add the moves that this code's lifecycles allow.

    None is taken away: rows of the past may stand on it, and during an update brokers of the
    older code still make it.
    """
    for table, wanted in moves().items():
        known = {(row[0], row[1]) for row in connection.execute(sa.select(table)).all()}
        rows = [{"prior_state": prior, "state": state} for prior, state in sorted(wanted - known)]
        if rows:
            connection.execute(sa.insert(table), rows)
