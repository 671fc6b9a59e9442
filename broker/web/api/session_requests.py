"""What is asked of a session besides its beginning and end: tell its person something, let it last
longer, lock its screen, let it move."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from aiohttp import web
from msgspec import Meta

from broker.domain import errors
from broker.domain.roles import Permission
from broker.limits import EXTEND_S_MAX, NOTICE_CHARS_MAX
from broker.web.api import render_sessions as render
from broker.web.api.inputs import Body, Name
from broker.web.api.shapes import SessionShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route

Seconds: TypeAlias = Annotated[int, Meta(ge=1, le=EXTEND_S_MAX)]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NOTICE_CHARS_MAX)]


class Extension(Body, frozen=True, kw_only=True):
    """By how much the session may last longer than its pool's maximum time."""

    seconds: Seconds


class Message(Body, frozen=True, kw_only=True):
    """Plain text; line breaks are kept."""

    text: Text


class ConsentAnswer(Body, frozen=True, kw_only=True):
    """`wish` is the id of the session's wish."""

    wish: Name
    granted: bool


class SessionRequests:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def message(self, call: Call) -> web.StreamResponse:
        body: Message = call.body
        session = await self._web.services.sessions.message(
            call.who, call.part("id"), body.text, call.origin
        )
        return call.answer((await render.sessions(self._web, [session], call.who.role))[0])

    async def extend(self, call: Call) -> web.StreamResponse:
        body: Extension = call.body
        sessions = self._web.services.sessions
        session = await sessions.extend(call.who, call.part("id"), body.seconds, call.origin)
        return call.answer((await render.sessions(self._web, [session], call.who.role))[0])

    async def lock(self, call: Call) -> web.StreamResponse:
        session = await self._web.services.guests.lock(call.who, call.part("id"))
        return call.answer((await render.sessions(self._web, [session], call.who.role))[0])

    async def consent(self, call: Call) -> web.StreamResponse:
        body: ConsentAnswer = call.body
        sessions = self._web.services.sessions
        session = await sessions.consent(
            call.who, call.part("id"), body.wish, granted=body.granted, origin=call.origin
        )
        return call.answer((await render.sessions(self._web, [session], call.who.role))[0])

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path="/api/v1/sessions/{id}/message",
                audit=Audited(action="session.message", about="session_id"),
                handler=self.message,
                need=Permission.MANAGE_SESSIONS,
                summary="Tell the session's person something, where it is shown and in the desktop",
                request=Message,
                answers={200: SessionShape},
                errors=(errors.NotFoundError, errors.ConflictError),
            ),
            Route(
                method="POST",
                path="/api/v1/sessions/{id}/extend",
                audit=Audited(action="session.extend", about="session_id"),
                handler=self.extend,
                need=Permission.MANAGE_SESSIONS,
                summary="Let the session last longer than its pool's maximum time",
                request=Extension,
                answers={200: SessionShape},
                errors=(errors.NotFoundError, errors.ConflictError),
            ),
            Route(
                method="POST",
                path="/api/v1/sessions/{id}/lock",
                audit=Audited(action="session.lock", about="session_id"),
                handler=self.lock,
                need=Permission.MANAGE_SESSIONS,
                summary="Lock the screen of the session's desktop; answers when its agent did",
                answers={200: SessionShape},
                errors=(
                    errors.NotFoundError,
                    errors.ConflictError,
                    errors.UnsupportedError,
                    errors.GuestRefusedError,
                    errors.GuestSilentError,
                    errors.BusyError,
                ),
            ),
            Route(
                method="POST",
                path="/api/v1/sessions/{id}/consent",
                audit=Audited(action="session.consent", about="session_id", by_service=True),
                handler=self.consent,
                need=Permission.OWN_SESSIONS,
                summary="Answer whether my session may move to where somebody asks for it; only "
                "in the browser where it is open (its sign-in)",
                request=ConsentAnswer,
                answers={200: SessionShape},
                errors=(errors.NotFoundError, errors.ForbiddenError, errors.ConflictError),
            ),
        )
