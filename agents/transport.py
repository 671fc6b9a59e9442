"""The broker's four addresses for endpoints, over aiohttp. One for all endpoints of a process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from hashlib import blake2b
from types import TracebackType
from typing import Self
from urllib.parse import quote

import msgspec
from aiohttp import (
    AddrInfoType,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ClientWSTimeout,
    DummyCookieJar,
    TCPConnector,
    WSServerHandshakeError,
)
from yarl import URL

from agents import __version__, limits
from agents.core import events
from agents.sockets import NETWORK, WebSocket
from broker import wire

_OK = 200
_REQUEST_TIMEOUT = 408
_TOO_MANY = 429
_SERVER_ERROR = 500
_CHUNK_BYTES = 64 * 1024
_DIGEST_BYTES = 16


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of an application/problem+json."""

    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What arrived. `data` is empty unless it was to be kept."""

    digest: bytes
    size: int
    data: bytes


class FetchError(Exception):
    """A segment did not arrive. `refused`: the token is not taken."""

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


def _open_socket(address: AddrInfoType) -> socket.socket:
    """A socket that notices a dead peer by itself, at no cost in this process."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.settimeout(0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.DEAD_PEER_S * 1000))
    return made


def why_of(error: Exception) -> str:
    """An error of the network in a few words."""
    if isinstance(error, WSServerHandshakeError):
        return f"the broker answered HTTP {error.status}"
    return f"{type(error).__name__} {error}".strip()[:200]


def retry_after_of(error: Exception) -> float | None:
    if isinstance(error, WSServerHandshakeError) and error.headers is not None:
        return _seconds(error.headers.get("Retry-After"))
    return None


def _seconds(text: str | None) -> float | None:
    """Retry-After in its form of seconds; a date is not worth a wall clock."""
    return float(text) if text is not None and text.isdecimal() else None


class Transport:
    """Opens sockets and fetches. Use as an async context manager."""

    def __init__(self, base_url: str, *, ca: ssl.SSLContext | None = None) -> None:
        """`base_url`: http or https, as people type it. Raises ValueError for anything else."""
        base = URL(base_url.rstrip("/"))
        if base.scheme not in {"http", "https"} or not base.host:
            raise ValueError(f"{base_url!r} is not an http or https address")
        self._base = str(base).rstrip("/")
        self._ca = ca
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(limit=0, ssl=self._ca or True, socket_factory=_open_socket),
            cookie_jar=DummyCookieJar(),
            headers={"User-Agent": f"trivium-agent/{__version__}", "Accept-Encoding": "identity"},
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def _http(self) -> ClientSession:
        if self._session is None:
            raise RuntimeError("use the transport as a context manager")
        return self._session

    def _url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)

    async def link(self) -> WebSocket:
        """The control link. Raises errors in NETWORK."""
        return await self._open(wire.LINK_PATH, limits.LINK_MESSAGE_BYTES_MAX)

    async def display(self) -> WebSocket:
        """A display socket. Raises errors in NETWORK."""
        return await self._open(wire.DISPLAY_PATH, limits.FRAME_BYTES_MAX)

    async def _open(self, path: str, bytes_max: int) -> WebSocket:
        async with asyncio.timeout(limits.CONNECT_S):
            return await self._http.ws_connect(
                self._url(path),
                protocols=(wire.SUBPROTOCOL,),
                timeout=ClientWSTimeout(ws_close=limits.CLOSE_S),
                autoping=False,
                compress=0,
                max_msg_size=bytes_max,
                decode_text=False,
            )

    async def enrol(self, request: wire.EnrolRequest) -> events.Enrolled | events.EnrolRefused:
        """POST an enrolment. Never raises for the network: it may be there next time."""
        try:
            async with (
                asyncio.timeout(limits.CONNECT_S),
                self._http.post(
                    self._url(wire.ENROL_PATH),
                    data=wire.encode(request),
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as answer,
            ):
                body = await answer.content.read(limits.ENROL_BYTES_MAX)
                while len(body) < limits.ENROL_BYTES_MAX and (
                    more := await answer.content.read(limits.ENROL_BYTES_MAX - len(body))
                ):
                    body += more
                return _enrolled(answer, body)
        except NETWORK as error:
            return events.EnrolRefused(code="link.unreachable", detail=why_of(error))

    async def fetch(
        self, image_id: str, index: int, token: str, *, bytes_max: int, keep: bool
    ) -> Segment:
        """GET one segment; it is hashed as it arrives. Raises FetchError."""
        path = wire.SEGMENT_PATH.format(image_id=quote(image_id, safe=""), index=index)
        try:
            async with (
                asyncio.timeout(limits.FETCH_S),
                self._http.get(
                    self._url(path),
                    headers={"Authorization": f"Bearer {token}"},
                    allow_redirects=False,
                ) as answer,
            ):
                if answer.status != _OK:
                    raise FetchError(f"HTTP {answer.status}", refused=_is_final(answer.status))
                return await _read_segment(answer, bytes_max, keep=keep)
        except (*NETWORK, ValueError) as error:
            raise FetchError(why_of(error)) from error


async def _read_segment(answer: ClientResponse, bytes_max: int, *, keep: bool) -> Segment:
    hashed = blake2b(digest_size=_DIGEST_BYTES)
    size = 0
    kept = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
        size += len(chunk)
        hashed.update(chunk)
        if size > bytes_max:
            # too long to be the right one: the digest of what was read says so
            answer.close()
            break
        if keep:
            kept += chunk
    return Segment(digest=hashed.digest(), size=size, data=bytes(kept))


def _is_final(status: int) -> bool:
    """Whether asking the same again is useless."""
    return status < _SERVER_ERROR and status not in {_REQUEST_TIMEOUT, _TOO_MANY}


def _enrolled(answer: ClientResponse, body: bytes) -> events.Enrolled | events.EnrolRefused:
    retry_after_s = _seconds(answer.headers.get("Retry-After"))
    if answer.status in {_OK, _OK + 1}:
        try:
            return events.Enrolled(answer=msgspec.json.decode(body, type=wire.EnrolAnswer))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return events.EnrolRefused(
                code="endpoint.protocol", detail="the answer to the enrolment was not understood"
            )
    problem = _Problem()
    with contextlib.suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        problem = msgspec.json.decode(body, type=_Problem)
    return events.EnrolRefused(
        code=problem.code or f"http.{answer.status}",
        detail=problem.detail,
        retry_after_s=retry_after_s,
        final=_is_final(answer.status),
    )
