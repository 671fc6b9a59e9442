"""Documents."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from broker.domain.errors import AlreadyExistsError, ConflictError
from broker.ports import Document
from broker.store.sql.rows import Row
from broker.store.sql.runner import Database
from broker.store.sql.statements import first
from broker.store.sql.trail_tables import documents as t
from broker.store.trail import document_text, object_of

_COLUMNS = (t.c.name, t.c.revision, t.c.value)
_LAST_CHARACTER = chr(0x10FFFF)
_ONE = sa.select(*_COLUMNS).where(t.c.name == sa.bindparam("key"))
_SOME = (
    sa.select(*_COLUMNS)
    .where(t.c.name >= sa.bindparam("first"), t.c.name <= sa.bindparam("last"))
    .order_by(t.c.name)
)
_SAVE = (
    sa.update(t)
    .where(t.c.name == sa.bindparam("key"), t.c.revision == sa.bindparam("seen"))
    .values(revision=t.c.revision + 1, value=sa.bindparam("text"))
)


def _to_document(row: Row) -> Document:
    name, revision, value = row
    return Document(name=name, revision=revision, value=object_of(value))


class SqlDocuments:
    """Implements broker.ports.DocumentStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def document(self, name: str) -> Document | None:
        row = await self._database.read(lambda each: first(each.execute(_ONE, {"key": name})))
        return _to_document(row) if row is not None else None

    async def documents(self, prefix: str) -> tuple[Document, ...]:
        ends = {"first": prefix, "last": prefix + _LAST_CHARACTER}
        rows = await self._database.read(lambda each: each.execute(_SOME, ends).all())
        return tuple(map(_to_document, rows))

    async def save(self, name: str, value: Mapping[str, object], *, revision: int) -> Document:
        text = document_text(value)

        def work(connection: sa.Connection) -> bool:
            if revision:
                changes = {"key": name, "seen": revision, "text": text}
                return connection.execute(_SAVE, changes).rowcount == 1
            connection.execute(sa.insert(t), {"name": name, "revision": 1, "value": text})
            return True

        moved = f"the document {name!r} was changed meanwhile"
        try:
            saved = await self._database.statement(work)
        except AlreadyExistsError as error:
            raise ConflictError(moved) from error
        if not saved:
            raise ConflictError(moved)
        return Document(name=name, revision=revision + 1, value=object_of(text))
