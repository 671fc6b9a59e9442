"""SPICE viewers: an HTTP proxy that connects to one session and to nothing else.

A connection file names this relay as the viewer's proxy, with the session's id as user name and
the pass as password ([RFC 9110] 9.3.6, [RFC 7617]), and the session's id as the host to go to. A
viewer opens a connection for each of its channels: the first uses the pass up, and those that
follow from the same address with the same pass are let in beside it while it is open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from broker.domain.errors import TriviumError
from broker.domain.viewers import ViewerKind
from broker.gateway.channels import ChannelGateway
from broker.gateway.relay import RefusedError, Relay, Streams, Viewer
from broker.limits import PROXY_HEADER_BYTES_MAX
from broker.services.tickets import secret_hash
from broker.services.viewers import Knock, Viewers

_END: Final = b"\r\n\r\n"
_REQUEST: Final = re.compile(rb"CONNECT ([a-z0-9_]{1,64}):[0-9]{1,5} HTTP/1\.[01]")
_CREDENTIALS: Final = re.compile(
    rb"proxy-authorization: *basic +([A-Za-z0-9+/=]{1,400}) *", re.IGNORECASE
)
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_WHO: Final = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
    b'Proxy-Authenticate: Basic realm="session"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
)


def read_request(header: bytes) -> tuple[str, str, str] | None:
    """(host, user name, password) of a CONNECT request; None without credentials.

    Raises:
        RefusedError: it is another request, or the credentials are not to be read.
    """
    first, *lines = header.removesuffix(_END).split(b"\r\n")
    asked = _REQUEST.fullmatch(first)
    if asked is None:
        raise RefusedError("not a request for a session")
    found = [match for line in lines if (match := _CREDENTIALS.fullmatch(line)) is not None]
    if not found:
        return None
    try:
        (one,) = found
        text = base64.b64decode(one[1], validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        raise RefusedError("credentials that cannot be read") from None
    username, _, password = text.partition(":")
    return asked[1].decode("ascii"), username, password


class SpiceViewer(Viewer):
    """One connection; told that it is through once the desktop's is there. `on_ready` is called
    then."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams)
        self.on_ready: Callable[[], object] = lambda: None

    async def ready(self, session_id: str, width: int, height: int, protocol: str) -> None:
        await super().ready(session_id, width, height, protocol)
        self.on_ready()
        await self.send(_ESTABLISHED)

    async def refuse(self, error: TriviumError) -> None:
        await super().refuse(error)
        await self.send(_REFUSED)


class SpiceGreet:
    def __init__(self, viewers: Viewers) -> None:
        self._viewers = viewers

    async def __call__(self, streams: Streams) -> tuple[Knock, Viewer]:
        reader, writer = streams
        header = await reader.readuntil(_END)
        if len(header) > PROXY_HEADER_BYTES_MAX:
            raise RefusedError("a header without end")
        try:
            asked = read_request(header)
        except RefusedError:
            writer.write(_REFUSED)
            raise
        if asked is None:
            writer.write(_WHO)
            raise RefusedError("a request without a pass")
        host, session_id, secret = asked
        if host != session_id:
            writer.write(_REFUSED)
            raise RefusedError("a pass for another session")
        knock = await self._viewers.knock(ViewerKind.SPICE, session_id, secret)
        return knock, SpiceViewer(streams)


@dataclass(eq=False, slots=True)
class _Shown:
    """The pass that a viewer's first connection used up, and the display that it opened."""

    pass_hash: bytes
    source: str
    display: object | None = None

    def knows(self, pass_hash: bytes, source: str) -> bool:
        return self.source == source and hmac.compare_digest(self.pass_hash, pass_hash)


class SpiceRelay(Relay):
    """A relay whose viewers have several connections."""

    def __init__(self, *, displays: ChannelGateway, **more: Any) -> None:
        super().__init__(displays=displays, **more)
        self._channels = displays
        self._shown: dict[str, _Shown] = {}

    async def _show(self, knock: Knock, viewer: Viewer, source: str) -> str:
        pass_hash, session_id = secret_hash(knock.ticket), knock.session_id
        first = self._shown.get(session_id)
        if first is not None and first.knows(pass_hash, source):
            return await self._channels.beside(viewer, session_id, first.display)
        mine = _Shown(pass_hash, source)

        def opened() -> None:
            mine.display = self._channels.shown(session_id)
            self._shown[session_id] = mine

        if isinstance(viewer, SpiceViewer):
            viewer.on_ready = opened
        try:
            return await super()._show(knock, viewer, source)
        finally:
            if self._shown.get(session_id) is mine:
                del self._shown[session_id]
