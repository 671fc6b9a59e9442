"""Everything out of a database as of one instant, and into an empty one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import URL

from broker.domain.audit import AuditEntry
from broker.domain.errors import BadBackupError, ConflictError, UnavailableError
from broker.limits import EXPORT_BATCH, STORE_STATEMENT_S
from broker.ports import TableDump
from broker.store.sql.audit import insert_entries
from broker.store.sql.dumping import DUMPED, from_rows, table_named, to_row
from broker.store.sql.engine import make_engine
from broker.store.sql.faults import DRIVER_ERRORS, Fault, fault_of
from broker.store.sql.migrate import moves, script_directory
from broker.store.sql.reviving import Reviving
from broker.store.sql.rows import Row, Values
from broker.store.sql.runner import Database, Threads
from broker.store.sql.statements import first

_DAMAGE: Final = {Fault.DUPLICATE, Fault.REFERENCE, Fault.IMPOSSIBLE, Fault.BAD_VALUE}
"""faults of rows that the database's rules refuse"""
_MOVES: Final = frozenset(moves())
"""filled when a database is made; older code's moves are added, for old rows stand on them"""


class SqlBackup:
    """Implements broker.ports.BackupStore."""

    def __init__(self, database: Database, url: URL) -> None:
        self._database = database
        self._url = url

    @property
    def schema(self) -> str:
        return str(script_directory().get_current_head())

    async def dump(self) -> AsyncGenerator[TableDump, None]:
        # A connection of its own: the others go on, and none waits for the one who reads this.
        threads = Threads(make_engine(self._url, read_only=True), threads=1, name="store-dump")
        try:
            await threads.run(self._database.begin_view)
            for table in DUMPED:
                after: Row | None = None
                while True:
                    rows = await threads.run(partial(_batch, table, after))
                    if rows:
                        found = tuple(to_row(table, row) for row in rows)
                        yield TableDump(table=table.name, rows=found)
                    if len(rows) < EXPORT_BATCH:
                        break
                    after = _key(table, rows[-1])
        finally:
            await threads.close()

    async def restore(
        self, parts: AsyncIterator[TableDump], *, entry: AuditEntry, generation_step: int
    ) -> None:
        reviving = Reviving(now=entry.at, step=generation_step)
        source = _Source(parts)

        def work(connection: sa.Connection) -> None:
            _check_empty(connection)
            while (part := source.following()) is not None:
                _fill(connection, part, reviving)
            insert_entries(connection, [entry])

        try:
            await self._database.transaction_once(work)
        finally:
            source.close()


class _Source:
    """Parts that come on the event loop, for a thread that waits for each."""

    def __init__(self, parts: AsyncIterator[TableDump]) -> None:
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._guard = threading.Lock()
        self._awaited: Future[TableDump | None] | None = None
        self._closed = False

    def following(self) -> TableDump | None:
        """On the thread: the next part, None after the last. Raises what its maker raises, and
        UnavailableError once nobody waits for the thread's work any more."""
        with self._guard:
            if self._closed:
                raise UnavailableError("the restore was broken off")
            self._awaited = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        try:
            return self._awaited.result(STORE_STATEMENT_S)
        except (CancelledError, TimeoutError) as error:
            raise UnavailableError("the restore was broken off") from error

    async def _next(self) -> TableDump | None:
        return await anext(self._parts, None)

    def close(self) -> None:
        with self._guard:
            self._closed = True
            if self._awaited is not None:
                self._awaited.cancel()


def _key(table: sa.Table, row: Row) -> Row:
    places = [list(table.columns).index(column) for column in table.primary_key.columns]
    return [row[place] for place in places]


def _batch(table: sa.Table, after: Row | None, connection: sa.Connection) -> Sequence[Row]:
    key = list(table.primary_key.columns)
    statement = sa.select(table).order_by(*key).limit(EXPORT_BATCH)
    if after is not None:
        statement = statement.where(sa.tuple_(*key) > sa.tuple_(*after))
    return connection.execute(statement).all()


def _check_empty(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        # whoever else restores waits here, and then finds the tables filled
        connection.execute(sa.text(f"LOCK TABLE {DUMPED[-1].name} IN EXCLUSIVE MODE"))
    for table in DUMPED:
        if table in _MOVES:
            continue
        if first(connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1))):
            raise ConflictError(
                f"a backup goes into an empty database only, and {table.name} has rows"
            )


def _fill(connection: sa.Connection, part: TableDump, reviving: Reviving) -> None:
    table = table_named(part.table)
    rows: list[Values] = list(from_rows(table, part.rows))
    change = reviving.rows(table)
    try:
        if table in _MOVES:
            known = {tuple(row) for row in connection.execute(sa.select(table)).all()}
            rows = [row for row in rows if tuple(row[c.name] for c in table.columns) not in known]
        elif change is not None:
            rows = [change(row) for row in rows]
        if rows:
            connection.execute(sa.insert(table), rows)
    except ValueError as error:
        raise BadBackupError(f"a row of {table.name} is in a state that there is not") from error
    except DRIVER_ERRORS as error:
        if fault_of(error) in _DAMAGE:
            raise BadBackupError(
                f"rows of {table.name} contradict each other, or others that they refer to"
            ) from error
        raise
