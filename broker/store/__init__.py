"""The store: tables and every SQL statement (SQLAlchemy Core: SQLite, PostgreSQL), memory."""

from __future__ import annotations

from broker.limits import STORE_CONNECTIONS
from broker.ports import Store
from broker.store.memory import MemoryStore
from broker.store.sql import SqlStore

__all__ = ["open_store"]


def open_store(url: str, *, migrate: bool = True, connections: int = STORE_CONNECTIONS) -> Store:
    """The store at this address, not open yet: `memory://`, `sqlite:///path`, `postgresql://…`.

    `migrate` and `connections` are described at SqlStore; memory needs neither.

    Raises:
        ConfigError: the address is none of these.
    """
    if url.startswith("memory:"):
        return MemoryStore()
    return SqlStore(url, migrate=migrate, connections=connections)
