"""Agents' addresses that are not resources: the enrolment and the link."""

from __future__ import annotations

from aiohttp import web

from broker import wire
from broker.domain import errors
from broker.domain.errors import BadRequestError
from broker.services.endpoints import Enrolment, check_protocol
from broker.web.access import Access
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route, Surface

ENROL_BYTES_MAX = 8 * 1024
_TOKEN_CHARS_MAX = 200


class Agents:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def enrol(self, call: Call) -> web.StreamResponse:
        body: wire.EnrolRequest = call.body
        check_protocol(body.protocol, wire.PROTOCOL)
        try:
            key = bytes.fromhex(body.public_key)
        except ValueError:
            text = "the public key is not hexadecimal"
            raise BadRequestError(text, fields={"field": "public_key"}) from None
        endpoints = self._web.services.endpoints
        endpoint = await endpoints.enrol(
            body.token[:_TOKEN_CHARS_MAX],
            Enrolment(
                name=body.name,
                kind=body.kind,
                location=body.location,
                public_key=key,
                agent_version=body.agent_version,
            ),
            call.origin,
        )
        answer = wire.EnrolAnswer(
            endpoint_id=endpoint.id, installation_id=endpoints.installation_id
        )
        return call.answer(answer, 201)

    async def link(self, call: Call) -> web.StreamResponse:
        if not web.WebSocketResponse().can_prepare(call.request):
            raise BadRequestError("this address is a WebSocket")
        # the socket sends its own headers when it answers the handshake
        call.streaming = True
        return await self._web.link.handle(call.request)


def routes(web_: Web) -> tuple[Route, ...]:
    agents = Agents(web_)
    return (
        Route(
            method="POST",
            path=wire.ENROL_PATH,
            audit=Audited(action="endpoint.enrol", by_service=True),
            handler=agents.enrol,
            need=Access.AGENT,
            summary="Give an endpoint its identity, once for each token",
            request=wire.EnrolRequest,
            request_bytes_max=ENROL_BYTES_MAX,
            answers={201: wire.EnrolAnswer},
            errors=(errors.BadEnrolmentError, errors.ConflictError, errors.ProtocolError),
            surface=Surface.AGENT,
        ),
        Route(
            method="GET",
            path=wire.LINK_PATH,
            handler=agents.link,
            need=Access.AGENT,
            summary="The endpoint's link (WebSocket)",
            answers={101: None},
            surface=Surface.AGENT,
            socket=True,
        ),
    )
