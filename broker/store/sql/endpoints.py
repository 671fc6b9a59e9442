"""Endpoints and their presence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import DESKTOP as DESKTOP_LIFECYCLE
from broker.domain.lifecycle import ENDPOINT as LIFECYCLE
from broker.domain.lifecycle import DesktopEvent, EndpointEvent
from broker.domain.model import (
    Endpoint,
    EndpointKind,
    EndpointState,
    Instant,
    LogOff,
    PoolKind,
)
from broker.ports import Page, PageQuery
from broker.store.moves import IDLE_MOVES, check_enrolment, move_endpoint
from broker.store.sql import tables as t
from broker.store.sql.desktop_moves import moving
from broker.store.sql.pages import Listing, equals
from broker.store.sql.rows.machines import ENDPOINT, from_endpoint, to_endpoint
from broker.store.sql.runner import Database
from broker.store.sql.schema import among
from broker.store.sql.statements import any_of, by_state, constant, first, grouped, takes

_POOLS_OF_ENDPOINTS = (
    sa.select(t.endpoint_pools.c.endpoint_id, t.endpoint_pools.c.pool_id)
    .where(any_of(t.endpoint_pools.c.endpoint_id, "ids"))
    .order_by(t.endpoint_pools.c.endpoint_id, t.endpoint_pools.c.position)
)
_LISTING = Listing(
    ENDPOINT,
    t.endpoints.c.name,
    {
        **equals(t.endpoints.c.state, t.endpoints.c.kind, t.endpoints.c.location),
        "pool_id": lambda value: t.endpoints.c.id.in_(
            sa.select(t.endpoint_pools.c.endpoint_id).where(t.endpoint_pools.c.pool_id == value)
        ),
    },
    search=t.endpoints.c.search,
)
_WITH_POOLS = (
    sa.select(t.endpoint_pools.c.pool_id, *ENDPOINT)
    .join_from(
        t.endpoints,
        t.endpoint_pools,
        t.endpoint_pools.c.endpoint_id == t.endpoints.c.id,
        isouter=True,
    )
    .order_by(t.endpoint_pools.c.position)
)
_ONE = _WITH_POOLS.where(t.endpoints.c.id == sa.bindparam("key"))
_BY_NAME = _WITH_POOLS.where(t.endpoints.c.name == sa.bindparam("key"))
_ENROL_AGAIN = (
    sa.update(t.endpoints)
    .where(t.endpoints.c.id == sa.bindparam("key"))
    .values(public_key=sa.bindparam("new_key"), agent_version=sa.bindparam("version"))
)
_LOCK_BY_NAME = (
    sa.select(t.endpoints.c.id).where(t.endpoints.c.name == sa.bindparam("key")).with_for_update()
)
_SEEN = (
    sa.update(t.endpoints)
    .where(any_of(t.endpoints.c.id, "ids"))
    .values(last_seen_at=sa.bindparam("now"))
    .returning(t.endpoints.c.id, t.endpoints.c.state)
)
_SILENT = (
    sa.select(*ENDPOINT)
    .where(
        among("state", [EndpointState.ONLINE]),
        t.endpoints.c.last_seen_at < sa.bindparam("before"),
    )
    .order_by(t.endpoints.c.last_seen_at, t.endpoints.c.id)
    .limit(sa.bindparam("most"))
)


def _advancing(event: EndpointEvent) -> sa.Update:
    state = t.endpoints.c.state
    seen_at = (
        t.endpoints.c.last_seen_at
        if event is EndpointEvent.RETIRED
        else sa.bindparam("now", type_=sa.BigInteger)
    )
    version = sa.bindparam("version", type_=sa.Text)
    return (
        sa.update(t.endpoints)
        .where(t.endpoints.c.id == sa.bindparam("key"), takes(LIFECYCLE, event))
        .values(
            prior_state=state,
            state=by_state(state, LIFECYCLE, event, constant),
            agent_version=sa.func.coalesce(version, t.endpoints.c.agent_version),
            last_seen_at=seen_at,
        )
        .returning(*ENDPOINT)
    )


def _moving_idle(event: DesktopEvent) -> sa.Update:
    deadline = sa.bindparam("fresh_deadline", type_=sa.BigInteger)
    state = t.desktops.c.state
    return (
        sa.update(t.desktops)
        .where(
            t.desktops.c.endpoint_id == sa.bindparam("key"),
            takes(DESKTOP_LIFECYCLE, event),
            t.NOT_DELETED,
        )
        .values(
            **moving(event),
            deadline_at=by_state(
                state,
                DESKTOP_LIFECYCLE,
                event,
                lambda to: deadline if to in DESKTOP_LIFECYCLE.transient else sa.null(),
            ),
        )
    )


_KEPT = t.desktops.c.owner_id.is_not(None) & sa.exists(
    sa.select(sa.literal_column("1"))
    .select_from(t.pools)
    .where(
        t.pools.c.id == t.desktops.c.pool_id,
        t.pools.c.kind == constant(PoolKind.DEDICATED),
        t.pools.c.log_off == constant(LogOff.KEEP),
    )
    .correlate(t.desktops)
)
_BACK_KEPT = _moving_idle(DesktopEvent.ENDPOINT_BACK_KEPT).where(_KEPT)
_ADVANCING = {event: _advancing(event) for event in EndpointEvent}
_MOVING_IDLE = {event: _moving_idle(event) for event in set(IDLE_MOVES.values())}


class SqlEndpoints:
    """Implements broker.ports.EndpointStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def endpoint(self, endpoint_id: str) -> Endpoint | None:
        return await self._database.read(partial(_one, _ONE, endpoint_id))

    async def endpoint_by_name(self, name: str) -> Endpoint | None:
        return await self._database.read(partial(_one, _BY_NAME, name))

    async def endpoints(self, query: PageQuery) -> Page[Endpoint]:
        statement = _LISTING.statement(query)

        def work(connection: sa.Connection) -> Page[Endpoint]:
            rows, after = _LISTING.fetch(connection, query, statement)
            return Page(items=_with_pools(connection, rows), next_after=after)

        return await self._database.view(work)

    async def enrol(
        self,
        *,
        name: str,
        kind: EndpointKind,
        location: str,
        public_key: bytes,
        agent_version: str,
        new_id: str,
        now: Instant,
    ) -> Endpoint:
        def work(connection: sa.Connection) -> Endpoint:
            connection.execute(_LOCK_BY_NAME, {"key": name}).all()
            old = _one(_BY_NAME, name, connection)
            if old is not None:
                check_enrolment(old, kind)
                parameters = {"key": old.id, "new_key": public_key, "version": agent_version}
                connection.execute(_ENROL_AGAIN, parameters)
                return replace(old, public_key=public_key, agent_version=agent_version)
            new = Endpoint(
                id=new_id,
                name=name,
                kind=kind,
                location=location,
                state=LIFECYCLE.first[0],
                public_key=public_key,
                pool_ids=(),
                agent_version=agent_version,
                last_seen_at=None,
                created_at=now,
            )
            connection.execute(sa.insert(t.endpoints), from_endpoint(new))
            return new

        return await self._database.transaction(work, again_on_duplicate=True)

    async def presence(
        self,
        endpoint_id: str,
        event: EndpointEvent,
        now: Instant,
        *,
        agent_version: str | None = None,
        fresh_deadline_at: Instant | None = None,
    ) -> Endpoint:
        parameters = {"key": endpoint_id, "now": now, "version": agent_version}
        idle = {"key": endpoint_id, "now": now, "fresh_deadline": fresh_deadline_at}

        def work(connection: sa.Connection) -> Endpoint | None:
            row = first(connection.execute(_ADVANCING[event], parameters))
            if row is None:
                return None
            if event is EndpointEvent.CONNECTED:
                # first: they are ready then, which the next statement leaves alone
                connection.execute(_BACK_KEPT, idle)
            connection.execute(_MOVING_IDLE[IDLE_MOVES[event]], idle)
            return _with_pools(connection, [row])[0]

        moved = await self._database.transaction(work)
        if moved is None:
            # say why: the same rules raise it
            found = await self.endpoint(endpoint_id)
            move_endpoint(found, event, now, agent_version=agent_version)
            raise IllegalTransitionError("the endpoint changed at the same moment")
        return moved

    async def seen(self, endpoint_ids: Sequence[str], now: Instant) -> tuple[str, ...]:
        parameters = {"ids": sorted(endpoint_ids), "now": now}

        def work(connection: sa.Connection) -> tuple[str, ...]:
            rows = connection.execute(_SEEN, parameters).all()
            return tuple(key for key, state in rows if state == EndpointState.OFFLINE)

        return await self._database.statement(work) if endpoint_ids else ()

    async def silent(self, before: Instant, limit: int) -> tuple[Endpoint, ...]:
        def work(connection: sa.Connection) -> tuple[Endpoint, ...]:
            rows = connection.execute(_SILENT, {"before": before, "most": limit}).all()
            return _with_pools(connection, rows)

        return await self._database.view(work)


def _one(statement: sa.Select[Any], key: str, connection: sa.Connection) -> Endpoint | None:
    rows = connection.execute(statement, {"key": key}).all()
    if not rows:
        return None
    return to_endpoint(rows[0][1:], tuple(row[0] for row in rows if row[0] is not None))


def _with_pools(connection: sa.Connection, rows: Sequence[Sequence[Any]]) -> tuple[Endpoint, ...]:
    pools = grouped(connection, _POOLS_OF_ENDPOINTS, (row[0] for row in rows))
    return tuple(to_endpoint(row, pools.get(row[0], ())) for row in rows)
