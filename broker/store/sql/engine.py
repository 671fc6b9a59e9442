"""From a database address to an engine with our settings."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from broker.domain.errors import ConfigError
from broker.limits import STORE_CONNECT_S, STORE_LOCK_S, STORE_STATEMENT_S

_SQLITE_OLDEST = (3, 35, 0)
"""the first with RETURNING"""


def parse_url(text: str) -> URL:
    """The address as SQLAlchemy takes it, with the driver that we use.

    Raises:
        ConfigError: it is neither `sqlite:///path` nor `postgresql://…`.
    """
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ConfigError("database_url is not an address of a database") from error
    if url.drivername in {"postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise ConfigError(f"database_url: {url.drivername!r} is neither sqlite nor postgresql")
    if url.host or not url.database or url.database == ":memory:":
        raise ConfigError("database_url: sqlite needs a file (sqlite:///path); or use memory://")
    if sqlite3.sqlite_version_info < _SQLITE_OLDEST:
        raise ConfigError(f"SQLite {sqlite3.sqlite_version} is older than 3.35")
    return url


def make_engine(url: URL, *, read_only: bool = False) -> sa.Engine:
    """An engine whose connections commit each statement unless they have said BEGIN.

    Nothing is pooled here: each thread of the runner keeps the one connection it opened.
    """
    if url.get_backend_name() == "sqlite":
        arguments: dict[str, Any] = {"timeout": STORE_LOCK_S, "check_same_thread": False}
        engine = _create(url, arguments)
        sa.event.listen(engine, "connect", _sqlite_settings(read_only=read_only))
        return engine
    arguments = {"connect_timeout": STORE_CONNECT_S, "application_name": "trivium"}
    if "options" not in url.query:
        arguments["options"] = (
            f"-c statement_timeout={STORE_STATEMENT_S * 1000}"
            f" -c lock_timeout={STORE_LOCK_S * 1000}"
            f" -c idle_in_transaction_session_timeout={STORE_STATEMENT_S * 1000}"
            # Every statement has its index. A plan made while a table is young would scan it,
            # and a prepared statement keeps its plan until the statistics are made anew.
            " -c enable_seqscan=off -c jit=off"
        )
    return _create(url, arguments)


def _create(url: URL, arguments: dict[str, Any]) -> sa.Engine:
    return sa.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=NullPool, connect_args=arguments
    )


def _sqlite_settings(*, read_only: bool) -> Callable[[sqlite3.Connection, object], None]:
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        # WAL lets readers go on beside the writer; FULL keeps what was acknowledged when the
        # power goes, not only when the process does
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "trusted_schema = OFF",
            f"query_only = {'ON' if read_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return set_up


def prepare_file(url: URL) -> None:
    """Make the SQLite file, readable by its owner alone (it holds password hashes).

    Raises:
        ConfigError: its directory does not exist or does not let us.
    """
    path = Path(url.database or "")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigError(f"database_url: cannot open or make {path.name!r}") from error
