"""Desktops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import sqlalchemy as sa

from broker.domain.audit import AuditEntry
from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Desktop,
    DesktopState,
    HostState,
    Instant,
    Job,
    Resources,
    WorkLease,
)
from broker.ports import Page, PageQuery
from broker.store.loads import NOTHING
from broker.store.moves import (
    assign_desktop,
    begin_move,
    begin_reset,
    check_new,
    closed_host,
    end_move,
    move_desktop,
    resize_desktop,
)
from broker.store.sql import desktop_moves as moves
from broker.store.sql import tables as t
from broker.store.sql.audit import insert_entries
from broker.store.sql.desktop_lists import AWAITED, FAILED, OUTDATED, POOLS_WITH_OLD
from broker.store.sql.leases import hold_lease
from broker.store.sql.pages import Listing, equals
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.machines import DESKTOP, from_desktop, from_job, to_desktop
from broker.store.sql.rows.resources import from_resources
from broker.store.sql.runner import Database
from broker.store.sql.schema import among
from broker.store.sql.statements import any_of, first

_FILTERS = equals(
    t.desktops.c.pool_id,
    t.desktops.c.host_id,
    t.desktops.c.endpoint_id,
    t.desktops.c.state,
    t.desktops.c.architecture,
    t.desktops.c.image_id,
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
_OWNED_COUNTS = COUNTS.where(t.desktops.c.owner_id.is_not(None))
_CLOSED = (
    sa.select(t.hosts.c.name, t.hosts.c.state)
    .where(any_of(t.hosts.c.id, "ids"))
    .order_by(t.hosts.c.id)
    .with_for_update(read=True)
)
_BY_STATE = (
    sa.select(*DESKTOP)
    .where(t.desktops.c.state == sa.bindparam("wanted"))
    .order_by(t.desktops.c.changed_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
)
_RESETS_WAITING = (
    sa.select(*DESKTOP)
    .where(t.WAITS_FOR_RESET, ~any_of(t.desktops.c.host_id, "full"))
    .order_by(t.desktops.c.changed_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
)
_EXPIRED = (
    sa.select(*DESKTOP)
    .where(t.desktops.c.deadline_at <= sa.bindparam("now"))
    .order_by(t.desktops.c.deadline_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
)
_OWNED = sa.select(*DESKTOP).where(t.desktops.c.owner_id == sa.bindparam("key"))
_LOCK_OWNER = sa.select(t.users.c.id).where(t.users.c.id == sa.bindparam("key")).with_for_update()
_KNOWN = sa.select(*DESKTOP).where(any_of(t.desktops.c.id, "ids")).order_by(t.desktops.c.id)


def _at(host: sa.Column[Any]) -> sa.Select[Any]:
    return (
        sa.select(*DESKTOP)
        .where(
            host == sa.bindparam("host"),
            t.NOT_DELETED,
            t.desktops.c.state == sa.bindparam("wanted"),
        )
        # not by the name itself, or SQLite walks the index of all names rather than one host's
        .order_by(t.desktops.c.name.concat(sa.literal_column("''")))
        .limit(sa.bindparam("most"))
    )


_ON_HOST, _COMING = _at(t.desktops.c.host_id), _at(t.desktops.c.moving_to)
_OF_POOL = (
    sa.select(*DESKTOP)
    .where(t.desktops.c.pool_id == sa.bindparam("pool"), any_of(t.desktops.c.state, "states"))
    .order_by(t.desktops.c.changed_at, t.desktops.c.id)
    .limit(sa.bindparam("most"))
)
_UNLIKE = sa.or_(
    *(t.desktops.c[name] != sa.bindparam(f"not_{name}") for name in from_resources(NOTHING))
)


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

    async def add(
        self,
        desktops: Sequence[Desktop],
        jobs: Sequence[Job],
        *,
        entries: Sequence[AuditEntry] = (),
        lease: WorkLease | None = None,
    ) -> None:
        check_new(desktops, jobs)

        def work(connection: sa.Connection) -> None:
            if lease is not None:
                hold_lease(connection, lease)
                _check_open(connection, {one.host_id for one in desktops if one.host_id})
            if desktops:
                connection.execute(sa.insert(t.desktops), [from_desktop(one) for one in desktops])
            if jobs:
                connection.execute(sa.insert(t.jobs), [from_job(one) for one in jobs])
            insert_entries(connection, entries)

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
        disown: bool = False,
        job: Job | None = None,
        entry: AuditEntry | None = None,
    ) -> Desktop:
        parameters = moves.parameters(
            desktop_id,
            now,
            fresh=fresh,
            deadline_at=deadline_at,
            generation=generation,
            note=note,
            disown=disown,
        )

        def work(connection: sa.Connection) -> Desktop | None:
            row = first(connection.execute(moves.ADVANCING[event], parameters))
            if row is None:
                return None
            desktop = to_desktop(row)
            if job is not None:
                moves.add_job(connection, job, desktop)
            if entry is not None:
                insert_entries(connection, [entry])
            return desktop

        alone = job is None and entry is None
        run = self._database.statement if alone else self._database.transaction
        moved = await run(work)
        if moved is None:
            # say why: the same rules raise it
            move_desktop(await self.desktop(desktop_id), event, now, generation=generation)
            raise IllegalTransitionError("the desktop changed at the same moment")
        return moved

    async def assign(
        self, desktop_id: str, owner_id: str, generation: int, entry: AuditEntry
    ) -> Desktop:
        parameters = {"key": desktop_id, "wanted": generation, "owner": owner_id}

        def work(connection: sa.Connection) -> Desktop:
            # two of one person's at once wait for each other
            connection.execute(_LOCK_OWNER, {"key": owner_id}).all()
            owned = map(to_desktop, connection.execute(_OWNED, {"key": owner_id}).all())
            row = first(connection.execute(_ONE, {"key": desktop_id}))
            found = to_desktop(row) if row is not None else None
            assign_desktop(found, owner_id, generation, owned)
            row = first(connection.execute(moves.ASSIGN, parameters))
            if row is None:
                raise IllegalTransitionError("the desktop changed at the same moment")
            insert_entries(connection, [entry])
            return to_desktop(row)

        return await self._database.transaction(work)

    async def begin_move(self, desktop_id: str, to_host_id: str, generation: int, job: Job) -> None:
        parameters = {"key": desktop_id, "wanted": generation, "to": to_host_id}

        def work(connection: sa.Connection) -> Desktop | None:
            row = first(connection.execute(moves.BEGIN_MOVE, parameters))
            if row is None:
                return None
            desktop = to_desktop(row)
            moves.add_job(connection, job, desktop)
            return desktop

        if await self._database.transaction(work) is None:
            await self._refuse(desktop_id, lambda one: begin_move(one, to_host_id, generation))

    async def end_move(
        self, desktop_id: str, to_host_id: str, generation: int, *, moved: bool
    ) -> Desktop:
        parameters = {"key": desktop_id, "wanted": generation, "to": to_host_id}
        arrived = await self._database.statement(
            lambda connection: first(connection.execute(moves.END_MOVE[moved], parameters))
        )
        if arrived is None:
            await self._refuse(
                desktop_id, lambda one: end_move(one, to_host_id, generation, moved=moved)
            )
        return to_desktop(arrived)

    async def resized(self, desktop_id: str, generation: int, to: Resources) -> Desktop:
        parameters = {
            "key": desktop_id,
            "wanted": generation,
            **{f"new_{name}": value for name, value in from_resources(to).items()},
        }
        changed = await self._database.statement(
            lambda connection: first(connection.execute(moves.RESIZE, parameters))
        )
        if changed is None:
            await self._refuse(desktop_id, lambda one: resize_desktop(one, generation, to))
        return to_desktop(changed)

    async def begin_reset(
        self,
        desktop_id: str,
        generation: int,
        deadline_at: Instant,
        job: Job,
        *,
        image_id: str | None = None,
    ) -> Desktop:
        parameters = {
            "key": desktop_id,
            "wanted": generation,
            "deadline": deadline_at,
            "image": image_id,
        }

        def work(connection: sa.Connection) -> Desktop | None:
            row = first(connection.execute(moves.BEGIN_RESET, parameters))
            if row is None:
                return None
            desktop = to_desktop(row)
            moves.add_job(connection, job, desktop)
            return desktop

        begun = await self._database.transaction(work)
        if begun is None:
            await self._refuse(desktop_id, lambda one: begin_reset(one, generation, deadline_at))
        return begun

    async def resets_waiting(self, full: Sequence[str], limit: int) -> tuple[Desktop, ...]:
        parameters: Values = {"full": list(full), "most": limit}

        def work(connection: sa.Connection) -> Sequence[Row]:
            return connection.execute(_RESETS_WAITING, parameters).all()

        return tuple(map(to_desktop, await self._database.read(work)))

    async def _refuse(self, desktop_id: str, rule: Callable[[Desktop | None], Desktop]) -> NoReturn:
        """Say why nothing was changed: the same rules raise it."""
        rule(await self.desktop(desktop_id))
        raise IllegalTransitionError("the desktop changed at the same moment")

    async def known(self, desktop_ids: Sequence[str]) -> tuple[Desktop, ...]:
        def work(connection: sa.Connection) -> Sequence[Row]:
            return connection.execute(_KNOWN, {"ids": list(desktop_ids)}).all()

        return tuple(map(to_desktop, await self._database.read(work))) if desktop_ids else ()

    async def on_host(self, host_id: str, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        # state by state, for each then is a range of the index
        wanted = sorted({str(state) for state in states})

        def work(connection: sa.Connection) -> list[Desktop]:
            return [
                to_desktop(row)
                for statement in (_ON_HOST, _COMING)
                for state in wanted
                for row in connection.execute(
                    statement, {"host": host_id, "wanted": state, "most": limit}
                ).all()
            ]

        found = await self._database.view(work)
        return tuple(sorted(found, key=lambda one: one.name)[:limit])

    async def of_pool(
        self,
        pool_id: str,
        states: Iterable[str],
        limit: int,
        *,
        unowned: bool = False,
        unlike: Resources | None = None,
    ) -> tuple[Desktop, ...]:
        statement = _OF_POOL
        parameters: Values = {
            "pool": pool_id,
            "states": sorted({str(one) for one in states} - {DesktopState.DELETED.value}),
            "most": limit,
        }
        if unowned:
            statement = statement.where(t.desktops.c.owner_id.is_(None))
        if unlike is not None:
            statement = statement.where(_UNLIKE)
            parameters |= {f"not_{name}": one for name, one in from_resources(unlike).items()}

        def work(connection: sa.Connection) -> Sequence[Row]:
            return connection.execute(statement, parameters).all()

        return tuple(map(to_desktop, await self._database.read(work)))

    async def outdated(self, limit: int) -> tuple[Desktop, ...]:
        def work(connection: sa.Connection) -> list[Desktop]:
            found: list[Desktop] = []
            for pool_id in connection.execute(POOLS_WITH_OLD).scalars().all():
                parameters = {"pool": pool_id, "most": limit}
                rows = [
                    to_desktop(row)
                    for statement in OUTDATED
                    for row in connection.execute(statement, parameters).all()
                ]
                found += _first_changed(rows, limit)
            return found

        found = await self._database.view(work)
        return _first_changed(found, len(found))

    async def awaited(self, limit: int) -> tuple[Desktop, ...]:
        def work(connection: sa.Connection) -> list[Desktop]:
            return [
                to_desktop(row)
                for statement in AWAITED
                for row in connection.execute(statement, {"most": limit}).all()
            ]

        return _first_changed(await self._database.view(work), limit)

    async def counts(self, *, owned: bool = False) -> Mapping[tuple[str, str], int]:
        statement = _OWNED_COUNTS if owned else COUNTS
        return await self._database.read(
            lambda connection: {
                (pool_id, state): count
                for pool_id, _, state, count in connection.execute(statement).all()
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
        return _first_changed(await run(work), limit)

    async def failed(self, limit: int) -> tuple[Desktop, ...]:
        def work(connection: sa.Connection) -> list[Desktop]:
            return [
                to_desktop(row)
                for statement in FAILED
                for row in connection.execute(statement, {"most": limit}).all()
            ]

        return tuple(await self._database.view(work))

    async def expired(self, now: Instant, limit: int) -> tuple[Desktop, ...]:
        def work(connection: sa.Connection) -> Sequence[Row]:
            return connection.execute(_EXPIRED, {"now": now, "most": limit}).all()

        return tuple(map(to_desktop, await self._database.read(work)))


def _first_changed(desktops: Iterable[Desktop], limit: int) -> tuple[Desktop, ...]:
    """The longest unchanged ones."""
    return tuple(sorted(desktops, key=lambda one: (one.changed_at, one.id))[:limit])


def _check_open(connection: sa.Connection, host_ids: set[str]) -> None:
    """Who closes one of these hosts waits for this transaction. Raises IllegalTransitionError."""
    for name, state in connection.execute(_CLOSED, {"ids": sorted(host_ids)}).all():
        if state != HostState.UP.value:
            raise closed_host(name)
