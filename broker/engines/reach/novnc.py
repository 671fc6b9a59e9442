"""Displays behind a proxy that browsers speak to over WebSocket, as nova-novncproxy and websockify.

The address of the proxy's page carries a token, which is a secret: whoever has it sees the desktop.
It is in no log, no error and no representation here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import aiohttp

from broker.domain.errors import ConsoleProxyError
from broker.limits import (
    CONSOLE_ADDRESS_CHARS_MAX,
    CONSOLE_PROXY_MESSAGE_BYTES_MAX,
    CONSOLE_PROXY_S,
    CONSOLE_PROXY_SILENT_S,
    DISPLAY_CLOSE_S,
    FRAME_BYTES_MAX,
)

_log = logging.getLogger("trivium.displays")
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_RFB: Final = b"RFB "
_KNOBS_MAX: Final = 16
"""of the page's address"""
_PROBES: Final = 3
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]+")
_OLD_PATH: Final = "websockify"
"""where noVNC's page connected to before its address named a path (before 1.1)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxied:
    """What the proxy's page would open: `address` with the token in it, and, for proxies of old,
    the token as a cookie."""

    address: str = field(repr=False)
    cookie: str = field(default="", repr=False)


def proxied(page: str) -> Proxied:
    """What the page of that address connects to, as noVNC's vnc_lite.html does. Raises
    ConsoleProxyError for an address that is none, or that has no token."""
    if len(page) > CONSOLE_ADDRESS_CHARS_MAX:
        raise _refused("the cloud names no address of a console", "address")
    try:
        parts = urlsplit(page)
        host, port = parts.hostname or "", parts.port
        knobs = dict(parse_qsl(parts.query, max_num_fields=_KNOBS_MAX))
        path, _, query = knobs.get("path", "").lstrip("/").partition("?")
        given = dict(parse_qsl(query, max_num_fields=_KNOBS_MAX))
    except ValueError:
        raise _refused("the cloud names no address of a console", "address") from None
    cookie = knobs.get("token", "")
    token = given.get("token", "") or cookie
    if parts.scheme not in _SCHEMES or not host or parts.username is not None or not token:
        raise _refused("the cloud names no address of a console", "address")
    if not _TOKEN.fullmatch(token):
        raise _refused("the cloud hands out a token that nobody could send", "token")
    if cookie and not path:
        path = _OLD_PATH
    where = f"[{host}]" if ":" in host else host
    where += f":{port}" if port is not None else ""
    query = urlencode({**given, "token": token})
    address = f"{_SCHEMES[parts.scheme]}://{where}/{quote(path)}?{query}"
    return Proxied(address=address, cookie=cookie)


class ProxiedConsole:
    """A display through its proxy: RFB as the machine's server speaks it. See the port Console."""

    def __init__(
        self,
        stream: aiohttp.ClientWebSocketResponse,
        greeting: bytes,
        on_close: Callable[[ProxiedConsole], object],
    ) -> None:
        self._stream = stream
        self._rest = memoryview(greeting)
        self._on_close = on_close
        self._closed = False

    @property
    def protocol(self) -> str:
        return "vnc"

    @property
    def size(self) -> tuple[int, int]:
        """Unknown: the client reads it from what flows."""
        return 0, 0

    async def receive(self) -> bytes:
        if not self._rest and not self._closed:
            self._rest = memoryview(await next_message(self._stream))
        if self._closed or not self._rest:
            self.end()
            return b""
        piece, self._rest = self._rest[:FRAME_BYTES_MAX], self._rest[FRAME_BYTES_MAX:]
        return bytes(piece)

    async def send(self, data: bytes) -> None:
        """Waits while the proxy takes nothing; into a display that has gone it does nothing."""
        if self._closed:
            return
        try:
            await self._stream.send_bytes(data)
        except (aiohttp.ClientError, ConnectionError):
            self.end()

    async def close(self) -> None:
        self.end()
        await self._stream.close()

    def end(self) -> None:
        """The display goes away now; `receive` answers b"" from here on."""
        if not self._closed:
            self._closed = True
            _hang_up(self._stream)
            self._on_close(self)


