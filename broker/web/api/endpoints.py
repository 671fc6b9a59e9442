"""Endpoints, and the one-use tokens with which they enrol."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from broker.domain import errors
from broker.domain.errors import NotFoundError
from broker.domain.model import Endpoint, EndpointKind, EndpointState
from broker.domain.roles import Permission
from broker.limits import ENROLMENT_S, ENROLMENT_TOKENS_MAX
from broker.web.api import render
from broker.web.api.inputs import Body
from broker.web.api.shapes import EndpointShape, EnrolmentTokensShape
from broker.web.audited import Audited
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp
from broker.web.lists import Listed, listed, page_query
from broker.web.params import PAGE, TEXT, choice, text
from broker.web.routes import Route

TOKEN_TTL_S_MAX = 24 * 3600


class NewTokens(Body, frozen=True, kw_only=True):
    """`ttl_s`: how long the tokens are good, in seconds."""

    count: Annotated[int, Meta(ge=1, le=ENROLMENT_TOKENS_MAX)] = 1
    ttl_s: Annotated[int, Meta(ge=1, le=TOKEN_TTL_S_MAX)] = ENROLMENT_S


class EndpointsApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def endpoints(self, call: Call) -> web.StreamResponse:
        query = page_query(call, "endpoints")
        page = await self._web.services.kit.store.endpoints.endpoints(query)
        shapes = await render.endpoints(self._web, page.items)
        return call.answer(listed("endpoints", shapes, page.next_after))

    async def _find(self, ref: str) -> Endpoint:
        store = self._web.services.kit.store.endpoints
        endpoint = await store.endpoint(ref) or await store.endpoint_by_name(ref)
        if endpoint is None:
            raise NotFoundError
        return endpoint

    async def endpoint(self, call: Call) -> web.StreamResponse:
        endpoint = await self._find(call.part("id"))
        return call.answer((await render.endpoints(self._web, [endpoint]))[0])

    async def make_tokens(self, call: Call) -> web.StreamResponse:
        body: NewTokens = call.body
        services = self._web.services
        # before they are made: what is promised is never later than what is kept
        expires_at = services.kit.clock.now() + body.ttl_s * 1000
        tokens = await services.endpoints.make_tokens(body.count, body.ttl_s)
        return call.answer(EnrolmentTokensShape(tokens=tokens, expires_at=stamp(expires_at)), 201)

    async def retire(self, call: Call) -> web.StreamResponse:
        endpoint = await self._find(call.part("id"))
        retired = await self._web.services.endpoints.retire(endpoint.id)
        return call.answer((await render.endpoints(self._web, [retired]))[0])

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/api/v1/endpoints",
                handler=self.endpoints,
                need=Permission.READ,
                summary="Endpoints, by name",
                answers={200: Listed[EndpointShape]},
                query=(
                    *PAGE,
                    TEXT,
                    choice("state", EndpointState, "only in this state"),
                    choice("kind", EndpointKind, "only of this kind"),
                    text("pool_id", "only of this pool"),
                    text("location", "only at this place"),
                ),
            ),
            Route(
                method="POST",
                path="/api/v1/endpoints/tokens",
                audit=Audited(action="endpoint.make_tokens"),
                handler=self.make_tokens,
                need=Permission.MANAGE_ENDPOINTS,
                summary="Make one-use enrolment tokens",
                request=NewTokens,
                answers={201: EnrolmentTokensShape},
            ),
            Route(
                method="GET",
                path="/api/v1/endpoints/{id}",
                handler=self.endpoint,
                need=Permission.READ,
                summary="One endpoint, by id or name",
                answers={200: EndpointShape},
                errors=(errors.NotFoundError,),
            ),
            Route(
                method="POST",
                path="/api/v1/endpoints/{id}/retire",
                audit=Audited(action="endpoint.retire", about="endpoint_id"),
                handler=self.retire,
                need=Permission.MANAGE_ENDPOINTS,
                summary="Take an endpoint out for good",
                answers={200: EndpointShape},
                errors=(errors.NotFoundError, errors.IllegalTransitionError),
            ),
        )
