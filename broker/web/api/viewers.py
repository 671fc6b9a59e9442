"""Connection files for viewers outside the browser."""

from __future__ import annotations

from aiohttp import web

from broker.domain import errors
from broker.domain.roles import Permission
from broker.domain.viewers import ViewerKind
from broker.web.api.inputs import Body
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route
from broker.web.viewers import answer_with_file

OPEN_VIEWER = Audited(action="session.open_viewer", about="session_id")


class NewConnection(Body, frozen=True, kw_only=True):
    """`kind`: the protocol of the viewer."""

    kind: ViewerKind


class ViewersApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def connection(self, call: Call) -> web.StreamResponse:
        body: NewConnection = call.body
        return await answer_with_file(call, call.part("id"), body.kind)

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="POST",
                path="/api/v1/sessions/{id}/connection",
                audit=OPEN_VIEWER,
                handler=self.connection,
                need=Permission.OWN_SESSIONS,
                summary="A file that opens my session once in a viewer outside the browser, "
                "within two minutes",
                request=NewConnection,
                answers={200: None},
                errors=(
                    errors.NotFoundError,
                    errors.ConflictError,
                    errors.UnsupportedError,
                    errors.BusyError,
                ),
            ),
        )
