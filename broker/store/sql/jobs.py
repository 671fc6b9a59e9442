"""Engine work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import JOB as LIFECYCLE
from broker.domain.lifecycle import JobEvent
from broker.domain.model import Instant, Job, JobState
from broker.ports import Page, PageQuery
from broker.store.moves import counted, move_job
from broker.store.sql import tables as t
from broker.store.sql.pages import Listing, equals
from broker.store.sql.rows import Row, Values
from broker.store.sql.rows.machines import JOB, to_job
from broker.store.sql.runner import Database
from broker.store.sql.schema import among
from broker.store.sql.statements import by_state, constant, first, takes

_LISTING = Listing(
    JOB,
    t.jobs.c.id,
    equals(t.jobs.c.state, t.jobs.c.verb, t.jobs.c.desktop_id, t.jobs.c.host_id),
    descending=True,
)
_ONE = sa.select(*JOB).where(t.jobs.c.id == sa.bindparam("key"))
_DUE = (
    sa.select(t.jobs.c.id)
    .where(among("state", [JobState.QUEUED]), t.jobs.c.not_before_at <= sa.bindparam("now"))
    .order_by(t.jobs.c.created_at, t.jobs.c.id)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
# A CTE, not a subquery: PostgreSQL may run a subquery again for each row that it updates, and with
# SKIP LOCKED every run finds other rows, past the limit. A CTE that locks is run once.
_DUE_ONCE = _DUE.cte("due")
_TAKE = (
    sa.update(t.jobs)
    .where(t.jobs.c.id.in_(sa.select(_DUE_ONCE.c.id)))
    .values(
        prior_state=t.jobs.c.state,
        state=constant(LIFECYCLE.advance(JobState.QUEUED, JobEvent.STARTED)),
        attempts=t.jobs.c.attempts + 1,
        deadline_at=sa.bindparam("deadline"),
    )
    .returning(*JOB)
)
_EXPIRED = (
    sa.select(*JOB)
    .where(t.jobs.c.deadline_at <= sa.bindparam("now"))
    .order_by(t.jobs.c.deadline_at, t.jobs.c.id)
    .limit(sa.bindparam("most"))
)


def _advancing(event: JobEvent) -> sa.Update:
    now = sa.bindparam("now", type_=sa.BigInteger)
    back = sa.bindparam("not_before", type_=sa.BigInteger)
    state = t.jobs.c.state

    def finished(to: JobState) -> sa.ColumnElement[Any]:
        return now if to in LIFECYCLE.terminal else sa.null()

    def not_before(to: JobState) -> sa.ColumnElement[int]:
        return back if to in LIFECYCLE.first else t.jobs.c.not_before_at

    return (
        sa.update(t.jobs)
        .where(t.jobs.c.id == sa.bindparam("key"), takes(LIFECYCLE, event))
        .values(
            prior_state=state,
            state=by_state(state, LIFECYCLE, event, constant),
            attempts=t.jobs.c.attempts + counted(event),
            deadline_at=None,
            not_before_at=by_state(state, LIFECYCLE, event, not_before),
            error=sa.bindparam("words"),
            finished_at=by_state(state, LIFECYCLE, event, finished),
        )
        .returning(*JOB)
    )


_ADVANCING = {event: _advancing(event) for event in JobEvent}


class SqlJobs:
    """Implements broker.ports.JobStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def job(self, job_id: str) -> Job | None:
        row = await self._database.read(
            lambda connection: first(connection.execute(_ONE, {"key": job_id}))
        )
        return to_job(row) if row is not None else None

    async def jobs(self, query: PageQuery) -> Page[Job]:
        statement = _LISTING.statement(query)

        def work(connection: sa.Connection) -> Page[Job]:
            rows, after = _LISTING.fetch(connection, query, statement)
            return Page(items=tuple(map(to_job, rows)), next_after=after)

        return await self._database.read(work)

    async def take(self, now: Instant, deadline_at: Instant, limit: int) -> tuple[Job, ...]:
        parameters = {"now": now, "deadline": deadline_at, "most": limit}
        rows = await self._database.statement(
            lambda connection: connection.execute(_TAKE, parameters).all()
        )
        return tuple(sorted(map(to_job, rows), key=lambda one: (one.created_at, one.id)))

    async def advance(
        self,
        job_id: str,
        event: JobEvent,
        now: Instant,
        *,
        error: str = "",
        not_before_at: Instant = 0,
    ) -> Job:
        parameters = {"key": job_id, "now": now, "words": error, "not_before": not_before_at}
        row = await self._database.statement(
            lambda connection: first(connection.execute(_ADVANCING[event], parameters))
        )
        if row is None:
            # say why: the same rules raise it
            move_job(await self.job(job_id), event, now)
            raise IllegalTransitionError("the job changed at the same moment")
        return to_job(row)

    async def expired(self, now: Instant, limit: int) -> tuple[Job, ...]:
        parameters: Values = {"now": now, "most": limit}

        def work(connection: sa.Connection) -> Sequence[Row]:
            return connection.execute(_EXPIRED, parameters).all()

        return tuple(map(to_job, await self._database.read(work)))
