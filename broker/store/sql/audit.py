"""The audit trail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from broker.domain.audit import GENESIS, AuditEntry, Outcome, SealedEntry, first_break
from broker.domain.errors import AlreadyExistsError, ConflictError
from broker.domain.model import Instant, WorkLease
from broker.ports import Page, PageQuery
from broker.store.sql.evidence import (
    NAMES,
    as_stored,
    is_named,
    is_text,
    is_whole,
    to_entry,
    to_sealed,
)
from broker.store.sql.leases import hold_lease
from broker.store.sql.rows import Values
from broker.store.sql.runner import Database
from broker.store.sql.statements import BatchInsert, constant, first
from broker.store.sql.trail_tables import ABOUT, UNSEALED
from broker.store.sql.trail_tables import audit_entries as t
from broker.store.trail import (
    ENTRY_ABOUT,
    EntryQuery,
    detail_text,
    entry_query,
    place_of,
    settled,
)

_COLUMNS = tuple(as_stored(t.c[name]).label(name) for name in NAMES)
_PLACE = (as_stored(t.c.number).label("number"), as_stored(t.c.seal).label("seal"))
_ASKED = constant(Outcome.ASKED)

_INSERT = BatchInsert(t, keep_known=True)
_ONE = sa.select(*_COLUMNS).where(t.c.id == sa.bindparam("key")).with_for_update()
_SETTLE = (
    sa.update(t)
    .where(t.c.id == sa.bindparam("key"), t.c.outcome == _ASKED, UNSEALED)
    .values(
        outcome=sa.bindparam("settled"),
        why=sa.bindparam("because"),
        details=sa.bindparam("reasons"),
        **{name: sa.bindparam(f"this_{name}") for name in ENTRY_ABOUT},
    )
)
_UNSEALED = (
    sa.select(*_COLUMNS)
    .where(
        UNSEALED,
        sa.or_(t.c.outcome != _ASKED, t.c.at < sa.bindparam("asked_before")),
        is_text(t.c.id),
    )
    .order_by(t.c.at, t.c.id)
    .limit(sa.bindparam("most"))
)
_LAST = (
    sa.select(*_PLACE)
    .where(t.c.number.is_not(None), is_whole(t.c.number))
    .order_by(t.c.number.desc())
    .limit(1)
)
_SEAL = (
    sa.update(t)
    .where(t.c.id == sa.bindparam("key"), UNSEALED, t.c.outcome != _ASKED)
    .values(number=sa.bindparam("place"), seal=sa.bindparam("sealed_with"))
)
_CHAIN = (
    sa.select(*_PLACE, *_COLUMNS)
    .where(t.c.number > sa.bindparam("after"))
    .order_by(t.c.number)
    .limit(sa.bindparam("most"))
)


def insert_entries(connection: sa.Connection, entries: Iterable[AuditEntry]) -> None:
    """Store entries with the change they tell of, in its transaction and in one statement; ids
    that are known are left as they are."""
    _INSERT.run(connection, [_from_entry(entry) for entry in _once(entries)])


def _once(entries: Iterable[AuditEntry]) -> Iterable[AuditEntry]:
    found: dict[str, AuditEntry] = {}
    for entry in entries:
        found.setdefault(entry.id, entry)
    return found.values()


def _from_entry(entry: AuditEntry) -> Values:
    values: Values = {name: getattr(entry, name) for name in NAMES}
    return values | {"outcome": entry.outcome.value, "details": detail_text(entry.details)}


def _last_seal(connection: sa.Connection) -> tuple[int, bytes]:
    row = first(connection.execute(_LAST))
    return (int(row[0]), bytes(row[1])) if row is not None else (0, GENESIS)


def _page(query: EntryQuery) -> sa.Select[Any]:
    statement = sa.select(*_COLUMNS)
    for name, value in query.equal.items():
        statement = statement.where(t.c[name] == value)
        if name in ABOUT:
            # so that the partial index may be used
            statement = statement.where(sa.text(f"{name} <> ''"))
    if query.since is not None:
        statement = statement.where(t.c.at >= query.since)
    if query.until is not None:
        statement = statement.where(t.c.at < query.until)
    if query.after is not None:
        statement = statement.where(sa.tuple_(t.c.at, t.c.id) < sa.tuple_(*query.after))
    return statement.order_by(t.c.at.desc(), t.c.id.desc()).limit(query.limit + 1)


class SqlAudit:
    """Implements broker.ports.AuditStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, entries: Sequence[AuditEntry]) -> None:
        await self._database.transaction(lambda connection: insert_entries(connection, entries))

    async def settle(
        self,
        entry_id: str,
        outcome: Outcome,
        why: str,
        details: Mapping[str, object],
        about: Mapping[str, str] | None = None,
    ) -> bool:
        def work(connection: sa.Connection) -> bool:
            row = first(connection.execute(_ONE, {"key": entry_id}))
            if row is None or (entry := to_entry(row)).outcome is not Outcome.ASKED:
                return False
            values = _from_entry(settled(entry, outcome, why, details, about or {}))
            changes = {
                "key": entry_id,
                "settled": values["outcome"],
                "because": values["why"],
                "reasons": values["details"],
                **{f"this_{name}": values[name] for name in ENTRY_ABOUT},
            }
            return connection.execute(_SETTLE, changes).rowcount == 1

        return await self._database.transaction(work)

    async def unsealed(self, asked_before: Instant, limit: int) -> tuple[AuditEntry, ...]:
        values = {"asked_before": asked_before, "most": limit}
        rows = await self._database.read(lambda each: each.execute(_UNSEALED, values).all())
        return tuple(filter(is_named, map(to_entry, rows)))

    async def last_seal(self) -> tuple[int, bytes]:
        return await self._database.read(_last_seal)

    async def seal(self, chain: Sequence[SealedEntry], lease: WorkLease) -> None:
        seals = [
            {"key": one.entry.id, "place": one.number, "sealed_with": one.seal} for one in chain
        ]

        def work(connection: sa.Connection) -> None:
            hold_lease(connection, lease)
            number, before = _last_seal(connection)
            if first_break(before, number, chain)[0] is not None:
                raise ConflictError("the chain does not start behind the last seal")
            if seals and connection.execute(_SEAL, seals).rowcount != len(seals):
                raise ConflictError("an entry is sealed already, or not settled")

        try:
            await self._database.transaction(work)
        except AlreadyExistsError as error:
            raise ConflictError("the chain does not start behind the last seal") from error

    async def chain(self, after: int, limit: int) -> tuple[SealedEntry, ...]:
        values = {"after": after, "most": limit}
        rows = await self._database.read(lambda each: each.execute(_CHAIN, values).all())
        return tuple(map(to_sealed, rows))

    async def entries(self, query: PageQuery) -> Page[AuditEntry]:
        asked = entry_query(query)
        statement = _page(asked)
        rows = await self._database.read(lambda each: each.execute(statement).all())
        items = tuple(map(to_entry, rows[: asked.limit]))
        return Page(
            items=items, next_after=place_of(items[-1]) if len(rows) > asked.limit else None
        )
