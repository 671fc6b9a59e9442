"""What one person can do now, pool by pool; also as if asked at an endpoint or from an address."""

from __future__ import annotations

from aiohttp import web

from broker.domain.model import Endpoint
from broker.domain.policy.networks import parse_address
from broker.domain.roles import Permission
from broker.web.api.preview import ADDRESS_CHARS_MAX
from broker.web.call import Call
from broker.web.console.lists import Filters, filter_text
from broker.web.console.render import Pages
from broker.web.routes import Route, Surface

_PARAMS = (
    filter_text("endpoint", "as if asked at this endpoint, by name"),
    filter_text("address", "as if asked from this IP address", ADDRESS_CHARS_MAX),
)


class PreviewPage:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def preview(self, call: Call) -> web.StreamResponse:
        services = call.web.services
        user = await services.directory.user(call.part("user_id"))
        filters = Filters.of(call, _PARAMS)
        address, problem = filters.values["address"], ""
        if address and parse_address(address) is None:
            address, problem = "", f"“{address}” is no IP address."
        name = filters.values["endpoint"]
        endpoint = await _endpoint(call, name) if name else None
        if name and endpoint is None:
            problem = f"There is no endpoint “{name}”."
        found = await services.previews.preview(user, endpoint=endpoint, address=address or None)
        context = {
            "person": user,
            "preview": found,
            "problem": problem,
            **filters.context(None, ()),
        }
        return self._pages.answer(
            call,
            "preview.html",
            context,
            here="/users",
            parts=("list",),
            topics="policy,pool,session,desktop",
        )

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                method="GET",
                path="/users/{user_id}",
                handler=self.preview,
                need=Permission.READ,
                summary="What a person can do now",
                surface=Surface.PAGE,
                query=_PARAMS,
            ),
        )


async def _endpoint(call: Call, ref: str) -> Endpoint | None:
    endpoints = call.web.services.kit.store.endpoints
    return await endpoints.endpoint_by_name(ref) or await endpoints.endpoint(ref)
