"""The support gateway's questions, answered by the services."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from broker.domain.errors import NotFoundError
from broker.domain.model import Desktop, Identity, Instant, Session
from broker.domain.roles import Permission, allows
from broker.gateway.support import DesktopView, EndpointView, SessionView
from broker.limits import SSH_ROWS_MAX
from broker.ports import Overview, PageQuery
from broker.services.bundle import Services

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def age(now: Instant, then: Instant | None) -> str:
    """How long ago, in words: "never", "12 s", "5 min", "3 h", "9 d"."""
    if then is None:
        return "never"
    seconds = max(0, now - then) // 1000
    for unit, size in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


class Staff:
    """The Support of `gateway/support.py`, over the services."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.kit.store

    async def authenticate(self, username: str, password: str, address: str) -> Identity | None:
        """Who may look: anybody with the permission to read. Braked as every other sign-in."""
        user = await self._services.accounts.check(username, password, address)
        if not allows(user.role, Permission.READ):
            return None
        return Identity(
            user_id=user.id,
            username=user.username,
            role=user.role,
            token_id="",
            group_ids=user.group_ids,
        )

    async def refresh(self, identity: Identity) -> Identity | None:
        user = await self._store.directory.user(identity.user_id)
        if user is None or not user.enabled or not allows(user.role, Permission.READ):
            return None
        return replace(identity, role=user.role, group_ids=user.group_ids)

    async def overview(self) -> Overview:
        return await self._store.overview()

    # ------------------------------------------------------------------ sessions

    async def sessions(self, text: str, limit: int) -> Sequence[SessionView]:
        query = PageQuery(limit=SSH_ROWS_MAX, filters={"live": "true"})
        page = await self._store.sessions.sessions(query)
        views = await self._views(page.items)
        wanted = text.casefold()
        found = [
            view
            for view in views
            if wanted
            in f"{view.id} {view.username} {view.pool} {view.state} "
            f"{view.desktop} {view.endpoint}".casefold()
        ]
        return found[:limit]

    async def session(self, session_id: str) -> SessionView:
        session = await self._store.sessions.session(session_id)
        if session is None:
            raise NotFoundError(f"there is no session {session_id!r}")
        [view] = await self._views([session])
        return view

    async def end(self, identity: Identity, session_id: str) -> SessionView:
        session = await self._services.sessions.log_off(identity, session_id)
        [view] = await self._views([session])
        return view

    async def _names(self, kind: str, ids: Collection[str | None]) -> Mapping[str, str]:
        known = {one for one in ids if one is not None}
        return await self._store.directory.names_of(kind, known) if known else {}

    async def _pool_names(self) -> Mapping[str, str]:
        return {pool.id: pool.name for pool in await self._services.pools.all()}

    async def _views(self, sessions: Sequence[Session]) -> list[SessionView]:
        users = await self._names("users", {one.user_id for one in sessions})
        desktops = await self._names("desktops", {one.desktop_id for one in sessions})
        endpoints = await self._names("endpoints", {one.endpoint_id for one in sessions})
        pools, now = await self._pool_names(), self._services.kit.clock.now()
        return [
            SessionView(
                id=one.id,
                username=users.get(one.user_id, one.user_id),
                pool=pools.get(one.pool_id, one.pool_id),
                architecture=one.architecture,
                state=one.state,
                desktop=desktops.get(one.desktop_id or "", ""),
                endpoint=endpoints.get(one.endpoint_id or "", ""),
                age=age(now, one.requested_at),
                why=one.why,
            )
            for one in sessions
        ]

    # ------------------------------------------------------------------ desktops, endpoints

    async def desktops(self, text: str, limit: int) -> Sequence[DesktopView]:
        query = PageQuery(limit=limit, text=text or None)
        desktops = (await self._store.desktops.desktops(query)).items
        pools, places = await self._pool_names(), await self._places(desktops)
        return [
            DesktopView(
                name=one.name,
                pool=pools.get(one.pool_id, one.pool_id),
                state=one.state,
                place=places.get(one.host_id or one.endpoint_id or "", ""),
                generation=one.generation,
                note=one.note,
            )
            for one in desktops
        ]

    async def _places(self, desktops: Sequence[Desktop]) -> Mapping[str, str]:
        endpoints = await self._names("endpoints", {one.endpoint_id for one in desktops})
        loads = await self._store.directory.host_loads()
        return {load.host.id: load.host.name for load in loads} | dict(endpoints)

    async def endpoints(self, text: str, limit: int) -> Sequence[EndpointView]:
        query = PageQuery(limit=limit, text=text or None)
        now = self._services.kit.clock.now()
        return [
            EndpointView(
                name=one.name,
                kind=one.kind,
                state=one.state,
                location=one.location,
                seen=age(now, one.last_seen_at),
            )
            for one in (await self._store.endpoints.endpoints(query)).items
        ]
