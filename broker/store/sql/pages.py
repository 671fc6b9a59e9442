"""Pages by keyset: the same shape for every list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from broker.ports import PageQuery
from broker.store.paging import check_query, folded
from broker.store.sql.rows import Row

Filter = Callable[[str], sa.ColumnElement[bool] | sa.TextClause]


def equals(*columns: sa.Column[Any]) -> dict[str, Filter]:
    """Filters that compare a column of the same name."""

    def on(column: sa.Column[Any]) -> Filter:
        return lambda value: column == value

    return {column.name: on(column) for column in columns}


class Listing:
    """What one list shows, by which key it is ordered, and what it can be filtered by.

    `search` is the column of folded names that a text is looked for in; None: it takes no text.
    """

    def __init__(
        self,
        columns: Sequence[sa.ColumnElement[Any]],
        key: sa.Column[str],
        filters: Mapping[str, Filter],
        *,
        search: sa.Column[str] | None = None,
        descending: bool = False,
    ) -> None:
        self._select = sa.select(*columns)
        self._key = key
        self._place = next(at for at, column in enumerate(columns) if column is key)
        self._filters = filters
        self._search = search
        self._descending = descending

    def statement(self, query: PageQuery) -> sa.Select[Any]:
        """Raises ValueError: the query asks what this list does not take."""
        check_query(query, filters=self._filters.keys(), text=self._search is not None)
        statement = self._select.where(
            *(self._filters[name](value) for name, value in query.filters.items())
        )
        if query.text and self._search is not None:
            statement = statement.where(self._search.contains(folded(query.text), autoescape=True))
        if query.after is not None:
            key, after = self._key, query.after
            statement = statement.where(key < after if self._descending else key > after)
        order = self._key.desc() if self._descending else self._key.asc()
        return statement.order_by(order).limit(query.limit + 1)

    def fetch(
        self, connection: sa.Connection, query: PageQuery, statement: sa.Select[Any]
    ) -> tuple[Sequence[Row], str | None]:
        """The page's rows, and the key after which the next page begins."""
        rows = connection.execute(statement).all()
        if len(rows) <= query.limit:
            return rows, None
        rows = rows[: query.limit]
        return rows, rows[-1][self._place]
