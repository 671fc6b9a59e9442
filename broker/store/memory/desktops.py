"""Desktops, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from broker.domain.audit import AuditEntry
from broker.domain.errors import AlreadyExistsError
from broker.domain.images import is_outdated
from broker.domain.lifecycle import HOST_RUNS, DesktopEvent
from broker.domain.model import (
    Desktop,
    DesktopState,
    EndpointState,
    HostState,
    Instant,
    Job,
    Resources,
    SessionState,
    WorkLease,
)
from broker.ports import Page, PageQuery
from broker.store.loads import waits_for_reset
from broker.store.memory.audit import insert_entries
from broker.store.memory.leases import hold_lease
from broker.store.memory.state import State, overdue, page
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
from broker.store.paging import check_query, folded

_FIELDS = {"pool_id", "host_id", "endpoint_id", "state", "architecture", "image_id"}
_SPARE = frozenset({DesktopState.READY, DesktopState.SUSPENDED})


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

    async def add(
        self,
        desktops: Sequence[Desktop],
        jobs: Sequence[Job],
        *,
        entries: Sequence[AuditEntry] = (),
        lease: WorkLease | None = None,
    ) -> None:
        check_new(desktops, jobs)
        state = self._state
        if lease is not None:
            hold_lease(state.leases, lease)
            for desktop in desktops:
                host = state.hosts.get(desktop.host_id or "")
                if host is not None and host.state is not HostState.UP:
                    raise closed_host(host.name)
        known = dict.fromkeys(state.desktops.keys() | {one.id for one in desktops})
        for job in jobs:
            state.check_job(job, known)
        if len({job.id for job in jobs}) < len(jobs):
            raise AlreadyExistsError
        state.add_desktops(desktops)
        for job in jobs:
            state.add_job(job)
        insert_entries(state.audit, entries)

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
        disown: bool = False,
        job: Job | None = None,
        entry: AuditEntry | None = None,
    ) -> Desktop:
        moved = move_desktop(
            self._state.desktops.get(desktop_id),
            event,
            now,
            generation=generation,
            deadline_at=deadline_at,
            note=note,
            fresh=fresh,
            disown=disown,
        )
        if job is not None:
            self._state.add_job(replace(job, generation=moved.generation))
        self._state.put_desktop(moved)
        insert_entries(self._state.audit, [entry] if entry is not None else ())
        return moved

    async def assign(
        self, desktop_id: str, owner_id: str, generation: int, entry: AuditEntry
    ) -> Desktop:
        state = self._state
        state.must_know(state.users, owner_id)
        owned = [one for one in state.desktops.values() if one.owner_id == owner_id]
        assigned = assign_desktop(state.desktops.get(desktop_id), owner_id, generation, owned)
        state.put_desktop(assigned)
        insert_entries(state.audit, [entry])
        return assigned

    async def begin_move(self, desktop_id: str, to_host_id: str, generation: int, job: Job) -> None:
        state = self._state
        moving = begin_move(state.desktops.get(desktop_id), to_host_id, generation)
        state.must_know(state.hosts, to_host_id)
        state.add_job(replace(job, generation=moving.generation))
        state.put_desktop(moving)

    async def end_move(
        self, desktop_id: str, to_host_id: str, generation: int, *, moved: bool
    ) -> Desktop:
        arrived = end_move(
            self._state.desktops.get(desktop_id), to_host_id, generation, moved=moved
        )
        self._state.put_desktop(arrived)
        return arrived

    async def resized(self, desktop_id: str, generation: int, to: Resources) -> Desktop:
        changed = resize_desktop(self._state.desktops.get(desktop_id), generation, to)
        self._state.put_desktop(changed)
        return changed

    async def begin_reset(
        self,
        desktop_id: str,
        generation: int,
        deadline_at: Instant,
        job: Job,
        *,
        image_id: str | None = None,
    ) -> Desktop:
        state = self._state
        begun = begin_reset(state.desktops.get(desktop_id), generation, deadline_at, image_id)
        state.must_know(state.images, image_id)
        state.add_job(replace(job, generation=begun.generation))
        state.put_desktop(begun)
        return begun

    async def resets_waiting(self, full: Sequence[str], limit: int) -> tuple[Desktop, ...]:
        waiting = filter(waits_for_reset, self._state.desktops.values())
        return _first_changed((one for one in waiting if one.host_id not in full), limit)

    async def known(self, desktop_ids: Sequence[str]) -> tuple[Desktop, ...]:
        rows = self._state.desktops
        return tuple(rows[one] for one in sorted(set(desktop_ids)) if one in rows)

    async def on_host(self, host_id: str, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        wanted, rows = set(states), self._state.desktops
        found = [rows[one] for one in self._state.host_desktops[host_id]]
        found = [one for one in found if one.state in wanted]
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
        wanted, rows = set(states), self._state.desktops
        return _first_changed(
            (
                one
                for one in map(rows.__getitem__, self._state.pool_desktops[pool_id])
                if one.state in wanted
                and (not unowned or one.owner_id is None)
                and (unlike is None or one.resources != unlike)
            ),
            limit,
        )

    async def outdated(self, limit: int) -> tuple[Desktop, ...]:
        rows, found = self._state.desktops, list[Desktop]()
        for pool in self._state.pools.values():
            spares = map(rows.__getitem__, self._state.pool_desktops[pool.id])
            old = [one for one in spares if self._is_spare(one) and is_outdated(one, pool)]
            found += _first_changed(old, limit)
        return _first_changed(found, len(found))

    def _is_spare(self, desktop: Desktop) -> bool:
        host = self._state.hosts.get(desktop.host_id or "")
        free = desktop.state in _SPARE and desktop.owner_id is None
        return free and host is not None and host.state is HostState.UP

    async def awaited(self, limit: int) -> tuple[Desktop, ...]:
        return _first_changed(filter(self._is_awaited, self._state.desktops.values()), limit)

    def _is_awaited(self, desktop: Desktop) -> bool:
        state = self._state
        if desktop.state is DesktopState.PARKED:
            session = state.sessions.get(state.held_desktops.get(desktop.id, ""))
            return session is not None and session.state is SessionState.DELIVERING
        asleep = desktop.state in {DesktopState.SUSPENDED, DesktopState.FAILED}
        if asleep and desktop.owner_id is not None:
            place = (desktop.owner_id, desktop.pool_id)
            session = state.sessions.get(state.held_places.get(place, ""))
            return session is not None and session.state is SessionState.QUEUED
        return False

    async def counts(self, *, owned: bool = False) -> Mapping[tuple[str, str], int]:
        return Counter(
            (one.pool_id, one.state.value)
            for one in self._state.desktops.values()
            if one.state is not DesktopState.DELETED and (one.owner_id is not None or not owned)
        )

    async def by_state(self, states: Iterable[str], limit: int) -> tuple[Desktop, ...]:
        wanted, rows = set(states), self._state.desktops.values()
        return _first_changed((one for one in rows if one.state in wanted), limit)

    async def failed(self, limit: int) -> tuple[Desktop, ...]:
        state = self._state
        failed = [one for one in state.desktops.values() if one.state is DesktopState.FAILED]
        present = [
            one
            for one in failed
            if one.endpoint_id is not None
            and state.endpoints[one.endpoint_id].state is EndpointState.ONLINE
        ]
        machines = [one for one in failed if one.host_id is not None]
        spoiled = [one for one in machines if one.owner_id is None]
        owned = [
            one
            for one in machines
            if one.owner_id is not None and state.hosts[one.host_id or ""].state in HOST_RUNS
        ]
        return tuple(
            row for rows in (spoiled, owned, present) for row in _first_changed(rows, limit)
        )

    async def expired(self, now: Instant, limit: int) -> tuple[Desktop, ...]:
        return overdue(self._state.desktops.values(), now, limit)


def _first_changed(desktops: Iterable[Desktop], limit: int) -> tuple[Desktop, ...]:
    """The longest unchanged ones."""
    return tuple(sorted(desktops, key=lambda one: (one.changed_at, one.id))[:limit])
