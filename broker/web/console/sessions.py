"""Sessions: the live list, and one session with its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from broker.architectures import rules_of
from broker.domain.lifecycle import SESSION, SESSION_HOLDS_DESKTOP
from broker.domain.model import Architecture, Desktop, Session, SessionState
from broker.domain.roles import Permission
from broker.ports import Page
from broker.services.kit import name_key
from broker.web.call import Call
from broker.web.console.lists import (
    AFTER,
    ARCHITECTURES,
    Filters,
    filter_choice,
    filter_text,
    options,
    pool_options,
)
from broker.web.console.machines import pool_titles
from broker.web.console.render import Pages
from broker.web.console.steps import steps_of
from broker.web.console.watchers import shadowing
from broker.web.console.why import why_of_session
from broker.web.routes import Route, Surface

_FILTERS: Final = (
    filter_text("user", "only of the person with this user name"),
    filter_text("pool_id", "only of this pool"),
    filter_choice("state", SessionState, "only in this state"),
    filter_choice("architecture", Architecture, "only of this one"),
    filter_choice("live", ("true",), "only those that are not over"),
    filter_text("desktop_id", "only of this desktop"),
    filter_text("endpoint_id", "only at this endpoint"),
    AFTER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session with names instead of ids. `bytes`: on the wire, every kind, both ways."""

    session: Session
    person: str
    username: str
    pool: str
    desktop: str
    endpoint: str
    live: bool
    bytes: int


async def session_rows(call: Call, sessions: Sequence[Session]) -> list[SessionRow]:
    pools = await pool_titles(call)
    names = await call.web.names.learn(
        users=[one.user_id for one in sessions],
        desktops=[one.desktop_id for one in sessions],
        endpoints=[one.endpoint_id for one in sessions],
    )
    # unlike the other names this one may change, so it is read each time
    people = await call.web.services.kit.store.directory.names_of(
        "people", {one.user_id for one in sessions}
    )
    return [
        SessionRow(
            session=one,
            person=people.get(one.user_id, "?"),
            username=names.get(one.user_id, "?"),
            pool=pools.get(one.pool_id, "?"),
            desktop=names.get(one.desktop_id or "", ""),
            endpoint=names.get(one.endpoint_id or "", ""),
            live=one.state not in SESSION.terminal,
            bytes=one.traffic.control + one.traffic.display + one.traffic.image,
        )
        for one in sessions
    ]


async def _restarts(call: Call, session: Session) -> Desktop | None:
    """The session's desktop, if its machine may be restarted now."""
    if session.desktop_id is None or session.state not in SESSION_HOLDS_DESKTOP:
        return None
    services = call.web.services
    desktop = await services.kit.store.desktops.desktop(session.desktop_id)
    if desktop is None or await services.desktop_restarts.refusal(desktop):
        return None
    return desktop


class SessionPages:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def _page(self, call: Call, filters: Filters) -> Page[Session]:
        """The rows asked for; none when the person named does not exist."""
        more: dict[str, str] = {}
        if filters.values["user"]:
            directory = call.web.services.kit.store.directory
            user = await directory.user_by_name(name_key(filters.values["user"]))
            if user is None:
                return Page(items=(), next_after=None)
            more["user_id"] = user.id
        query = filters.query(leave_out=("user",), **more)
        return await call.web.services.kit.store.sessions.sessions(query)

    async def sessions(self, call: Call) -> web.StreamResponse:
        filters = Filters.of(call, _FILTERS)
        page = await self._page(call, filters)
        context = {
            **filters.context(page, await session_rows(call, page.items)),
            "pools": pool_options(await call.web.services.pools.all()),
            "states": options(SessionState),
            "architectures": ARCHITECTURES,
        }
        return self._pages.answer(
            call, "sessions.html", context, here="/sessions", parts=("list",), topics="session"
        )

    async def session(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        session = await services.sessions.get(call.who, call.part("session_id"))
        (row,) = await session_rows(call, [session])
        context = {
            "session": session,
            "row": row,
            "place": await services.connect.place(session),
            "steps": steps_of(session),
            "moves": rules_of(session.architecture).moves,
            "why": await why_of_session(call, session.id),
            "measure": services.measures.of(session.id),
            "guest": services.guests.news(session.desktop_id, session.generation),
            "speaks": await services.guests.speaks(session.desktop_id),
            "restarts": await _restarts(call, session),
            **await shadowing(call, session),
        }
        return self._pages.answer(
            call,
            "session.html",
            context,
            here="/sessions",
            parts=("session", "shadows"),
            topics="session,place,shadow",
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/sessions",
                handler=self.sessions,
                need=Permission.READ,
                summary="Sessions",
                query=_FILTERS,
                surface=Surface.PAGE,
            ),
            Route(
                method="GET",
                path="/sessions/{session_id}",
                handler=self.session,
                need=Permission.READ,
                summary="One session",
                surface=Surface.PAGE,
            ),
        )
