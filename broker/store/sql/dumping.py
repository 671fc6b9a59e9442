"""Rows of any table as JSON-able values, and back.

Made from METADATA, so that a table that is added later is dumped without anybody thinking of it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from broker.domain.errors import BadBackupError
from broker.store.sql import tables as t
from broker.store.sql.rows import Row, Values
from broker.store.sql.schema import METADATA

LEFT_OUT: Final[Mapping[sa.Table, str]] = {
    t.tokens: "what was given out does not work after a restore",
    t.tickets: "likewise",
    t.one_use_secrets: "likewise",
    t.idempotency_keys: "they name sessions that are over after a restore",
}
"""tables that a dump does not hold, and why"""

DUMPED: Final = tuple(table for table in METADATA.sorted_tables if table not in LEFT_OUT)
"""the tables of a dump; each comes after those that it refers to"""

_TABLES: Final = {table.name: table for table in DUMPED}
_INTEGER_MAX: Final = 2**63 - 1


def to_row(table: sa.Table, row: Row) -> dict[str, object]:
    """One row as JSON-able values by column."""
    return {
        column.name: b64encode(value).decode() if isinstance(value, bytes) else value
        for column, value in zip(table.columns, row, strict=True)
    }


def table_named(name: str) -> sa.Table:
    """Raises BadBackupError: no table of a dump is called so."""
    if name not in _TABLES:
        raise BadBackupError("it holds a table that this schema does not know")
    return _TABLES[name]


def from_rows(table: sa.Table, rows: Sequence[Mapping[str, object]]) -> Iterator[Values]:
    """Rows as statements take them. Raises BadBackupError: columns or types are not these."""
    columns = {column.name: column for column in table.columns}
    for row in rows:
        if row.keys() != columns.keys():
            raise BadBackupError(f"a row of {table.name} has other columns than the table")
        try:
            yield {name: _value(columns[name], value) for name, value in row.items()}
        except (TypeError, ValueError) as error:
            raise BadBackupError(f"a row of {table.name} is damaged") from error


def _value(column: sa.Column[Any], value: object) -> object:
    """Raises TypeError or ValueError: the column takes no such value."""
    if value is None:
        if not column.nullable:
            raise ValueError(column.name)
        return None
    wanted = column.type.python_type
    if wanted is bytes and isinstance(value, str):
        return b64decode(value, validate=True)
    if wanted is float and type(value) is int:
        return float(value)
    # exactly: a truth value is an integer, too
    if type(value) is not wanted:
        raise TypeError(column.name)
    if type(value) is int and abs(value) > _INTEGER_MAX:
        raise ValueError(column.name)
    return value
