"""Why something is as it is: the decisions about it, in words, newest first."""

from __future__ import annotations

import msgspec
from aiohttp import web

from broker.domain import errors
from broker.domain.audit import Outcome
from broker.domain.errors import NotFoundError
from broker.domain.roles import Permission
from broker.ports import Page
from broker.services.explanations import Explanation
from broker.web.call import Call
from broker.web.context import Web
from broker.web.encoding import stamp
from broker.web.lists import Listed, listed, page_query
from broker.web.params import PAGE
from broker.web.routes import Handler, Route


class ExplanationShape(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. `by`: a user name, an endpoint's name, "broker", or "" if nobody known."""

    id: str
    at: str
    action: str
    outcome: Outcome
    text: str
    reasons: list[str]
    by: str


class WhyApi:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def of_session(self, call: Call) -> web.StreamResponse:
        query = page_query(call, "why")
        explanations = self._web.services.explanations
        return _answer(call, await explanations.of_session(call.who, call.part("id"), query))

    async def of_desktop(self, call: Call) -> web.StreamResponse:
        desktop = await self._web.services.kit.store.desktops.desktop(call.part("id"))
        if desktop is None:
            raise NotFoundError
        return await self._of(call, "desktop_id", desktop.id)

    async def of_pool(self, call: Call) -> web.StreamResponse:
        pool = await self._web.services.pools.find(call.part("id"))
        return await self._of(call, "pool_id", pool.id)

    async def of_host(self, call: Call) -> web.StreamResponse:
        host = await self._web.services.site.host(call.part("id"))
        return await self._of(call, "host_id", host.id)

    async def _of(self, call: Call, field: str, thing_id: str) -> web.StreamResponse:
        query = page_query(call, "why")
        return _answer(call, await self._web.services.explanations.of(field, thing_id, query))

    def routes(self) -> tuple[Route, ...]:
        return (
            _route(
                "sessions",
                self.of_session,
                Permission.OWN_SESSIONS,
                "Why this session has its desktop, waits, or is over",
            ),
            _route("desktops", self.of_desktop, Permission.READ, "Why this desktop is as it is"),
            _route("pools", self.of_pool, Permission.READ, "Decisions about this pool"),
            _route("hosts", self.of_host, Permission.READ, "Decisions about this host"),
        )


def _route(nouns: str, handler: Handler, need: Permission, summary: str) -> Route:
    return Route(
        method="GET",
        path=f"/api/v1/{nouns}/{{id}}/why",
        handler=handler,
        need=need,
        summary=f"{summary}; newest first",
        answers={200: Listed[ExplanationShape]},
        errors=(errors.NotFoundError,),
        query=PAGE,
    )


def _answer(call: Call, page: Page[Explanation]) -> web.StreamResponse:
    shapes = [
        ExplanationShape(
            id=one.entry_id,
            at=stamp(one.at),
            action=one.action,
            outcome=one.outcome,
            text=one.sentence,
            reasons=list(one.reasons),
            by=one.by,
        )
        for one in page.items
    ]
    return call.answer(listed("why", shapes, page.next_after))
