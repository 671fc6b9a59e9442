"""Desktops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import DESKTOP as LIFECYCLE
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, Instant, Job
from broker.ports import Page, PageQuery
from broker.store.moves import check_new, move_desktop
from broker.store.sql import tables as t
from broker.store.sql.pages import Listing, equals
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.machines import DESKTOP, from_desktop, from_job, to_desktop
from broker.store.sql.runner import Database
from broker.store.sql.schema import among
from broker.store.sql.statements import by_state, constant, first, takes

_FILTERS = equals(
    t.desktops.c.pool_id,
    t.desktops.c.host_id,
    t.desktops.c.endpoint_id,
    t.desktops.c.state,
    t.desktops.c.architecture,
)
_LISTING = Listing(DESKTOP, t.desktops.c.name, _FILTERS, search=t.desktops.c.search)
# the names of deleted desktops are used again, so their list goes by id
_ARCHIVE = Listing(DESKTOP, t.desktops.c.id, _FILTERS, search=t.desktops.c.search, descending=True)
_ONE = sa.select(*DESKTOP).where(t.desktops.c.id == sa.bindparam("key"))
# Pool by pool and state by state: so the index is read where desktops are, and the deleted
# ones, of which there are ever more, are not counted through.
_ALIVE = among("desktops.state", set(DesktopState) - {DesktopState.DELETED})
_NAMES = sa.select(t.desktops.c.name).where(t.desktops.c.pool_id == sa.bindparam("pool"), _ALIVE)
COUNTS = (
    sa.select(t.pools.c.id, t.pools.c.architecture, t.desktops.c.state, sa.func.count())
    .join_from(t.pools, t.desktops, t.desktops.c.pool_id == t.pools.c.id)
    .where(_ALIVE)
    .group_by(t.pools.c.id, t.pools.c.architecture, t.desktops.c.state)
)
"""pool, its architecture, state, how many desktops"""
_BY_STATE = (
    sa.select(*DESKTOP)
    .where(t.desktops.c.state == sa.bindparam("wanted"))
    .order_by(t.desktops.c.changed_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
)
_EXPIRED = (
    sa.select(*DESKTOP)
    .where(t.desktops.c.deadline_at <= sa.bindparam("now"))
    .order_by(t.desktops.c.deadline_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
)


def moving(event: DesktopEvent) -> dict[str, sa.ColumnElement[object]]:
    """What `event` sets, whatever the row's state is, if that state takes the event."""
    state = t.desktops.c.state

    def target(to: DesktopState) -> sa.ColumnElement[str]:
        heading = LIFECYCLE.transient.get(to)
        return sa.null() if heading is None else constant(heading)  # type: ignore[return-value]

    return {
        "prior_state": state,
        "state": by_state(state, LIFECYCLE, event, constant),
        "target": by_state(state, LIFECYCLE, event, target),
        "changed_at": sa.bindparam("now", type_=sa.BigInteger),
    }


def _advancing(event: DesktopEvent) -> sa.Update:
    wanted = sa.bindparam("wanted", type_=sa.Integer)
    return (
        sa.update(t.desktops)
        .where(
            t.desktops.c.id == sa.bindparam("key"),
            takes(LIFECYCLE, event),
            sa.or_(wanted.is_(None), t.desktops.c.generation == wanted),
        )
        .values(
            **moving(event),
            deadline_at=sa.bindparam("deadline"),
            generation=t.desktops.c.generation + sa.bindparam("fresher", type_=sa.Integer),
            note=sa.func.coalesce(sa.bindparam("words", type_=sa.Text), t.desktops.c.note),
        )
        .returning(*DESKTOP)
    )


_ADVANCING = {event: _advancing(event) for event in DesktopEvent}
_RELEASING = {
    event: statement.where(t.desktops.c.state == constant(DesktopState.ASSIGNED))
    for event, statement in _ADVANCING.items()
}
_INSERT_JOB = sa.insert(t.jobs)


def release(
    connection: sa.Connection,
    desktop_id: str,
    event: DesktopEvent,
    now: Instant,
    *,
    fresh: bool,
    deadline_at: Instant | None,
    job: Job | None,
) -> None:
    """Give a desktop back, if it is still assigned."""
    parameters = _parameters(desktop_id, now, fresh=fresh, deadline_at=deadline_at)
    row = first(connection.execute(_RELEASING[event], parameters))
    if row is not None and job is not None:
        _add_job(connection, job, to_desktop(row))


