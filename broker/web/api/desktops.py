"""What administrators do with one desktop."""

from __future__ import annotations

from aiohttp import web

from broker.domain import errors
from broker.domain.model import Desktop
from broker.domain.roles import Permission
from broker.web.api import render
from broker.web.api.inputs import Body, Name
from broker.web.api.shapes import DesktopShape, DifferenceShape, DriftShape, Ref
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Handler, Route

_REFUSED = (
    errors.NotFoundError,
    errors.ConflictError,
    errors.DesktopInUseError,
    errors.IllegalTransitionError,
)


class Assignment(Body, frozen=True, kw_only=True):
    """`user`: an id or a username."""

    user: Name


class NewPlace(Body, frozen=True, kw_only=True):
    """`host`: a name or an id."""

    host: Name


class DesktopsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def unassign(self, call: Call) -> web.StreamResponse:
        care = self._web.services.desktop_care
        desktop = await care.unassign(call.part("id"), actor=call.who.user_id, origin=call.origin)
        return await self._answer(call, desktop)

    async def assign(self, call: Call) -> web.StreamResponse:
        body: Assignment = call.body
        desktop = await self._web.services.desktop_care.assign(
            call.part("id"), body.user, actor=call.who.user_id, origin=call.origin
        )
        return await self._answer(call, desktop)

    async def reset(self, call: Call) -> web.StreamResponse:
        care = self._web.services.desktop_care
        desktop = await care.reset(call.part("id"), actor=call.who.user_id, origin=call.origin)
        return await self._answer(call, desktop)

    async def restart(self, call: Call) -> web.StreamResponse:
        restarts = self._web.services.desktop_restarts
        desktop = await restarts.restart(
            call.part("id"), actor=call.who.user_id, origin=call.origin
        )
        return await self._answer(call, desktop)

    async def move(self, call: Call) -> web.StreamResponse:
        body: NewPlace = call.body
        desktop = await self._web.services.desktop_moves.move(
            call.part("id"), body.host, actor=call.who.user_id, origin=call.origin
        )
        return await self._answer(call, desktop, 202)

    async def delete(self, call: Call) -> web.StreamResponse:
        care = self._web.services.desktop_care
        desktop = await care.delete(call.part("id"), actor=call.who.user_id, origin=call.origin)
        return await self._answer(call, desktop, 202)

    async def drift(self, call: Call) -> web.StreamResponse:
        desktop, found = await self._web.services.drifts.compare(call.part("id"))
        shape = DriftShape(
            desktop=Ref(id=desktop.id, name=desktop.name),
            generation=desktop.generation,
            differences=[
                DifferenceShape(what=one.what, found=one.found, wanted=one.wanted) for one in found
            ],
        )
        return call.answer(shape)

    async def _answer(self, call: Call, desktop: Desktop, status: int = 200) -> web.StreamResponse:
        return call.answer((await render.desktops(self._web, [desktop]))[0], status)

    def routes(self) -> tuple[Route, ...]:
        return (
            _post("unassign", self.unassign, "Take a desktop from its owner and make it fresh"),
            Route(
                method="POST",
                path="/api/v1/desktops/{id}/assign",
                audit=Audited(action="desktop.assign", about="desktop_id", by_service=True),
                handler=self.assign,
                need=Permission.MANAGE_POOLS,
                summary="Give a free desktop of a dedicated pool to somebody for good",
                request=Assignment,
                answers={200: DesktopShape},
                errors=_REFUSED,
            ),
            Route(
                method="GET",
                path="/api/v1/desktops/{id}/drift",
                handler=self.drift,
                need=Permission.READ,
                summary="How a desktop's machine differs from what it should be",
                answers={200: DriftShape},
                errors=(
                    errors.NotFoundError,
                    errors.ConflictError,
                    errors.EngineError,
                    errors.UnsupportedError,
                ),
            ),
            _post("reset", self.reset, "Make a desktop fresh; whose it is stays"),
            _post(
                "restart",
                self.restart,
                "Switch a desktop's machine off and on again; its disk and its session stay",
                need=Permission.MANAGE_SESSIONS,
            ),
            Route(
                method="POST",
                path="/api/v1/desktops/{id}/move",
                audit=Audited(action="desktop.move", about="desktop_id", by_service=True),
                handler=self.move,
                need=Permission.MANAGE_POOLS,
                summary="Move a desktop that runs to another host: it is on its way then",
                request=NewPlace,
                answers={202: DesktopShape},
                errors=(
                    errors.NotFoundError,
                    errors.UnsupportedError,
                    errors.HostRefusedError,
                    errors.IllegalTransitionError,
                    errors.BusyError,
                ),
            ),
            Route(
                method="DELETE",
                path="/api/v1/desktops/{id}",
                audit=Audited(action="desktop.delete", about="desktop_id", by_service=True),
                handler=self.delete,
                need=Permission.MANAGE_POOLS,
                summary="Remove a desktop with what lies in it: it is on its way out then",
                answers={202: DesktopShape},
                errors=_REFUSED,
            ),
        )


def _post(
    verb: str, handler: Handler, summary: str, *, need: Permission = Permission.MANAGE_POOLS
) -> Route:
    return Route(
        method="POST",
        path=f"/api/v1/desktops/{{id}}/{verb}",
        audit=Audited(action=f"desktop.{verb}", about="desktop_id", by_service=True),
        handler=handler,
        need=need,
        summary=summary,
        answers={200: DesktopShape},
        errors=_REFUSED,
    )
