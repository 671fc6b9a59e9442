"""Sessions. What claims and queues do is in claims.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import SESSION as LIFECYCLE
from broker.domain.lifecycle import (
    SESSION_HOLDS_DESKTOP,
    SessionEvent,
)
from broker.domain.model import Instant, PhaseReport, Pool, Session, SessionState, Traffic
from broker.domain.policy.rules import Quota, QuotaScope
from broker.domain.queueing import Waiting
from broker.limits import CLAIM_BATCH_MAX
from broker.ports import ClaimOutcome, ClaimRequest, Page, PageQuery, Release, SessionChange
from broker.store.moves import check_session_event, move_session, note_phases
from broker.store.paging import LIVE_VALUES
from broker.store.reasons import moved_entry
from broker.store.sql import claims
from broker.store.sql import tables as t
from broker.store.sql.audit import insert_entries
from broker.store.sql.counting import count
from broker.store.sql.desktop_moves import give_back
from broker.store.sql.pages import Listing, equals
from broker.store.sql.queued import waiting
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.sessions import (
    SESSION,
    notice_text,
    phases_text,
    to_session,
    wish_text,
)
from broker.store.sql.runner import Database
from broker.store.sql.schema import among
from broker.store.sql.statements import any_of, by_state, constant, first, takes

_OVER = among("state", LIFECYCLE.terminal)
_LISTING = Listing(
    SESSION,
    t.sessions.c.id,
    {
        **equals(
            t.sessions.c.user_id,
            t.sessions.c.pool_id,
            t.sessions.c.desktop_id,
            t.sessions.c.endpoint_id,
            t.sessions.c.state,
            t.sessions.c.architecture,
        ),
        "live": lambda value: t.LIVE if LIVE_VALUES[value] else _OVER,
    },
    descending=True,
)
_ONE = sa.select(*SESSION).where(t.sessions.c.id == sa.bindparam("key"))
_ONE_LOCKED = _ONE.with_for_update(key_share=True)
_EXPIRED = (
    sa.select(*SESSION)
    .where(t.sessions.c.deadline_at <= sa.bindparam("now"))
    .order_by(t.sessions.c.deadline_at, t.sessions.c.id)
    .limit(sa.bindparam("most"))
)
_QUEUES = (
    sa.select(t.sessions.c.pool_id, sa.func.count()).where(t.QUEUED).group_by(t.sessions.c.pool_id)
)
_ABANDONED = (
    sa.select(*SESSION)
    .where(t.QUEUED, t.sessions.c.active_at < sa.bindparam("before"))
    .order_by(t.sessions.c.active_at, t.sessions.c.id)
    .limit(sa.bindparam("most"))
)
_SHOWN = (
    sa.select(*SESSION)
    .where(
        among("state", [SessionState.ACTIVE]),
        t.sessions.c.endpoint_id.is_(None),
        t.sessions.c.display.is_not(None),
    )
    .order_by(t.sessions.c.id)
)
_SEEN_AT = sa.bindparam("seen_at", type_=sa.BigInteger)
_ACTIVE = (
    sa.update(t.sessions)
    .where(
        t.sessions.c.id == sa.bindparam("key"),
        sa.or_(t.sessions.c.active_at.is_(None), t.sessions.c.active_at < _SEEN_AT),
    )
    .values(active_at=_SEEN_AT)
)
_SOME = sa.select(*SESSION).where(any_of(t.sessions.c.id, "ids"))
_AT_ENDPOINTS = sa.select(*SESSION).where(
    any_of(t.sessions.c.endpoint_id, "ids"), any_of(t.sessions.c.state, "states")
)
_WITH_DESKTOPS = sa.select(*SESSION).where(
    any_of(t.sessions.c.desktop_id, "ids"), any_of(t.sessions.c.state, "states")
)
_NOTE = (
    sa.update(t.sessions)
    .where(t.sessions.c.id == sa.bindparam("key"))
    .values(
        phases=sa.bindparam("new_phases"),
        control_bytes=sa.bindparam("control"),
        display_bytes=sa.bindparam("display_size"),
        image_bytes=sa.bindparam("image"),
        revision=sa.bindparam("new_revision"),
    )
)
_CARRY = (
    sa.update(t.sessions)
    .where(t.sessions.c.id == sa.bindparam("key"))
    .values(
        control_bytes=t.sessions.c.control_bytes + sa.bindparam("control"),
        display_bytes=t.sessions.c.display_bytes + sa.bindparam("display_size"),
        image_bytes=t.sessions.c.image_bytes + sa.bindparam("image"),
    )
)


def _advancing(event: SessionEvent) -> sa.Update:
    row = t.sessions.c
    now = sa.bindparam("now", type_=sa.BigInteger)
    wanted = sa.bindparam("wanted", type_=sa.Integer)
    seen = sa.bindparam("seen", type_=sa.Integer)
    lease = sa.bindparam("lease", type_=sa.BigInteger)
    moves = sa.bindparam("moves", type_=sa.Integer)
    unwished = sa.bindparam("unwished", type_=sa.Integer)

    def kept(column: sa.Column[Any], name: str) -> sa.ColumnElement[Any]:
        return sa.func.coalesce(sa.bindparam(name, type_=column.type), column)

    def live_at(to: SessionState) -> sa.ColumnElement[int]:
        return sa.func.coalesce(row.live_at, now) if to is SessionState.ACTIVE else row.live_at

    def ended_at(to: SessionState) -> sa.ColumnElement[int]:
        return now if to in LIFECYCLE.terminal else row.ended_at

    return (
        sa.update(t.sessions)
        .where(
            row.id == sa.bindparam("key"),
            takes(LIFECYCLE, event),
            sa.or_(wanted.is_(None), row.generation == wanted),
            sa.or_(seen.is_(None), row.revision == seen),
        )
        .values(
            prior_state=row.state,
            state=by_state(row.state, LIFECYCLE, event, constant),
            endpoint_id=sa.case(
                (moves == 0, row.endpoint_id), else_=sa.bindparam("moves_to", type_=sa.Text)
            ),
            browser=sa.case(
                (moves == 0, row.browser), else_=sa.bindparam("moves_to_browser", type_=sa.Text)
            ),
            display=sa.case((moves == 0, kept(row.display, "displayed"))),
            deadline_at=sa.bindparam("deadline"),
            revision=row.revision + 1,
            why=sa.bindparam("words"),
            live_at=by_state(row.state, LIFECYCLE, event, live_at),
            ended_at=by_state(row.state, LIFECYCLE, event, ended_at),
            lease_until=sa.func.coalesce(lease, row.lease_until),
            active_at=kept(row.active_at, "active"),
            ends_at=kept(row.ends_at, "ends"),
            wish=sa.case((unwished == 0, kept(row.wish, "wished"))),
            notice=kept(row.notice, "noticed"),
        )
        .returning(row.prior_state, *SESSION)
    )


_ADVANCING = {event: _advancing(event) for event in SessionEvent}


class SqlSessions:
    """Implements broker.ports.SessionStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, requests: Sequence[ClaimRequest], now: Instant
    ) -> tuple[ClaimOutcome, ...]:
        if len(requests) > CLAIM_BATCH_MAX:
            raise ValueError(f"a batch holds at most {CLAIM_BATCH_MAX} claims")
        work = partial(claims.claim, tuple(requests), now)
        return await self._database.transaction(work, again_on_duplicate=True)

    async def session(self, session_id: str) -> Session | None:
        row = await self._database.read(
            lambda connection: first(connection.execute(_ONE, {"key": session_id}))
        )
        return to_session(row) if row is not None else None

    async def some(self, session_ids: Sequence[str]) -> tuple[Session, ...]:
        return await self._many(_SOME, {"ids": list(session_ids)}) if session_ids else ()

    async def sessions(self, query: PageQuery) -> Page[Session]:
        statement = _LISTING.statement(query)

        def work(connection: sa.Connection) -> Page[Session]:
            rows, after = _LISTING.fetch(connection, query, statement)
            return Page(items=tuple(map(to_session, rows)), next_after=after)

        return await self._database.read(work)

    async def waiting(self, pool_id: str) -> tuple[Waiting, ...]:
        found = await self._database.read(partial(waiting, [pool_id]))
        return tuple(found.get(pool_id, ()))

    async def serve_queue(
        self, pool: Pool, order: Sequence[str], deadline_at: Instant, now: Instant
    ) -> tuple[Session, ...]:
        if not order:
            return ()
        work = partial(claims.serve_queue, pool, tuple(order), deadline_at, now)
        return await self._database.transaction(work, again_on_duplicate=True)

    async def advance(  # noqa: PLR0913 - as the port has it
        self,
        session_id: str,
        event: SessionEvent,
        now: Instant,
        *,
        why: str,
        deadline_at: Instant | None = None,
        generation: int | None = None,
        revision: int | None = None,
        lease_until: Instant | None = None,
        release: Release | None = None,
        change: SessionChange | None = None,
        actor: str = "broker",
        request_id: str = "",
        source: str = "",
    ) -> Session:
        check_session_event(event)
        parameters: Values = {
            "key": session_id,
            "now": now,
            "words": why,
            "deadline": deadline_at,
            "wanted": generation,
            "seen": revision,
            "lease": lease_until,
            **_changes(change or SessionChange()),
        }
        who: Values = {"actor": actor, "request_id": request_id, "source": source}
        work = partial(_advance, event, parameters, release, who)
        moved = await self._database.transaction(work)
        if moved is None:
            # say why: the same rules raise it
            found = await self.session(session_id)
            move_session(found, event, now, why=why, generation=generation, revision=revision)
            raise IllegalTransitionError("the session changed at the same moment")
        return moved

    async def active(self, session_ids: Mapping[str, Instant]) -> None:
        # in one order for all, or two brokers could wait for each other
        rows = [{"key": one, "seen_at": at} for one, at in sorted(session_ids.items())]

        def work(connection: sa.Connection) -> None:
            connection.execute(_ACTIVE, rows)

        if rows:
            await self._database.transaction(work)

    async def queue_lengths(self) -> Mapping[str, int]:
        rows = await self._database.read(lambda each: each.execute(_QUEUES).all())
        return {row[0]: row[1] for row in rows}

    async def abandoned(self, before: Instant, limit: int) -> tuple[Session, ...]:
        return await self._many(_ABANDONED, {"before": before, "most": limit})

    async def dark(self, signs: Sequence[str], limit: int) -> tuple[Session, ...]:
        display = t.sessions.c.display
        elsewhere = [~display.startswith(f"{sign}.", autoescape=True) for sign in signs]
        return await self._many(_SHOWN.where(*elsewhere).limit(limit), {})

    async def counts(self, quotas: Sequence[Quota]) -> Mapping[str, int]:
        shared = [one for one in quotas if one.scope is not QuotaScope.USER]
        return await self._database.view(partial(count, shared)) if shared else {}

    async def note_phases(
        self, session_id: str, phases: Sequence[PhaseReport], traffic: Traffic
    ) -> None:
        work = partial(_note, session_id, tuple(phases), traffic)
        run = self._database.transaction if phases else self._database.statement
        await run(work)

    async def expired(self, now: Instant, limit: int) -> tuple[Session, ...]:
        return await self._many(_EXPIRED, {"now": now, "most": limit})

    async def at_endpoints(
        self, endpoint_ids: Sequence[str], states: Iterable[SessionState]
    ) -> tuple[Session, ...]:
        wanted = sorted(state.value for state in states)
        return await self._many(_AT_ENDPOINTS, {"ids": list(endpoint_ids), "states": wanted})

    async def with_desktops(
        self, desktop_ids: Sequence[str], states: Iterable[SessionState]
    ) -> tuple[Session, ...]:
        wanted = sorted(state.value for state in states)
        return await self._many(_WITH_DESKTOPS, {"ids": list(desktop_ids), "states": wanted})

    async def _many(self, statement: sa.Select[Any], parameters: Values) -> tuple[Session, ...]:
        def work(connection: sa.Connection) -> Sequence[Row]:
            return connection.execute(statement, parameters).all()

        return tuple(map(to_session, await self._database.read(work)))