def _parameters(
    desktop_id: str,
    now: Instant,
    *,
    fresh: bool,
    deadline_at: Instant | None,
    generation: int | None = None,
    note: str | None = None,
) -> Values:
    return {
        "key": desktop_id,
        "now": now,
        "wanted": generation,
        "deadline": deadline_at,
        "fresher": int(fresh),
        "words": note,
    }


def _add_job(connection: sa.Connection, job: Job, desktop: Desktop) -> None:
    connection.execute(_INSERT_JOB, from_job(replace(job, generation=desktop.generation)))


class SqlDesktops:
    """Implements broker.ports.DesktopStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def desktop(self, desktop_id: str) -> Desktop | None:
        row = await self._database.read(
            lambda connection: first(connection.execute(_ONE, {"key": desktop_id}))
        )
        return to_desktop(row) if row is not None else None

    async def desktops(self, query: PageQuery) -> Page[Desktop]:
        if query.filters.get("state") == DesktopState.DELETED:
            listing, statement = _ARCHIVE, _ARCHIVE.statement(query)
        else:
            listing, statement = _LISTING, _LISTING.statement(query).where(t.NOT_DELETED)

        def work(connection: sa.Connection) -> Page[Desktop]:
            rows, after = listing.fetch(connection, query, statement)
            return Page(items=tuple(map(to_desktop, rows)), next_after=after)

        return await self._database.read(work)

    async def add(self, desktops: Sequence[Desktop], jobs: Sequence[Job]) -> None:
        check_new(desktops, jobs)

        def work(connection: sa.Connection) -> None:
            if desktops:
                connection.execute(sa.insert(t.desktops), [from_desktop(one) for one in desktops])
            if jobs:
                connection.execute(_INSERT_JOB, [from_job(one) for one in jobs])

        await self._database.transaction(work)

    async def names(self, pool_id: str) -> frozenset[str]:
        return await self._database.read(
            lambda connection: frozenset(connection.execute(_NAMES, {"pool": pool_id}).scalars())
        )

    async def advance(
        self,
        desktop_id: str,
        event: DesktopEvent,
        now: Instant,
        *,
        generation: int | None = None,
        deadline_at: Instant | None = None,
        note: str | None = None,
        fresh: bool = False,
        job: Job | None = None,
    ) -> Desktop:
        parameters = _parameters(
            desktop_id,
            now,
            fresh=fresh,
            deadline_at=deadline_at,
            generation=generation,
            note=note,
        )

        def work(connection: sa.Connection) -> Desktop | None:
            row = first(connection.execute(_ADVANCING[event], parameters))
            if row is None:
                return None
            desktop = to_desktop(row)
            if job is not None:
                _add_job(connection, job, desktop)
            return desktop

        run = self._database.statement if job is None else self._database.transaction
        moved = await run(work)
        if moved is None:
            # say why: the same rules raise it
            move_desktop(await self.desktop(desktop_id), event, now, generation=generation)
            raise IllegalTransitionError("the desktop changed at the same moment")
        return moved

    async def counts(self) -> Mapping[tuple[str, str], int]:
        return await self._database.read(
            lambda connection: {
                (pool_id, state): count
                for pool_id, _, state, count in connection.execute(COUNTS).all()
            }
        )

    async def by_state(self, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        # one by one, for each then is a walk along the index from its beginning
        wanted = sorted({str(state) for state in states})

        def work(connection: sa.Connection) -> list[Desktop]:
            return [
                to_desktop(row)
                for state in wanted
                for row in connection.execute(_BY_STATE, {"wanted": state, "most": limit}).all()
            ]

        run = self._database.view if len(wanted) > 1 else self._database.read
        found = await run(work)
        return tuple(sorted(found, key=lambda one: (one.changed_at, one.id))[:limit])

    async def expired(self, now: Instant, limit: int) -> tuple[Desktop, ...]:
        def work(connection: sa.Connection) -> Sequence[Row]:
            return connection.execute(_EXPIRED, {"now": now, "most": limit}).all()

        return tuple(map(to_desktop, await self._database.read(work)))
