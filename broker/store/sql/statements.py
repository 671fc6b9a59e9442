"""Pieces of statements that several files build with.

Statements are made once, when a module is loaded, so that SQLAlchemy compiles each once; what
varies comes in as parameters. Lists come in as one parameter (`any_of`), so that a statement's
text does not depend on how many there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from broker.domain.lifecycle import Event, Lifecycle, State
from broker.store.sql.rows import Row, Values
from broker.store.sql.schema import among

_encode = msgspec.json.Encoder().encode

_SQLITE_PARAMETERS = 32_766
"""what SQLite takes in one statement (SQLITE_MAX_VARIABLE_NUMBER's default)"""


class _Texts(sa.types.TypeDecorator[Sequence[str]]):
    """A list of texts as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        kind = ARRAY(sa.Text()) if dialect.name == "postgresql" else sa.Text()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Sequence[str] | None, dialect: sa.Dialect) -> Any:
        texts = list(value or ())
        return texts if dialect.name == "postgresql" else _encode(texts).decode()


class _AnyOf(FunctionElement[Any]):
    # not Boolean: for SQLite that becomes "(… IN …) = 1", and no index is used for the column
    inherit_cache = True
    type = sa.Integer()


@compiles(_AnyOf, "sqlite")
def _any_of_sqlite(element: _AnyOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - compiled parts


@compiles(_AnyOf, "postgresql")
def _any_of_postgresql(element: _AnyOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY ({values})"


def any_of(column: sa.ColumnElement[Any], parameter: str) -> sa.ColumnElement[bool]:
    """The column is one of a list of texts given as `parameter`."""
    return _AnyOf(column, sa.bindparam(parameter, type_=_Texts()))


def constant(value: str) -> sa.ColumnElement[str]:
    """A word of ours in the statement's text: partial indexes match constants alone."""
    return sa.literal_column(f"'{value}'")


def takes(lifecycle: Lifecycle[State, Event], event: Event) -> sa.TextClause:
    """The row is in a state in which `event` may happen."""
    return among("state", lifecycle.sources(event))


def by_state(
    column: sa.ColumnElement[str],
    lifecycle: Lifecycle[State, Event],
    event: Event,
    value: Callable[[State], sa.ColumnElement[Any]],
) -> sa.ColumnElement[Any]:
    """`value` of the state to which `event` leads from the row's state."""
    pairs = [
        (source, value(lifecycle.table[source, event].to)) for source in lifecycle.sources(event)
    ]
    if len({str(result) for _, result in pairs}) == 1:
        return pairs[0][1]
    return sa.case(*((column == constant(source), result) for source, result in pairs))


class BatchInsert:
    """Inserts any number of rows with one statement. With `keep_known` rows whose primary key
    is known are left out.

    One, for a thread gives up the interpreter at each statement and, in a busy process, gets it
    back milliseconds later. On SQLite the rows are a list of VALUES, written out here: going
    through SQLAlchemy's costs twice as much, and every claim pays it four times. On PostgreSQL
    each column is one array parameter, so that the text stays the same and stays prepared.
    """

    def __init__(self, table: sa.Table, *, keep_known: bool = False) -> None:
        names = [column.name for column in table.columns]
        arrays = [sa.bindparam(column.name, type_=ARRAY(column.type)) for column in table.columns]
        rows = sa.func.unnest(*arrays).table_valued(*names).render_derived()
        self._names = names
        insert = postgresql.insert(table)
        key = [column.name for column in table.primary_key.columns]
        if keep_known:
            insert = insert.on_conflict_do_nothing(index_elements=key)
        self._arrays = insert.from_select(names, sa.select(rows))
        self._table = table.name
        self._known = f" ON CONFLICT ({', '.join(key)}) DO NOTHING" if keep_known else ""

    def run(self, connection: sa.Connection, rows: Sequence[Values]) -> None:
        """All rows name the same columns in the same order; those left out are null."""
        if not rows:
            return
        if connection.dialect.name == "postgresql":
            columns = {name: [row.get(name) for row in rows] for name in self._names}
            connection.execute(self._arrays, columns)
            return
        given = tuple(rows[0])
        into = f"INSERT INTO {self._table} ({', '.join(given)}) VALUES "  # noqa: S608 - our names
        one = f"({', '.join('?' * len(given))})"
        most = _SQLITE_PARAMETERS // len(given)
        for first_row in range(0, len(rows), most):
            part = rows[first_row : first_row + most]
            text = f"{into}{', '.join([one] * len(part))}{self._known}"
            connection.exec_driver_sql(text, tuple(chain.from_iterable(map(dict.values, part))))


def grouped(
    connection: sa.Connection, statement: sa.Select[Any], ids: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Rows (id, value) of a statement with the list parameter `ids`, gathered by id."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    wanted = list(ids)
    if wanted:
        for key, value in connection.execute(statement, {"ids": wanted}):
            found[key].append(value)
    return {key: tuple(values) for key, values in found.items()}


def first(result: sa.CursorResult[Any] | sa.Result[Any]) -> Row | None:
    """The only row, if any. All rows are read, so that SQLite ends the statement at once."""
    rows = result.all()
    return rows[0] if rows else None
