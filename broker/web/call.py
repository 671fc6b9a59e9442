"""One request on its way through the web: who asks for what, and how it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from broker.domain.errors import NotFoundError, NotSignedInError
from broker.domain.model import Identity
from broker.services.origin import Origin
from broker.web.context import Web
from broker.web.cookies import read_cookie
from broker.web.encoding import encode
from broker.web.proxies import FORWARDED_FOR
from broker.web.routes import Route, Surface

REQUEST_ID: Final = "X-Request-Id"
_BEARER: Final = "bearer "
_ID_CHARS_MAX: Final = 200


class Call:
    """The request with what the pipeline found out about it.

    body: the route's request struct, checked. query: declared parameters that were given.
    identity: set where the route needs somebody signed in. streaming: headers have been sent,
    so no other answer can be given any more. about, remarks: what a handler that changes
    something adds to its audit entry: ids by field (pool_id, …), and small safe values. told: what
    came of it, in words for that entry; empty: it was done.
    """

    __slots__ = (
        "about",
        "body",
        "by_cookie",
        "id",
        "identity",
        "query",
        "remarks",
        "request",
        "route",
        "streaming",
        "told",
        "web",
    )

    def __init__(self, web_: Web, request: web.Request, request_id: str) -> None:
        self.web = web_
        self.request = request
        self.id = request_id
        self.route: Route | None = None
        self.identity: Identity | None = None
        self.by_cookie = False
        self.body: Any = None
        self.query: Mapping[str, Any] = {}
        self.streaming = False
        self.about: dict[str, str] = {}
        self.remarks: dict[str, object] = {}
        self.told = ""

    # ------------------------------------------------------------------ who and what

    @property
    def who(self) -> Identity:
        """The signed-in caller. Raises NotSignedInError on routes that need nobody."""
        if self.identity is None:
            raise NotSignedInError
        return self.identity

    @property
    def address(self) -> str:
        """The client's IP address: of the connection, or as a trusted proxy tells it."""
        headers = self.request.headers
        return self.web.proxies.client(self.request.remote or "", headers.getall(FORWARDED_FOR, ()))

    @property
    def origin(self) -> Origin:
        """Where it comes from, for the audit trail."""
        return Origin(source=self.address, request_id=self.id)

    def part(self, name: str) -> str:
        """A part of the path. Raises NotFoundError for one that cannot be an id or a name."""
        value = self.request.match_info[name]
        if len(value) > _ID_CHARS_MAX or not value.isprintable():
            raise NotFoundError
        return value

    def token(self) -> str | None:
        """The token that came along: as a bearer, else in the console's cookie."""
        headers = self.request.headers
        given = headers.get(hdrs.AUTHORIZATION)
        if given is not None:
            # two headers are two claims; a proxy and we might believe different ones
            if len(headers.getall(hdrs.AUTHORIZATION)) > 1:
                return None
            is_bearer = given[: len(_BEARER)].lower() == _BEARER
            return (given[len(_BEARER) :].strip() or None) if is_bearer else None
        cookies = headers.getall(hdrs.COOKIE, ())
        if not cookies:
            return None
        self.by_cookie = True
        return read_cookie(";".join(cookies), https=self.web.https)

    async def identify(self) -> Identity:
        """Who asks. Raises NotSignedInError."""
        token = self.token()
        if token is None:
            raise NotSignedInError
        self.identity = await self.web.services.accounts.identify(token)
        return self.identity

    async def maybe_identify(self) -> Identity | None:
        """Who asks, or None; for public pages that greet people."""
        try:
            return await self.identify()
        except NotSignedInError:
            return None

    # ------------------------------------------------------------------ answers

    @property
    def surface(self) -> Surface:
        return self.route.surface if self.route is not None else Surface.API

    def headers(self) -> CIMultiDict[str]:
        """A new set of the headers that this answer must carry."""
        found = self.web.surface_headers[self.surface].copy()
        found[REQUEST_ID] = self.id
        return found

    def answer(
        self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        """`value` as JSON. In the audit trail the answer to a change says what it is about."""
        audited = self.route.audit if self.route is not None else None
        if audited is not None and audited.about:
            found = getattr(value, audited.about, None) or getattr(value, "id", None)
            if isinstance(found, str):
                self.about.setdefault(audited.about, found)
        all_headers = self.headers()
        all_headers["Content-Type"] = "application/json"
        if headers:
            all_headers.update(headers)
        return web.Response(body=encode(value), status=status, headers=all_headers)

    def done(self) -> web.Response:
        """204: it is done, there is nothing to say."""
        return web.Response(status=204, headers=self.headers())

    async def stream(self, response: web.StreamResponse) -> None:
        """Send the headers of an answer that goes on; after this no error can be answered."""
        self.dress(response)
        self.streaming = True
        await response.prepare(self.request)

    def dress(self, response: web.StreamResponse) -> None:
        """Add the headers that are missing to an answer that was not made by `answer`."""
        headers = response.headers
        if REQUEST_ID in headers:
            return
        for name, value in self.web.surface_headers[self.surface].items():
            headers.setdefault(name, value)
        headers[REQUEST_ID] = self.id
