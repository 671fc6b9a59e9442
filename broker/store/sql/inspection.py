"""Looking at a database without changing it: its schema's version, and damage to its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from broker.domain.errors import UnavailableError
from broker.store.sql.engine import make_engine, parse_url
from broker.store.sql.faults import DRIVER_ERRORS
from broker.store.sql.migrate import current_version, script_directory

FAULTS_MAX: Final = 20
"""damages of one kind that are named"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """`current` None: there is no database yet, or an empty one. `known`: this code's steps lead
    to or from `current`. `faults`: what SQLite finds damaged; PostgreSQL watches over its own."""

    backend: str
    current: str | None
    newest: str
    known: bool
    faults: tuple[str, ...] = ()

    @property
    def up_to_date(self) -> bool:
        return self.current == self.newest


def inspect_database(address: str, *, deep: bool = False) -> Inspection:
    """Look at the database; with `deep` at all of its file too. Blocks: run it on a thread.

    Raises:
        ConfigError: the address is none. UnavailableError: nothing answers there.
    """
    url = parse_url(address)
    backend = url.get_backend_name()
    engine = make_engine(url, read_only=True)
    script = script_directory()
    newest = str(script.get_current_head())
    if backend == "sqlite" and not Path(str(url.database)).exists():
        # Connecting would make the file.
        return Inspection(backend=backend, current=None, newest=newest, known=True)
    try:
        with engine.connect() as connection:
            current = current_version(connection)
            steps = {str(step.revision) for step in script.walk_revisions()}
            return Inspection(
                backend=backend,
                current=current,
                newest=newest,
                known=current is None or current in steps,
                faults=_faults(connection) if deep and backend == "sqlite" else (),
            )
    except DRIVER_ERRORS as error:
        raise UnavailableError("the database does not answer, or is not one") from error
    finally:
        engine.dispose()


def _faults(connection: sa.Connection) -> tuple[str, ...]:
    damage = connection.exec_driver_sql(f"PRAGMA integrity_check({FAULTS_MAX})").scalars().all()
    lost = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(FAULTS_MAX)
    return (
        *(str(line) for line in damage if line != "ok"),
        *(f"row {row[1]} of {row[0]} refers to a missing row of {row[2]}" for row in lost),
    )
