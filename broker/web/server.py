"""The HTTP server: puts routes, pipeline and guard together, and starts and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from broker.config import Address, Config
from broker.domain.errors import UnavailableError
from broker.listening import stop_listening
from broker.ports import Displays, ShadowDisplays
from broker.services.bundle import Services
from broker.services.guest_links import GuestLinks
from broker.services.known_profiles import KnownProfiles
from broker.web import display, enrol, guest_link, health, segments
from broker.web import shadows as shadow_sockets
from broker.web.api import api_routes
from broker.web.context import AgentSocket, Web
from broker.web.guard import GuardedRunner, GuardLimits
from broker.web.metrics import LoopLag, Metrics, RequestCounts
from broker.web.middleware import ErrorPage, Pipeline
from broker.web.openapi import openapi_route
from broker.web.routes import Route, RouteTable, Surface

_BACKLOG: Final = 1024
"""connections that the kernel accepts before the broker does"""


class WebServer:
    """One HTTP server, from built to stopped. `table`: every route it serves."""

    def __init__(self, web_: Web, app: web.Application, table: RouteTable, lag: LoopLag) -> None:
        self.web = web_
        self.app = app
        self.table = table
        self._lag = lag
        self._runner: GuardedRunner | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, listen: Address, guard: GuardLimits | None = None) -> Address:
        """Listen; answers the address with the port that the system chose if it was 0.

        Raises:
            UnavailableError: the address is taken or not this machine's.
            ConfigError: aiohttp's compiled parser is missing.
        """
        self._runner = GuardedRunner(
            self.app,
            guard_limits=guard or GuardLimits(proxies=self.web.proxies),
            headers=self.web.surface_headers[Surface.API],
            ids=self.web.services.kit.ids,
        )
        await self._runner.setup()
        try:
            # no site of aiohttp's: how it stops to listen is in listening.py
            self._listener = await asyncio.get_running_loop().create_server(
                cast("web.Server", self._runner.server),
                listen.host,
                listen.port,
                backlog=_BACKLOG,
            )
        except OSError as error:
            await self._runner.cleanup()
            raise UnavailableError(f"cannot listen on {listen}: {error.strerror}") from error
        port: int = self._listener.sockets[0].getsockname()[1]
        self.web.sites.listens_on(port)
        self._lag.start()
        return Address(listen.host, port)

    def drain(self) -> None:
        """Say no at /readyz and end what waits or streams; what is under way goes on."""
        self.web.running.draining = True
        self.web.services.watch.close()
        for stream in tuple(self.web.running.streams):
            stream.close()

    async def stop(self, drain_s: float) -> None:
        """Close the door, give requests under way `drain_s` seconds, then cut them."""
        self.drain()
        self._lag.stop()
        if self._listener is not None:
            await stop_listening(self._listener)
            self._listener = None
        if self._runner is not None:
            self._runner.drain_within(drain_s)
            await self._runner.cleanup()
            self._runner = None


def build_web(
    *,
    services: Services,
    config: Config,
    link: AgentSocket,
    guests: GuestLinks,
    displays: Displays,
    shadows: ShadowDisplays,
    profiles: KnownProfiles | None = None,
    extra_routes: Iterable[Route] = (),
    error_page: ErrorPage | None = None,
) -> WebServer:
    """Everything that is served over HTTP.

    profiles: for checking new hosts and rosters. extra_routes: the
    console's. error_page: what people see instead of problem+json.
    """
    web_ = Web.of(
        services=services,
        config=config,
        link=link,
        guests=guests,
        displays=displays,
        shadows=shadows,
        profiles=profiles,
    )
    counts, lag = RequestCounts(), LoopLag()
    metrics = Metrics(services, displays, web_.running, counts, lag)
    table = RouteTable(
        (
            *api_routes(web_),
            *display.routes(web_),
            *shadow_sockets.routes(web_),
            *segments.routes(web_),
            *enrol.routes(web_),
            *guest_link.routes(web_),
            *health.routes(web_, metrics),
            *extra_routes,
        )
    )
    table.add(openapi_route(table))
    pipeline = Pipeline(web_, counts, error_page)
    app = web.Application(middlewares=[_only(pipeline)])
    register(app, table, pipeline)
    return WebServer(web_, app, table, lag)


def _only(pipeline: Pipeline) -> Middleware:
    serve = pipeline.serve

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        del handler  # the pipeline calls the route's own
        return await serve(request)

    return middleware


def register(app: web.Application, table: RouteTable, pipeline: Pipeline) -> None:
    """Put the table into aiohttp's router; HEAD goes where GET has an end."""
    resources: dict[str, web.Resource] = {}
    for route in table:
        resource = resources.get(route.path)
        if resource is None:
            resource = resources[route.path] = app.router.add_resource(route.path)
        methods = [route.method]
        if route.method == hdrs.METH_GET and not route.socket and not route.stream:
            methods.append(hdrs.METH_HEAD)
        for method in methods:
            pipeline.register(resource.add_route(method, _unreached, expect_handler=_expect), route)


async def _unreached(request: web.Request) -> web.StreamResponse:
    raise AssertionError(f"the pipeline serves {request.path}")


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Expect: 100-continue is granted; anything else is 417."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # the writer counts this as output, but the answer itself has not begun
        request.writer.output_size = 0
        return None
    return web.Response(status=web.HTTPExpectationFailed.status_code)
