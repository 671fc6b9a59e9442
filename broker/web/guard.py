"""Holds off slow clients at the connection, where aiohttp has no limit of its own.

aiohttp 3.14 never closes a connection whose header dribbles in or whose body stalls (measured:
0 of 3 in 150 s). Here each connection has a deadline for what it is expected to send: a whole
header, then the whole body; of an upload, which may take hours, always more. One sweep looks at
all connections; there is no timer for each. A handler at work (a long poll, an event stream, a
WebSocket) has no deadline, but a client that does not take a byte of its answer for
WRITE_STALLED_S counts as gone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, cast

from aiohttp import http_parser, web
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server
from multidict import CIMultiDict

from broker import limits
from broker.domain.errors import BadRequestError, ConfigError
from broker.ports import Ids
from broker.web.call import REQUEST_ID
from broker.web.problems import problem_response
from broker.web.proxies import Proxies

_log = logging.getLogger("trivium.web")

_NOTHING_DUE: Final = float("inf")
_DRAIN_S_MIN: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """Seconds of the event loop, and connections. See broker/limits for each."""

    header_s: float = limits.HEADER_DEADLINE_S
    body_s: float = limits.BODY_DEADLINE_S
    upload_stalled_s: float = limits.UPLOAD_STALLED_S
    keepalive_s: float = limits.KEEPALIVE_S
    write_stalled_s: float = limits.WRITE_STALLED_S
    sweep_s: float = limits.GUARD_S
    per_address_max: int = limits.CONNECTIONS_PER_ADDRESS_MAX
    loopback_limited: bool = False
    proxies: Proxies = field(default_factory=lambda: Proxies(()))
    """not limited either: everybody comes through them"""


def check_parser() -> None:
    """Refuse to serve with aiohttp's lenient Python parser.

    Raises:
        ConfigError: the compiled parser is missing or was switched off.
    """
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ConfigError(
            "aiohttp's compiled HTTP parser is missing; install the wheel, and do not set "
            "AIOHTTP_NO_EXTENSIONS"
        )


class GuardedConnection(RequestHandler):
    """One client's connection with its deadline.

    due_s: loop time by which the client must have sent what it began; _NOTHING_DUE while it is
    the broker's turn, or between two requests, which aiohttp's keep-alive covers.
    """

    __slots__ = (
        "_body",
        "_entered",
        "_guard",
        "_raw",
        "_taken_s",
        "_unsent",
        "_uploading",
        "address",
        "due_s",
    )

    def __init__(self, guard: GuardedServer, **kwargs: Any) -> None:
        super().__init__(guard, **kwargs)
        self._guard = guard
        self._body: StreamReader | None = None
        self._entered = False
        self._uploading = False
        # aiohttp forgets its transport when it closes, while bytes may still be unsent
        self._raw: asyncio.Transport | None = None
        self._taken_s = 0.0
        self._unsent = 0
        self.address = ""
        self.due_s = _NOTHING_DUE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast("asyncio.Transport", transport)
        peer = raw.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if self._guard.closing or not self._guard.enter(address):
            raw.abort()
            return
        self.address, self._raw, self._entered = address, raw, True
        super().connection_made(transport)
        self._taken_s = self._loop.time()
        self.due_s = self._taken_s + self._guard.limits.header_s

    def begin_upload(self) -> None:
        """The body that is on its way may take as long as its reader allows, but not stand still
        for `upload_stalled_s`."""
        if self._body is not None:
            self._uploading = True
            self.due_s = self._loop.time() + self._guard.limits.upload_stalled_s

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._entered:
            self._entered = False
            self._guard.leave(self.address)
        self.due_s = _NOTHING_DUE
        self._body = self._raw = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._payload_parser is not None or self._upgraded:
            self.due_s = _NOTHING_DUE
            return
        if self._request_count != before and self._messages:
            # a header is complete; its body may still be on the way
            body = self._messages[-1][1]
            self._uploading = False
            if body.is_eof():
                self._body, self.due_s = None, _NOTHING_DUE
            else:
                self._body = body
                self.due_s = self._loop.time() + self._guard.limits.body_s
        elif self._body is not None:
            if self._body.is_eof():
                self._body, self.due_s = None, _NOTHING_DUE
            elif self._uploading:
                self.due_s = self._loop.time() + self._guard.limits.upload_stalled_s
        elif data and self.due_s == _NOTHING_DUE:
            # the first bytes of a next header
            self.due_s = self._loop.time() + self._guard.limits.header_s

    def look(self, now_s: float) -> None:
        """Close the connection if its time is up. Called every `sweep_s`."""
        if self._raw is None:
            return
        if now_s >= self.due_s:
            self._cut("sent too slowly")
            return
        unsent = self._raw.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._taken_s = now_s
        elif now_s - self._taken_s >= self._guard.limits.write_stalled_s:
            self._cut("takes nothing of its answer")
        self._unsent = unsent

    def _cut(self, why: str) -> None:
        _log.info("connection of %s closed: it %s", self.address, why)
        self.due_s = _NOTHING_DUE
        if self._raw is not None:
            # not a close: that would wait for the client to take what is still unsent
            self._raw.abort()
            self._raw = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP, and to what failed outside the pipeline."""
        if isinstance(exc, ConnectionError):
            # the client left while it was being answered: nobody to tell, nothing to log
            raise exc
        if status < 500:  # noqa: PLR2004 - the client's fault, and no news
            error = BadRequestError("this is not a well-formed HTTP request")
            return self._guard.problem(error)
        return super().handle_error(request, status, exc, message)


