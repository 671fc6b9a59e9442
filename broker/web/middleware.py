"""The way of every request, in one layer: name it, check it, serve it, answer errors, note it.

The order: host, route, origin, identity, permission, query, body, handler. What is cheap and
refuses strangers comes first; a body is not read for somebody who may not send it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias

from aiohttp import hdrs, web

from broker.domain.errors import (
    BadOriginError,
    BadRequestError,
    BodyTooLargeError,
    ForbiddenError,
    MethodNotAllowedError,
    MisdirectedError,
    NotFoundError,
    TriviumError,
)
from broker.web.access import Access, check
from broker.web.accesslog import AccessLog
from broker.web.body import check_upload, has_body, parse_json, read_bytes, read_json
from broker.web.call import Call
from broker.web.context import Web
from broker.web.metrics import RequestCounts
from broker.web.params import parse_query
from broker.web.problems import problem_response
from broker.web.recorder import Recorder
from broker.web.routes import SAFE_METHODS, Route, Surface

_log = logging.getLogger("trivium.web")

ErrorPage: TypeAlias = Callable[[Call, TriviumError, int], Awaitable[web.StreamResponse]]
"""(call, error, status) -> a page for a person; the console provides it"""

CSRF_HEADER: Final = "X-Trivium"
"""must be on state-changing calls that are signed in by cookie: no form can send it"""
EMPTY_BODY_BYTES_MAX: Final = 256
"""of a body where none is wanted: an empty object is let pass"""
_CLIENT_GONE: Final = 499


class Pipeline:
    """The application's one middleware."""

    def __init__(self, web_: Web, counts: RequestCounts, error_page: ErrorPage | None) -> None:
        self._web = web_
        self._counts = counts
        self._error_page = error_page
        self._routes: dict[web.AbstractRoute, Route] = {}
        self._access_log = AccessLog(web_.services.kit.clock)
        self._new_id = web_.services.kit.ids.new
        self._monotonic = web_.services.kit.clock.monotonic
        self._recorder = Recorder(web_.services.kit, web_.services.audit)

    def register(self, registered: web.AbstractRoute, route: Route) -> None:
        """`registered` is what aiohttp's router answers for this route."""
        self._routes[registered] = route

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; nothing but the loss of the connection gets out."""
        started_s = self._monotonic()
        call = Call(self._web, request, self._new_id("req"))
        code = ""
        status = _CLIENT_GONE
        try:
            try:
                response = await self._admit_and_handle(call)
            except TriviumError as error:
                code = error.code
                response = await self._refuse(call, error)
            except web.HTTPException as error:
                response = await self._translate(call, error)
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001 - the last place that can answer
                code = TriviumError.code
                _log.exception("request %s failed", call.id)
                response = await self._refuse(call, TriviumError(), error)
            if not call.streaming:
                call.dress(response)
            status = response.status
            return response
        finally:
            took_s = self._monotonic() - started_s
            self._counts.note(call.route, request.method, status)
            self._access_log.note(call, status, code, took_s)

    # ------------------------------------------------------------------ the way in

    async def _admit_and_handle(self, call: Call) -> web.StreamResponse:
        request = call.request
        self._check_host(request)
        route = self._routes.get(request.match_info.route)
        if route is None:
            return await self._no_route(call)
        call.route = route
        self._check_origin(call, route)
        await self._check_caller(call, route)
        if request.query_string and (route.query or route.surface is not Surface.PAGE):
            call.query = parse_query(route.query, request.query)
        if route.request is not None:
            call.body = await read_json(request, route.request, route.request_bytes_max)
        elif route.upload:
            check_upload(request, route.upload)
        elif route.surface is Surface.API and has_body(request):
            await self._check_no_body(request)
        if route.audit is None:
            return await route.handler(call)
        return await self._recorder.handle(call, route.audit, route.handler)

    def _check_host(self, request: web.Request) -> None:
        if not request.raw_path.startswith("/"):
            raise BadRequestError("the request target is not a path")
        hosts = request.headers.getall(hdrs.HOST, ())
        if len(hosts) != 1:
            raise MisdirectedError("the request does not have one Host")
        transport = request.transport
        own = transport.get_extra_info("sockname") if transport is not None else None
        if not self._web.sites.host_allowed(hosts[0], str(own[0]) if own else ""):
            raise MisdirectedError

    async def _no_route(self, call: Call) -> web.StreamResponse:
        error = call.request.match_info.http_exception
        if not isinstance(error, web.HTTPMethodNotAllowed):
            raise NotFoundError("there is nothing at this address")
        allowed = ", ".join(sorted({*error.allowed_methods, hdrs.METH_OPTIONS}))
        response: web.StreamResponse = call.done()
        if call.request.method != hdrs.METH_OPTIONS:
            response = await self._refuse(call, MethodNotAllowedError())
        response.headers[hdrs.ALLOW] = allowed
        return response

    def _check_origin(self, call: Call, route: Route) -> None:
        """Pages of strangers change nothing and open no socket; agents have no Origin."""
        headers = call.request.headers
        origin = headers.get(hdrs.ORIGIN)
        if origin is None:
            return
        if route.need is Access.AGENT:
            raise BadOriginError("this address is for endpoints, not for browsers")
        if call.request.method in SAFE_METHODS and not route.socket:
            return
        if len(headers.getall(hdrs.ORIGIN)) > 1 or not self._web.sites.origin_allowed(
            origin, headers[hdrs.HOST]
        ):
            raise BadOriginError

    async def _check_caller(self, call: Call, route: Route) -> None:
        if route.need is Access.PUBLIC or route.need is Access.AGENT:
            return
        if route.need is Access.LOCAL_READ and self._web.sites.is_local(
            call.request.headers[hdrs.HOST], call.address
        ):
            return
        identity = await call.identify()
        if call.by_cookie:
            self._check_forgery(call, route)
        try:
            check(route.need, identity)
        except ForbiddenError as error:
            if route.audit is not None:
                await self._recorder.refused(call, route.audit, error)
            raise

    def _check_forgery(self, call: Call, route: Route) -> None:
        """A cookie comes along by itself; something must show that our own page sent it."""
        request = call.request
        if route.socket:
            if hdrs.ORIGIN not in request.headers:
                raise BadOriginError("a browser's socket has an Origin")
        elif request.method not in SAFE_METHODS and CSRF_HEADER not in request.headers:
            raise BadOriginError(f"the header {CSRF_HEADER} is missing")

    async def _check_no_body(self, request: web.Request) -> None:
        try:
            raw = await read_bytes(request, EMPTY_BODY_BYTES_MAX)
        except BodyTooLargeError:
            raise BadRequestError("this address takes no body") from None
        if raw and parse_json(raw) != {}:
            raise BadRequestError("this address takes no body")

    # ------------------------------------------------------------------ the way out

    async def _translate(self, call: Call, error: web.HTTPException) -> web.StreamResponse:
        """A handler of the console raised one of aiohttp's own: a redirect is an answer."""
        if error.status < HTTPStatus.BAD_REQUEST:
            response = web.Response(status=error.status)
            if hdrs.LOCATION in error.headers:
                response.headers[hdrs.LOCATION] = error.headers[hdrs.LOCATION]
            response.cookies.update(error.cookies)
            return response
        kinds: Mapping[int, type[TriviumError]] = {
            404: NotFoundError,
            405: MethodNotAllowedError,
            413: BodyTooLargeError,
        }
        return await self._refuse(call, kinds.get(error.status, BadRequestError)())

    async def _refuse(
        self, call: Call, error: TriviumError, cause: Exception | None = None
    ) -> web.StreamResponse:
        if call.streaming:
            # headers are out: the only honest end is a broken connection
            raise ConnectionResetError("the answer broke off") from cause
        if call.identity is not None:
            error = await self._web.services.discretion.error(error, call.identity.role)
        problem = problem_response(
            error, request_id=call.id, path=call.request.path, headers=call.headers()
        )
        wants_page = call.surface is Surface.PAGE or (
            call.route is None and _is_browser_page(call.request)
        )
        if self._error_page is None or not wants_page:
            return problem
        try:
            page = await self._error_page(call, error, problem.status)
        except Exception:  # noqa: BLE001 - the plain problem is still an answer
            _log.exception("the error page for request %s failed", call.id)
            return problem
        if hdrs.RETRY_AFTER in problem.headers:
            page.headers[hdrs.RETRY_AFTER] = problem.headers[hdrs.RETRY_AFTER]
        return page


def _is_browser_page(request: web.Request) -> bool:
    """Whether somebody types addresses: for them even an unknown address gets a page."""
    return (
        request.method in SAFE_METHODS
        and not request.path.startswith(("/api/", "/agent/"))
        and "text/html" in request.headers.get(hdrs.ACCEPT, "")
    )