class ConsoleProxies:
    """Opens displays at proxies; one loop uses it. `close` hangs up on all of them."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._streams: set[aiohttp.ClientWebSocketResponse] = set()
        self._closed = False

    async def open(
        self,
        page: str,
        on_close: Callable[[ProxiedConsole], object],
        *,
        verify: bool | str = True,
    ) -> ProxiedConsole:
        """The display at the proxy's page of that address, once its server has greeted. `verify`:
        as of the cloud's own certificates, False for none, or a file of authorities.

        Raises ConsoleProxyError when that does not happen within CONSOLE_PROXY_S.
        """
        there = proxied(page)
        try:
            async with asyncio.timeout(CONSOLE_PROXY_S):
                stream = await self._connect(there, verify=verify)
                try:
                    greeting = await _greeting(stream)
                except BaseException:
                    _hang_up(stream)
                    await stream.close()
                    raise
        except TimeoutError:
            text = f"the console proxy showed no desktop within {CONSOLE_PROXY_S:g} s"
            raise _refused(text, "silence") from None
        # whoever was shown one may leave without closing it
        self._streams = {one for one in self._streams if not one.closed} | {stream}
        return ProxiedConsole(stream, greeting, on_close)

    async def close(self) -> None:
        self._closed = True
        streams, self._streams = self._streams, set()
        for stream in streams:
            _hang_up(stream)
        await asyncio.gather(*(stream.close() for stream in streams))
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _connect(
        self, there: Proxied, *, verify: bool | str
    ) -> aiohttp.ClientWebSocketResponse:
        headers = {"Cookie": f"token={there.cookie}"} if there.cookie else {}
        checks = await asyncio.to_thread(_checks, verify=verify)
        try:
            stream = await self._opened().ws_connect(
                there.address,
                headers=headers,
                protocols=("binary",),
                max_msg_size=CONSOLE_PROXY_MESSAGE_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=DISPLAY_CLOSE_S),
                ssl=checks,
            )
        except (OSError, aiohttp.ClientError) as error:
            # its text has the address, and so the token
            _log.warning("a console proxy: %s", type(error).__name__)
            raise _told(error) from None
        _watch(stream.get_extra_info("socket"))
        return stream

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise _refused("no console proxy is spoken to any more", "closed")
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_no_redirect)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trace_configs=[trace],
            )
        return self._session


async def next_message(stream: aiohttp.ClientWebSocketResponse) -> bytes:
    """What comes next of the display; b"" once it is over. Empty messages are left out: Nova's
    proxy sends one behind its handshake."""
    while True:
        message = await stream.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            return b""
        if message.data:
            return bytes(message.data)


async def _greeting(stream: aiohttp.ClientWebSocketResponse) -> bytes:
    """Nova's proxy looks at the token after it has let its client in, so only this tells."""
    greeting = await next_message(stream)
    if not greeting:
        raise _refused("the console proxy hung up before it showed a desktop", "token")
    if greeting[: len(_RFB)] != _RFB[: len(greeting)]:
        raise _refused("what the console proxy shows is not VNC", "protocol")
    return greeting


def _checks(*, verify: bool | str) -> bool | ssl.SSLContext:
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError:
        text = "the cloud's file of authorities cannot be read"
        raise _refused(text, "certificate") from None


def _told(error: Exception) -> ConsoleProxyError:
    match error:
        case aiohttp.ClientSSLError():
            return _refused("the console proxy's certificate is not taken", "certificate")
        case aiohttp.WSServerHandshakeError(status=401 | 403):
            return _refused("the console proxy does not let the broker in", "token")
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
            return _refused("no console proxy answers at the address that the cloud names", "http")
        case _:
            return _refused("the console proxy was not reached", "network")


async def _no_redirect(
    _: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    """The token is for the proxy that the cloud named, and nobody else."""
    response = params.response
    response.close()
    raise aiohttp.TooManyRedirects(response.request_info, response.history)


def _refused(text: str, what: str) -> ConsoleProxyError:
    return ConsoleProxyError(text, fields={"refused": what})


def _hang_up(stream: aiohttp.ClientWebSocketResponse) -> None:
    """At once; whoever reads or writes finds it closed."""
    sock = stream.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _watch(sock: socket.socket | None) -> None:
    """Find out by itself when the proxy's machine is gone."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause_s = CONSOLE_PROXY_SILENT_S // (_PROBES + 1)
    for option, value in (
        ("TCP_KEEPIDLE", pause_s),
        ("TCP_KEEPINTVL", pause_s),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", CONSOLE_PROXY_SILENT_S * 1000),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
