"""Lists that may not grow past a limit, whoever adds to them at the same moment."""

from __future__ import annotations

import sqlalchemy as sa

from broker.store.capped import check_number


def lock(connection: sa.Connection, table: sa.Table) -> None:
    """Let nobody else write to the table until this transaction is over; reading goes on.

    On SQLite a transaction that writes is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


def check(connection: sa.Connection, table: sa.Table, most: int) -> None:
    """Raises ConflictError, which undoes the transaction: it has more than `most` rows now."""
    number = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    check_number(number, most, table.name)
