"""Pieces of statements that several files build with.

Statements are made once, when a module is loaded, so that SQLAlchemy compiles each once; what
varies comes in as parameters. Lists come in as one parameter (`any_of`), so that a statement's
text does not depend on how many there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from broker.domain.lifecycle import Event, Lifecycle, State
from broker.store.sql.rows import Row, Values
from broker.store.sql.schema import among

_encode = msgspec.json.Encoder().encode


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
    """Inserts any number of rows with one statement.

    One, for a thread gives up the interpreter at each statement and, in a busy process, gets it
    back milliseconds later. On SQLite the rows are a list of VALUES (which SQLAlchemy makes when
    something is to be returned); on PostgreSQL each column is one array parameter, so that the
    text stays the same and stays prepared.
    """

    def __init__(self, table: sa.Table) -> None:
        names = [column.name for column in table.columns]
        arrays = [sa.bindparam(column.name, type_=ARRAY(column.type)) for column in table.columns]
        rows = sa.func.unnest(*arrays).table_valued(*names).render_derived()
        self._names = names
        self._values = sa.insert(table).returning(*table.primary_key.columns)
        self._arrays = sa.insert(table).from_select(names, sa.select(rows))

    def run(self, connection: sa.Connection, rows: Sequence[Values]) -> None:
        """Columns that a row leaves out are null."""
        if not rows:
            return
        if connection.dialect.name == "postgresql":
            columns = {name: [row.get(name) for row in rows] for name in self._names}
            connection.execute(self._arrays, columns)
        else:
            connection.execute(self._values, list(rows)).all()


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
