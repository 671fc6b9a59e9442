"""Leases for shared work."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from broker.domain.errors import ConflictError
from broker.domain.model import Instant, WorkLease
from broker.limits import LEASE_SKEW_S
from broker.store.sql.rows import Row
from broker.store.sql.runner import Database
from broker.store.sql.statements import first
from broker.store.sql.trail_tables import work_leases

_COLUMNS = (
    work_leases.c.name,
    work_leases.c.holder,
    work_leases.c.fence,
    work_leases.c.until,
)
_THIS = (
    work_leases.c.name == sa.bindparam("key"),
    work_leases.c.holder == sa.bindparam("mine"),
    work_leases.c.fence == sa.bindparam("at_fence"),
)
# Whoever takes the lease over waits until the transaction that read it here is over.
_HOLD = sa.select(work_leases.c.fence).where(*_THIS).with_for_update(read=True)
_RELEASE = sa.update(work_leases).where(*_THIS).values(holder="", until=0)
_ALL = sa.select(*_COLUMNS).order_by(work_leases.c.name)


def _acquiring(insert: sqlite.Insert | postgresql.Insert) -> sa.Executable:
    """Take or renew in one statement, so that two takers cannot both win."""
    wanted = insert.excluded
    mine = work_leases.c.holder == wanted.holder
    return insert.on_conflict_do_update(
        index_elements=[work_leases.c.name],
        set_={
            "holder": wanted.holder,
            "fence": sa.case((mine, work_leases.c.fence), else_=work_leases.c.fence + 1),
            "until": wanted.until,
        },
        where=sa.or_(
            mine,
            work_leases.c.holder == "",
            work_leases.c.until <= sa.bindparam("over_before"),
        ),
    ).returning(*_COLUMNS)


_ACQUIRE = {
    "sqlite": _acquiring(sqlite.insert(work_leases)),
    "postgresql": _acquiring(postgresql.insert(work_leases)),
}


def hold_lease(connection: sa.Connection, lease: WorkLease) -> None:
    """Within a transaction: the lease is this one, and stays it until the transaction is over.

    Raises:
        ConflictError: it has another holder or fence by now.
    """
    if first(connection.execute(_HOLD, _named(lease))) is None:
        raise ConflictError(f"the lease {lease.name!r} has passed to another")


def _named(lease: WorkLease) -> dict[str, str | int]:
    return {"key": lease.name, "mine": lease.holder, "at_fence": lease.fence}


def _to_lease(row: Row) -> WorkLease:
    name, holder, fence, until = row
    return WorkLease(name=name, holder=holder, fence=fence, until=until)


class SqlLeases:
    """Implements broker.ports.LeaseStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(
        self, name: str, holder: str, now: Instant, until: Instant
    ) -> WorkLease | None:
        values = {
            "name": name,
            "holder": holder,
            "fence": 1,
            "until": until,
            "over_before": now - LEASE_SKEW_S * 1000,
        }

        def work(connection: sa.Connection) -> Row | None:
            return first(connection.execute(_ACQUIRE[connection.dialect.name], values))

        row = await self._database.statement(work)
        return _to_lease(row) if row is not None else None

    async def release(self, lease: WorkLease) -> None:
        await self._database.statement(lambda each: each.execute(_RELEASE, _named(lease)).rowcount)

    async def leases(self) -> tuple[WorkLease, ...]:
        rows = await self._database.read(lambda connection: connection.execute(_ALL).all())
        return tuple(map(_to_lease, rows))