class GuardedServer(Server):
    """Makes guarded connections, counts them by address, and sweeps over them."""

    def __init__(
        self,
        inner: Server,
        *,
        guard_limits: GuardLimits,
        headers: CIMultiDict[str],
        ids: Ids,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            inner.request_handler,
            request_factory=inner.request_factory,
            handler_cancellation=inner.handler_cancellation,
            loop=loop,
            **inner._kwargs,  # noqa: SLF001 - what AppRunner was given for its connections
        )
        self.limits = guard_limits
        self._headers = headers
        self._ids = ids
        self._by_address: Counter[str] = Counter()
        self._handle: asyncio.TimerHandle | None = None
        self.closing = False

    def pre_shutdown(self) -> None:
        """From here on a connection that the door still let in is cut: aiohttp closes the
        connections that it knows now, and would forget one that arrives meanwhile."""
        self.closing = True
        super().pre_shutdown()

    def __call__(self) -> RequestHandler:
        return GuardedConnection(self, loop=self._loop, **self._kwargs)

    def problem(self, error: BadRequestError) -> web.Response:
        """An answer outside of any request; the connection is closed after it."""
        headers = self._headers.copy()
        headers[REQUEST_ID] = request_id = self._ids.new("req")
        response = problem_response(error, request_id=request_id, path="", headers=headers)
        response.force_close()
        return response

    def enter(self, address: str) -> bool:
        """Count a connection; False when the address has as many as it may."""
        guard = self.limits
        own = not guard.loopback_limited and _is_loopback(address)
        limited = not own and not guard.proxies.trusts(address)
        if limited and self._by_address[address] >= guard.per_address_max:
            _log.info("connection of %s refused: it has %d", address, self._by_address[address])
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def start_sweeping(self) -> None:
        self._handle = self._loop.call_later(self.limits.sweep_s, self._sweep)

    def stop_sweeping(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _sweep(self) -> None:
        now_s = self._loop.time()
        for connection in self.connections:
            if isinstance(connection, GuardedConnection):
                connection.look(now_s)
        self.start_sweeping()


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class GuardedRunner(web.AppRunner):
    """AppRunner whose server is guarded."""

    def __init__(
        self,
        app: web.Application,
        *,
        guard_limits: GuardLimits,
        headers: CIMultiDict[str],
        ids: Ids,
    ) -> None:
        check_parser()
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=guard_limits.keepalive_s,
            max_line_size=limits.HEADER_LINE_BYTES_MAX,
            max_field_size=limits.HEADER_LINE_BYTES_MAX,
            max_headers=limits.HEADER_LINES_MAX,
            # compressed bodies are refused; nothing may unpack one before that
            auto_decompress=False,
        )
        self._guard_limits = guard_limits
        self._headers = headers
        self._ids = ids

    def drain_within(self, seconds: float) -> None:
        """How long `cleanup` waits for requests under way."""
        # aiohttp takes 0 for "without end"
        self._shutdown_timeout = max(seconds, _DRAIN_S_MIN)

    async def _make_server(self) -> Server:
        inner = await super()._make_server()
        guarded = GuardedServer(
            inner,
            guard_limits=self._guard_limits,
            headers=self._headers,
            ids=self._ids,
            loop=asyncio.get_running_loop(),
        )
        guarded.start_sweeping()
        return guarded

    async def cleanup(self) -> None:
        if isinstance(self._server, GuardedServer):
            self._server.stop_sweeping()
        await super().cleanup()
