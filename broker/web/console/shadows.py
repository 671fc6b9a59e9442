"""The page on which the staff sees somebody's desktop."""

from __future__ import annotations

from aiohttp import web

from broker.domain.roles import Permission
from broker.web.call import Call
from broker.web.console.render import Pages
from broker.web.console.sessions import session_rows
from broker.web.console.watchers import named
from broker.web.routes import Route, Surface


class ShadowPage:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def shadow(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        session = await services.sessions.get(call.who, call.part("session_id"))
        found = await services.shadows.find(call.who, session.id, call.part("shadow_id"))
        (row,) = await session_rows(call, [session])
        (one,) = await named(call, [found])
        context = {"session": session, "row": row, "one": one, "live": found.live and one.mine}
        return self._pages.answer(
            call,
            "shadow.html",
            context,
            here="/sessions",
            parts=("shadow",),
            topics="session,shadow",
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/sessions/{session_id}/shadows/{shadow_id}",
                handler=self.shadow,
                need=Permission.SHADOW_SESSIONS,
                summary="Somebody's desktop, as allowed",
                surface=Surface.PAGE,
            ),
        )
