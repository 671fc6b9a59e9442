"""The support gateway's questions, answered by the services."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import assert_never

from broker.domain.errors import NotFoundError
from broker.domain.model import Desktop, Identity, Instant, Notice, Pool, Session
from broker.domain.placement import HostLoad
from broker.domain.roles import Permission, allows
from broker.domain.session_time import ends_at
from broker.gateway.support import Subject
from broker.gateway.views import (
    DecisionView,
    DesktopView,
    EndpointView,
    HostView,
    PoolPreviewView,
    PreviewView,
    SessionView,
)
from broker.limits import NAME_CHARS_MAX, PAGE_LIMIT_MAX, SSH_ROWS_MAX
from broker.ports import Overview, PageQuery
from broker.services.bundle import Services
from broker.services.decisions import asked, decision
from broker.services.origin import NOWHERE, Origin
from broker.services.preview import PoolPreview

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn(Identity):
    """Who signed in at the gateway, and from which address: the audit trail names both."""

    source: str


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
        return SignedIn(
            user_id=user.id,
            username=user.username,
            role=user.role,
            token_id="",
            group_ids=user.group_ids,
            source=address,
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
        session = await self._services.sessions.log_off(identity, session_id, _origin(identity))
        [view] = await self._views([session])
        return view

    async def message(self, identity: Identity, session_id: str, text: str) -> SessionView:
        # what was said is between the two of them, as over HTTP
        async with self._changing(identity, "session.message", session_id, {"text": "(given)"}):
            session = await self._services.sessions.message(
                identity, session_id, text, _origin(identity)
            )
        [view] = await self._views([session])
        return view

    async def lock(self, identity: Identity, session_id: str) -> SessionView:
        async with self._changing(identity, "session.lock", session_id, {}):
            session = await self._services.guests.lock(identity, session_id)
        [view] = await self._views([session])
        return view

    async def extend(self, identity: Identity, session_id: str, seconds: int) -> SessionView:
        async with self._changing(identity, "session.extend", session_id, {"seconds": seconds}):
            session = await self._services.sessions.extend(
                identity, session_id, seconds, _origin(identity)
            )
        [view] = await self._views([session])
        return view

    def _changing(
        self, identity: Identity, action: str, session_id: str, fields: Mapping[str, object]
    ) -> AbstractAsyncContextManager[None]:
        """Writes what is asked for into the audit trail, and how it ended, as the web does."""
        known = session_id.startswith("ses_") and len(session_id) <= NAME_CHARS_MAX
        target = {} if known else {"target": session_id}
        entry = decision(
            self._services.kit,
            action,
            "over SSH",
            about={"session_id": session_id} if known else {},
            actor=identity.user_id,
            details={"fields": dict(fields), **target},
            origin=_origin(identity),
        )
        return asked(self._services.kit, entry)

    async def _names(self, kind: str, ids: Collection[str | None]) -> Mapping[str, str]:
        known = {one for one in ids if one is not None}
        return await self._store.directory.names_of(kind, known) if known else {}

    async def _pools(self) -> Mapping[str, Pool]:
        return {pool.id: pool for pool in await self._services.pools.all()}

    async def _pool_names(self) -> Mapping[str, str]:
        return {pool.id: pool.name for pool in await self._services.pools.all()}

    async def _views(self, sessions: Sequence[Session]) -> list[SessionView]:
        users = await self._names("users", {one.user_id for one in sessions})
        desktops = await self._names("desktops", {one.desktop_id for one in sessions})
        endpoints = await self._names("endpoints", {one.endpoint_id for one in sessions})
        pools, now = await self._pools(), self._services.kit.clock.now()
        return [
            SessionView(
                id=one.id,
                username=users.get(one.user_id, one.user_id),
                pool=pools[one.pool_id].name if one.pool_id in pools else one.pool_id,
                architecture=one.architecture,
                state=one.state,
                desktop=desktops.get(one.desktop_id or "", ""),
                endpoint=endpoints.get(one.endpoint_id or "", ""),
                age=age(now, one.requested_at),
                why=one.why,
                ends=_ends(now, one, pools.get(one.pool_id)),
                notice=_notice(now, one.notice),
            )
            for one in sessions
        ]

    # ------------------------------------------------------------------ why, and for whom

    async def why(
        self, identity: Identity, subject: Subject, ref: str, limit: int
    ) -> Sequence[DecisionView]:
        services, query = self._services, PageQuery(limit=limit)
        explanations, now = services.explanations, services.kit.clock.now()
        match subject:
            case Subject.SESSION:
                page = await explanations.of_session(identity, ref, query)
            case Subject.DESKTOP:
                page = await explanations.of("desktop_id", (await self._desktop(ref)).id, query)
            case Subject.POOL:
                page = await explanations.of("pool_id", (await services.pools.find(ref)).id, query)
            case Subject.HOST:
                page = await explanations.of("host_id", (await services.site.host(ref)).id, query)
            case _:
                assert_never(subject)
        return [
            DecisionView(age=age(now, one.at), text=one.sentence, reasons=one.reasons, by=one.by)
            for one in page.items[:limit]
        ]

    async def _desktop(self, ref: str) -> Desktop:
        """By name or id. Raises NotFoundError."""
        store = self._store.desktops
        if (found := await store.desktop(ref)) is not None:
            return found
        after: str | None = None
        while True:
            page = await store.desktops(PageQuery(limit=PAGE_LIMIT_MAX, text=ref, after=after))
            for one in page.items:
                if one.name == ref:
                    return one
            if (after := page.next_after) is None:
                raise NotFoundError(f"there is no desktop {ref!r}")

    async def preview(self, user: str) -> PreviewView:
        found = await self._services.directory.user(user)
        preview = await self._services.previews.preview(found)
        return PreviewView(
            username=found.username,
            enabled=found.enabled,
            pools=tuple(_previewed(one) for one in preview.pools),
        )

    # ------------------------------------------------------------------ desktops, endpoints, hosts

    async def hosts(self, text: str, limit: int) -> Sequence[HostView]:
        wanted = text.casefold()
        loads = [
            load
            for load in await self._store.directory.host_loads()
            if wanted in load.host.name.casefold()
        ]
        loads.sort(key=lambda load: load.host.name)
        return [_loaded(load) for load in loads[:limit]]

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


def _ends(now: Instant, session: Session, pool: Pool | None) -> str:
    end = ends_at(session, pool.settings) if pool is not None else session.ends_at
    if end is None or session.ended_at is not None:
        return ""
    return f"in {age(end, now)}" if end > now else "now"


def _notice(now: Instant, notice: Notice | None) -> str:
    if notice is None:
        return ""
    return f"{notice.text} ({notice.sender or 'the broker'}, {age(now, notice.at)} ago)"


def _previewed(one: PoolPreview) -> PoolPreviewView:
    now = ""
    if one.session is not None:
        now = f"has one, {one.session.state}"
    elif one.may:
        now = f"place {one.place} in the queue" if one.place else "a desktop at once"
    return PoolPreviewView(
        pool=one.pool.name,
        may=one.may,
        now=now,
        quotas=", ".join(
            f"{use.quota.name} {use.used}/{use.quota.sessions_max}" for use in one.quotas
        ),
        why=one.why,
    )


def _loaded(load: HostLoad) -> HostView:
    host, used = load.host, load.used
    return HostView(
        name=host.name,
        state=host.state,
        engine=f"{host.engine} {host.profile}",
        cpus=f"{used.cpus:g} of {host.capacity.cpus * host.overcommit_cpu:g}",
        memory=f"{used.memory_mib:,} of {host.capacity.memory_mib:,} MiB",
        starting=f"{load.starting} of {host.start_limit}",
        note=host.note,
    )


def _origin(identity: Identity) -> Origin:
    return Origin(source=identity.source) if isinstance(identity, SignedIn) else NOWHERE
