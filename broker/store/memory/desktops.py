"""Desktops, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from broker.domain.errors import AlreadyExistsError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, Instant, Job
from broker.ports import Page, PageQuery
from broker.store.memory.state import State, overdue, page
from broker.store.moves import check_new, move_desktop
from broker.store.paging import check_query, folded

_FIELDS = {"pool_id", "host_id", "endpoint_id", "state", "architecture"}


class MemoryDesktops:
    """Implements broker.ports.DesktopStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def desktop(self, desktop_id: str) -> Desktop | None:
        return self._state.desktops.get(desktop_id)

    async def desktops(self, query: PageQuery) -> Page[Desktop]:
        check_query(query, filters=_FIELDS, text=True)
        part = folded(query.text or "")
        archive = query.filters.get("state") == DesktopState.DELETED
        rows = (
            one
            for one in self._state.desktops.values()
            if all(getattr(one, name) == value for name, value in query.filters.items())
            and (archive or one.state is not DesktopState.DELETED)
            and part in folded(one.name)
        )
        if archive:
            return page(rows, query, lambda one: one.id, descending=True)
        return page(rows, query, lambda one: one.name)

    async def add(self, desktops: Sequence[Desktop], jobs: Sequence[Job]) -> None:
        check_new(desktops, jobs)
        state = self._state
        known = state.desktops.keys() | {one.id for one in desktops}
        for job in jobs:
            state.must_know(dict.fromkeys(known), job.desktop_id)
            state.must_know(state.hosts, job.host_id)
        ids = [job.id for job in jobs]
        if len(set(ids)) < len(ids) or state.jobs.keys() & set(ids):
            raise AlreadyExistsError
        state.add_desktops(desktops)
        for job in jobs:
            state.add_job(job)

    async def names(self, pool_id: str) -> frozenset[str]:
        state = self._state
        return frozenset(state.desktops[one].name for one in state.pool_desktops[pool_id])

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
        moved = move_desktop(
            self._state.desktops.get(desktop_id),
            event,
            now,
            generation=generation,
            deadline_at=deadline_at,
            note=note,
            fresh=fresh,
        )
        if job is not None:
            self._state.add_job(replace(job, generation=moved.generation))
        self._state.put_desktop(moved)
        return moved

    async def counts(self) -> Mapping[tuple[str, str], int]:
        return Counter(
            (one.pool_id, one.state.value)
            for one in self._state.desktops.values()
            if one.state is not DesktopState.DELETED
        )

    async def by_state(self, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        wanted = set(states)
        found = [one for one in self._state.desktops.values() if one.state in wanted]
        found.sort(key=lambda one: (one.changed_at, one.id))
        return tuple(found[:limit])

    async def expired(self, now: Instant, limit: int) -> tuple[Desktop, ...]:
        return overdue(self._state.desktops.values(), now, limit)
