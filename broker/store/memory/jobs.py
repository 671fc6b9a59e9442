"""Engine work, in memory."""

from __future__ import annotations

from broker.domain.lifecycle import JobEvent
from broker.domain.model import Instant, Job, JobState
from broker.ports import Page, PageQuery
from broker.store.memory.state import State, overdue, page
from broker.store.moves import move_job
from broker.store.paging import check_query

_FIELDS = {"state", "verb", "desktop_id", "host_id"}


class MemoryJobs:
    """Implements broker.ports.JobStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def job(self, job_id: str) -> Job | None:
        return self._state.jobs.get(job_id)

    async def jobs(self, query: PageQuery) -> Page[Job]:
        check_query(query, filters=_FIELDS, text=False)
        rows = (
            one
            for one in self._state.jobs.values()
            if all(getattr(one, name) == value for name, value in query.filters.items())
        )
        return page(rows, query, lambda one: one.id, descending=True)

    async def take(self, now: Instant, deadline_at: Instant, limit: int) -> tuple[Job, ...]:
        due = [
            one
            for one in self._state.open_jobs.values()
            if one.state is JobState.QUEUED and one.not_before_at <= now
        ]
        due.sort(key=lambda one: (one.created_at, one.id))
        taken = [
            move_job(one, JobEvent.STARTED, now, deadline_at=deadline_at, error=one.error)
            for one in due[:limit]
        ]
        for job in taken:
            self._state.put_job(job)
        return tuple(taken)

    async def advance(
        self,
        job_id: str,
        event: JobEvent,
        now: Instant,
        *,
        error: str = "",
        not_before_at: Instant = 0,
    ) -> Job:
        moved = move_job(
            self._state.jobs.get(job_id), event, now, error=error, not_before_at=not_before_at
        )
        self._state.put_job(moved)
        return moved

    async def expired(self, now: Instant, limit: int) -> tuple[Job, ...]:
        return overdue(self._state.open_jobs.values(), now, limit)
