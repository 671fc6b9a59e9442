"""SQLite databases as files: one takes the place of another."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from broker.store.sql.engine import parse_url

_BESIDE: Final = ("-wal", "-shm")
"""endings of the files that SQLite keeps beside a database"""


def database_file(address: str) -> Path | None:
    """The database's file; None where the database is no SQLite file. Raises ConfigError."""
    url = parse_url(address)
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def remove_database(path: Path) -> None:
    for ending in ("", *_BESIDE):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def take_place(fresh: Path, path: Path, aside: Path) -> None:
    """Give `fresh` the place of the database at `path`, which stays under the name `aside`.

    Nobody may have either open. The old one is not opened, for it may be damaged: the log that
    a crash left beside it goes with it. Without such a log, and where the file system has hard
    links, there is a whole database at `path` at every instant.
    """
    _settle(fresh)
    try:
        os.link(path, aside)
    except OSError:
        # a file system without second names
        path.rename(aside)
    for ending in _BESIDE:
        beside = path.with_name(path.name + ending)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + ending))
    fresh.replace(path)


def _settle(path: Path) -> None:
    """Work the log into the file: closing the last connection then removes it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