def _changes(change: SessionChange) -> Values:
    return {
        "active": change.active_at,
        "ends": change.ends_at,
        "noticed": notice_text(change.notice),
        "wished": wish_text(change.wish),
        "unwished": int(change.clear_wish),
        "moves": int(change.move),
        "moves_to": change.move_to,
        "moves_to_browser": change.move_to_browser,
        "displayed": change.display,
    }


def _advance(
    event: SessionEvent,
    parameters: Values,
    release: Release | None,
    who: Values,
    connection: sa.Connection,
) -> Session | None:
    row = first(connection.execute(_ADVANCING[event], parameters))
    if row is None:
        return None
    came_from, session, now = SessionState(row[0]), to_session(row[1:]), parameters["now"]
    if (
        release is not None
        and session.desktop_id is not None
        and came_from in SESSION_HOLDS_DESKTOP
        and session.state not in SESSION_HOLDS_DESKTOP
    ):
        give_back(connection, session.desktop_id, release, now)
    entry = moved_entry(session, event, now, why=parameters["words"], came_from=came_from, **who)
    insert_entries(connection, [entry])
    return session


def _note(
    session_id: str,
    phases: tuple[PhaseReport, ...],
    traffic: Traffic,
    connection: sa.Connection,
) -> None:
    if not phases:
        parameters: Values = {
            "key": session_id,
            "control": traffic.control,
            "display_size": traffic.display,
            "image": traffic.image,
        }
        connection.execute(_CARRY, parameters)
        return
    row = first(connection.execute(_ONE_LOCKED, {"key": session_id}))
    if row is None:
        return
    noted = note_phases(to_session(row), phases, traffic)
    connection.execute(
        _NOTE,
        {
            "key": session_id,
            "new_phases": phases_text(noted.phases),
            "control": noted.traffic.control,
            "display_size": noted.traffic.display,
            "image": noted.traffic.image,
            "new_revision": noted.revision,
        },
    )
