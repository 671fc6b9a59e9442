"""The socket on which the staff sees somebody's desktop. It speaks as any display's."""

from __future__ import annotations

from aiohttp import web

from broker.domain import errors
from broker.domain.roles import Permission
from broker.web.call import Call
from broker.web.context import Web
from broker.web.display import SocketClient, serve_socket, while_signed_in
from broker.web.routes import Route


class ShadowSockets:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def display(self, call: Call) -> web.StreamResponse:
        session_id, shadow_id = call.part("id"), call.part("shadow_id")
        services, shadows = self._web.services, self._web.shadows
        shadow = await services.shadows.find(call.who, session_id, shadow_id)
        if shadow.staff_id != call.who.user_id:
            raise errors.ForbiddenError("only whoever asked for it opens it")

        async def relay(client: SocketClient, ticket: str) -> None:
            await while_signed_in(
                call,
                shadows.serve(
                    client,
                    who=call.who,
                    session_id=session_id,
                    shadow_id=shadow_id,
                    ticket=ticket,
                ),
                lambda: shadows.end(shadow_id, "shadow.signed_out"),
                Permission.SHADOW_SESSIONS,
            )

        return await serve_socket(call, relay)


def routes(web_: Web) -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="/api/v1/sessions/{id}/shadows/{shadow_id}/display",
            handler=ShadowSockets(web_).display,
            need=Permission.SHADOW_SESSIONS,
            summary="The display of a session that I may shadow (WebSocket); the first message "
            "presents the ticket",
            answers={101: None},
            errors=(errors.NotFoundError,),
            socket=True,
        ),
    )
