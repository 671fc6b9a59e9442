"""Shadowing: ask to see somebody's desktop, answer who asks, open it, end it."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from broker.domain import errors
from broker.domain.roles import Permission
from broker.domain.shadowing import ENDS, Shadow, ShadowMode
from broker.limits import SHADOW_REASON_CHARS_MAX
from broker.web.api.inputs import Body
from broker.web.api.shapes import ShadowShape, ShadowsShape, ShadowTicketShape, UserRef
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp, stamp_or_none
from broker.web.routes import Route

_PATH = "/api/v1/sessions/{id}/shadows"
_ONE = f"{_PATH}/{{shadow_id}}"


class NewShadow(Body, frozen=True, kw_only=True):
    """`view` looks on, `interactive` takes part. The person is told the reason."""

    mode: ShadowMode
    reason: Annotated[str, Meta(min_length=1, max_length=SHADOW_REASON_CHARS_MAX)]


class ShadowAnswer(Body, frozen=True, kw_only=True):
    granted: bool


class ShadowsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def _shapes(self, *shadows: Shadow) -> list[ShadowShape]:
        ids = {one for each in shadows for one in (each.user_id, each.staff_id)}
        names = await self._web.names.learn(users=sorted(ids))
        return [_shape(one, names[one.user_id]) for one in shadows]

    async def ask(self, call: Call) -> web.StreamResponse:
        body: NewShadow = call.body
        shadow = await self._web.services.shadows.ask(
            call.who, call.part("id"), body.mode, body.reason, call.origin
        )
        return call.answer((await self._shapes(shadow))[0], 201)

    async def shadows(self, call: Call) -> web.StreamResponse:
        found = await self._web.services.shadows.of_session(call.who, call.part("id"))
        return call.answer(ShadowsShape(items=await self._shapes(*found)))

    async def shadow(self, call: Call) -> web.StreamResponse:
        shadow = await self._web.services.shadows.find(
            call.who, call.part("id"), call.part("shadow_id")
        )
        return call.answer((await self._shapes(shadow))[0])

    async def answer(self, call: Call) -> web.StreamResponse:
        body: ShadowAnswer = call.body
        shadow = await self._web.services.shadows.answer(
            call.who,
            call.part("id"),
            call.part("shadow_id"),
            granted=body.granted,
            origin=call.origin,
        )
        return call.answer((await self._shapes(shadow))[0])

    async def ticket(self, call: Call) -> web.StreamResponse:
        secret, until = await self._web.services.shadows.ticket(
            call.who, call.part("id"), call.part("shadow_id")
        )
        call.remarks["shadow"] = call.part("shadow_id")
        return call.answer(ShadowTicketShape(ticket=secret, ticket_expires_at=stamp(until)))

    async def end(self, call: Call) -> web.StreamResponse:
        shadow = await self._web.services.shadows.end(
            call.who, call.part("id"), call.part("shadow_id"), call.origin
        )
        return call.answer((await self._shapes(shadow))[0])

    def routes(self) -> tuple[Route, ...]:
        return (*self._looking(), *self._changing())

    def _looking(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path=_PATH,
                handler=self.shadows,
                need=Permission.OWN_SESSIONS,
                summary="Who asks to see this session, sees it, or did within ten minutes",
                answers={200: ShadowsShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="GET",
                path=_ONE,
                handler=self.shadow,
                need=Permission.OWN_SESSIONS,
                summary="One of them",
                answers={200: ShadowShape},
                errors=(errors.NotFoundError,),
            ),
        )

    def _changing(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path=_PATH,
                audit=Audited(action="shadow.ask", about="session_id", by_service=True),
                handler=self.ask,
                need=Permission.SHADOW_SESSIONS,
                summary="Ask the session's person whether I may see the desktop, or take part",
                request=NewShadow,
                answers={201: ShadowShape},
                errors=(
                    errors.NotFoundError,
                    errors.ConflictError,
                    errors.UnsupportedError,
                    errors.BusyError,
                ),
            ),
            Route(
                method="POST",
                path=f"{_ONE}/answer",
                audit=Audited(action="shadow.answer", about="session_id", by_service=True),
                handler=self.answer,
                need=Permission.OWN_SESSIONS,
                summary="Allow or refuse it; only in the browser where my session is open",
                request=ShadowAnswer,
                answers={200: ShadowShape},
                errors=(errors.NotFoundError, errors.ForbiddenError, errors.ConflictError),
            ),
            Route(
                method="POST",
                path=f"{_ONE}/ticket",
                audit=Audited(action="shadow.ticket", about="session_id"),
                handler=self.ticket,
                need=Permission.SHADOW_SESSIONS,
                summary="What opens a shadow that was allowed, once, in this sign-in",
                answers={200: ShadowTicketShape},
                errors=(errors.NotFoundError, errors.ForbiddenError, errors.ConflictError),
            ),
            Route(
                method="DELETE",
                path=_ONE,
                audit=Audited(action="shadow.end", about="session_id", by_service=True),
                handler=self.end,
                need=Permission.OWN_SESSIONS,
                summary="End it, or withdraw the question: its person may, and the staff",
                answers={200: ShadowShape},
                errors=(errors.NotFoundError, errors.ForbiddenError),
            ),
        )


def _shape(shadow: Shadow, username: str) -> ShadowShape:
    return ShadowShape(
        id=shadow.id,
        session_id=shadow.session_id,
        user=UserRef(id=shadow.user_id, username=username),
        staff=UserRef(id=shadow.staff_id, username=shadow.staff_name),
        mode=shadow.mode.value,
        reason=shadow.reason,
        state=shadow.state.value,
        code=shadow.why.value if shadow.why is not None else None,
        why=ENDS[shadow.why] if shadow.why is not None else "",
        asked_at=stamp(shadow.asked_at),
        changed_at=stamp(shadow.changed_at),
        until=stamp(shadow.until) if shadow.live else None,
        ends_at=stamp_or_none(shadow.ends_at),
    )
