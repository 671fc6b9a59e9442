"""Endpoints and their presence, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.domain.errors import AlreadyExistsError
from broker.domain.keeping import keeps_work
from broker.domain.lifecycle import DESKTOP, ENDPOINT, EndpointEvent
from broker.domain.model import Desktop, Endpoint, EndpointKind, EndpointState, Instant
from broker.ports import Page, PageQuery
from broker.store.memory.state import State, page
from broker.store.moves import (
    IDLE_MOVES,
    KEPT_MOVES,
    check_enrolment,
    idle_deadline,
    move_desktop,
    move_endpoint,
)
from broker.store.paging import check_query, folded


class MemoryEndpoints:
    """Implements broker.ports.EndpointStore."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def endpoint(self, endpoint_id: str) -> Endpoint | None:
        return self._state.endpoints.get(endpoint_id)

    async def endpoint_by_name(self, name: str) -> Endpoint | None:
        return self._state.endpoints.get(self._state.names["endpoints"].get(name, ""))

    async def endpoints(self, query: PageQuery) -> Page[Endpoint]:
        check_query(query, filters={"state", "kind", "pool_id", "location"}, text=True)
        wanted = {name: value for name, value in query.filters.items() if name != "pool_id"}
        pool_id, part = query.filters.get("pool_id"), folded(query.text or "")
        rows = (
            one
            for one in self._state.endpoints.values()
            if all(getattr(one, name) == value for name, value in wanted.items())
            and (pool_id is None or pool_id in one.pool_ids)
            and part in folded(one.name)
        )
        return page(rows, query, lambda one: one.name)

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
        old = await self.endpoint_by_name(name)
        if old is not None:
            check_enrolment(old, kind)
            endpoint = replace(old, public_key=public_key, agent_version=agent_version)
        elif new_id in self._state.endpoints:
            raise AlreadyExistsError
        else:
            endpoint = Endpoint(
                id=new_id,
                name=name,
                kind=kind,
                location=location,
                state=ENDPOINT.first[0],
                public_key=public_key,
                pool_ids=(),
                agent_version=agent_version,
                last_seen_at=None,
                created_at=now,
            )
        self._state.put_named("endpoints", self._state.endpoints, endpoint.id, name, endpoint)
        return endpoint

    async def presence(
        self,
        endpoint_id: str,
        event: EndpointEvent,
        now: Instant,
        *,
        agent_version: str | None = None,
        fresh_deadline_at: Instant | None = None,
    ) -> Endpoint:
        old = self._state.endpoints.get(endpoint_id)
        moved = move_endpoint(old, event, now, agent_version=agent_version)
        self._state.endpoints[endpoint_id] = moved
        for desktop in self._idle(moved):
            pool = self._state.pools[desktop.pool_id]
            kept = keeps_work(pool, desktop.owner_id)
            idle = KEPT_MOVES[event] if kept else IDLE_MOVES[event]
            if DESKTOP.allows(desktop.state, idle):
                state = DESKTOP.advance(desktop.state, idle)
                deadline_at = idle_deadline(state, fresh_deadline_at)
                self._state.put_desktop(move_desktop(desktop, idle, now, deadline_at=deadline_at))
        return moved

    def _idle(self, endpoint: Endpoint) -> list[Desktop]:
        ids = self._state.endpoint_desktops[endpoint.id]
        return [self._state.desktops[one] for one in ids]

    async def seen(self, endpoint_ids: Sequence[str], now: Instant) -> tuple[str, ...]:
        offline: list[str] = []
        for endpoint_id in endpoint_ids:
            endpoint = self._state.endpoints.get(endpoint_id)
            if endpoint is not None:
                self._state.endpoints[endpoint_id] = replace(endpoint, last_seen_at=now)
                if endpoint.state is EndpointState.OFFLINE:
                    offline.append(endpoint_id)
        return tuple(offline)

    async def silent(self, before: Instant, limit: int) -> tuple[Endpoint, ...]:
        found = [
            one
            for one in self._state.endpoints.values()
            if one.state is EndpointState.ONLINE
            and one.last_seen_at is not None
            and one.last_seen_at < before
        ]
        found.sort(key=lambda one: (one.last_seen_at or 0, one.id))
        return tuple(found[:limit])
