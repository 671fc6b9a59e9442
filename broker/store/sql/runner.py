"""Runs work on threads that own a connection each, so that no statement blocks the event loop.

SQLite has one thread that writes and a few that only read; PostgreSQL has as many as it may have
connections. A call costs one hand-off to a thread and one back, however many statements it has.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL

from broker.domain.errors import BusyError, UnavailableError
from broker.limits import STORE_CALLS_MAX, STORE_READERS, STORE_RETRY_S, STORE_TRIES_MAX
from broker.store.sql.engine import make_engine
from broker.store.sql.faults import DRIVER_ERRORS, Fault, fault_of, told

Result = TypeVar("Result")
Work = Callable[[sa.Connection], Result]

_RACES = frozenset({Fault.AGAIN, Fault.LOST})
"""after these, work that changed nothing yet may simply be run again"""
_DROPPED = {Fault.LOST, Fault.OTHER}
"""after these the connection is not trusted any more"""


class Threads:
    """Threads with a connection each, for one engine. At most STORE_CALLS_MAX calls are open."""

    def __init__(self, engine: sa.Engine, *, threads: int, name: str) -> None:
        self._engine = engine
        self._room = threading.BoundedSemaphore(STORE_CALLS_MAX)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._mine = threading.local()
        self._connections: set[sa.Connection] = set()
        self._guard = threading.Lock()

    async def run(self, work: Work[Result], *, again: frozenset[Fault] = frozenset()) -> Result:
        """Run `work` with a connection, at most STORE_TRIES_MAX times for the faults in `again`.

        Raises:
            BusyError: STORE_CALLS_MAX calls are open, or the work lost every time.
            UnavailableError: closed, or the database does not answer.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError("the database has a long queue", retry_after_s=STORE_RETRY_S)
        try:
            future = self._executor.submit(self._tried, work, again)
        except RuntimeError as error:
            self._room.release()
            raise UnavailableError("the store is closed") from error
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)

    def _tried(self, work: Work[Result], again: frozenset[Fault]) -> Result:
        for left in reversed(range(STORE_TRIES_MAX)):
            connection = self._connection()
            try:
                return work(connection)
            except DRIVER_ERRORS as error:
                fault = fault_of(error)
                if fault in _DROPPED:
                    self.drop(connection)
                if fault not in again or not left:
                    raise told(fault) from error
        raise told(Fault.AGAIN)

    def _connection(self) -> sa.Connection:
        connection: sa.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            try:
                connection = self._engine.connect()
            except DRIVER_ERRORS as error:
                raise told(Fault.LOST) from error
            self._mine.connection = connection
            with self._guard:
                self._connections.add(connection)
        return connection

    def drop(self, connection: sa.Connection) -> None:
        """Close this thread's connection; the next work opens another."""
        self._mine.connection = None
        with self._guard:
            self._connections.discard(connection)
        try:
            connection.invalidate()
            connection.close()
        except DRIVER_ERRORS:
            # it is broken already; what counts is that nobody uses it again
            return

    async def close(self) -> None:
        """Let running work end, refuse the rest, close every connection."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._engine.dispose()


class Database:
    """How the nouns' files reach the database. Work is a function of a connection.

    It runs on a thread and must be a pure function of what it reads, for it may be run again
    when it loses against another transaction.
    """

    def __init__(self, url: URL, *, connections: int) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        threads = 1 if self.is_sqlite else connections
        self._writers = Threads(make_engine(url), threads=threads, name="store")
        self._readers = self._writers
        if self.is_sqlite:
            reading = make_engine(url, read_only=True)
            self._readers = Threads(reading, threads=STORE_READERS, name="store-read")
        # SQLite's plain BEGIN would find out too late that another process writes
        self._begin = "BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN"
        self._begin_view = (
            "BEGIN" if self.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        )

    async def read(self, work: Work[Result]) -> Result:
        """One statement that changes nothing."""
        return await self._readers.run(work, again=_RACES)

    async def view(self, work: Work[Result]) -> Result:
        """Several statements that change nothing and see the same moment."""
        return await self._in_transaction(self._readers, self._begin_view, work, _RACES)

    async def statement(self, work: Work[Result]) -> Result:
        """One statement that changes something and is a transaction of its own."""
        return await self._writers.run(work, again=frozenset({Fault.AGAIN}))

    async def transaction(self, work: Work[Result], *, again_on_duplicate: bool = False) -> Result:
        """Several statements that change something, all or nothing.

        With `again_on_duplicate` a broken unique constraint counts as lost against another
        transaction: the next run sees the row that was first.
        """
        again = _RACES | {Fault.DUPLICATE} if again_on_duplicate else _RACES
        return await self._in_transaction(self._writers, self._begin, work, again)

    async def transaction_once(self, work: Work[Result]) -> Result:
        """As `transaction`, for work that cannot be run again."""
        return await self._in_transaction(self._writers, self._begin, work, frozenset())

    def begin_view(self, connection: sa.Connection) -> None:
        """Begin to see one moment, on a connection of one's own; closing it ends that."""
        _driver(connection).execute(self._begin_view)

    async def _in_transaction(
        self, threads: Threads, begin: str, work: Work[Result], again: frozenset[Fault]
    ) -> Result:
        return await threads.run(lambda each: _transaction(threads, each, begin, work), again=again)

    async def direct(self, work: Work[Result]) -> Result:
        """Work that begins and ends its own transactions (migrations)."""
        return await self._writers.run(work)

    async def close(self) -> None:
        await self._writers.close()
        if self._readers is not self._writers:
            await self._readers.close()


def _transaction(
    threads: Threads, connection: sa.Connection, begin: str, work: Work[Result]
) -> Result:
    driver = _driver(connection)
    driver.execute(begin)
    try:
        result = work(connection)
    except BaseException:
        driver.rollback()
        raise
    try:
        driver.commit()
    except DRIVER_ERRORS as error:
        fault = fault_of(error)
        if fault in _DROPPED:
            # nobody can know whether it was stored, so it must not be done again here
            threads.drop(connection)
            raise told(fault) from error
        driver.rollback()
        raise
    return result


def _driver(connection: sa.Connection) -> Any:
    driver = connection.connection.driver_connection
    if driver is None:
        raise told(Fault.LOST)
    return driver
