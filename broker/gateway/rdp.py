"""RDP viewers: of all that they say, the one packet in the clear before their own encryption.

A connection file carries the pass as its `loadbalanceinfo`, which clients send as the routing
token of their X.224 Connection Request ([MS-RDPBCGR] 2.2.1.1). The desktop is sent the request
without it, and from then on everything as it comes: the encryption, the certificate and the log-on
are between viewer and desktop.
"""

from __future__ import annotations

import re
from typing import Final

from broker.domain.viewers import ViewerKind
from broker.gateway.relay import RefusedError, Streams, Viewer
from broker.limits import RDP_REQUEST_BYTES_MAX
from broker.services.viewers import Knock, Viewers

_TPKT: Final = b"\x03\x00"
_TPKT_BYTES: Final = 4
_FIXED_BYTES: Final = 7
"""of the request: length, code, two references, class"""
_CONNECTION_REQUEST: Final = 0xE0
_LINE_END: Final = b"\r\n"
_TOKEN: Final = re.compile(rb"trivium:([a-z0-9_]{1,64}):([A-Za-z0-9_-]{1,128})")


def routing_token(session_id: str, secret: str) -> str:
    """The pass as connection files give it."""
    return f"trivium:{session_id}:{secret}"


def split_request(packet: bytes) -> tuple[bytes, bytes]:
    """(the routing token, the packet without it) of a whole Connection Request.

    Raises:
        RefusedError: it is something else, or has no token.
    """
    body = packet[_TPKT_BYTES:]
    is_request = len(body) >= _FIXED_BYTES and body[0] == len(body) - 1
    if not is_request or body[1] != _CONNECTION_REQUEST:
        raise RefusedError("not an RDP connection request")
    token, end, rest = body[_FIXED_BYTES:].partition(_LINE_END)
    if not end:
        raise RefusedError("an RDP connection request without a pass")
    bare = bytes([_FIXED_BYTES - 1 + len(rest)]) + body[1:_FIXED_BYTES] + rest
    return token, _TPKT + (_TPKT_BYTES + len(bare)).to_bytes(2) + bare


class RdpViewer(Viewer):
    """A viewer whose first bytes for the desktop are those that the relay has read."""

    def __init__(self, streams: Streams, first: bytes) -> None:
        super().__init__(streams)
        self._first = first

    async def receive(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await super().receive()


class RdpGreet:
    def __init__(self, viewers: Viewers) -> None:
        self._viewers = viewers

    async def __call__(self, streams: Streams) -> tuple[Knock, Viewer]:
        reader, _ = streams
        head = await reader.readexactly(_TPKT_BYTES)
        size = int.from_bytes(head[2:])
        if head[:2] != _TPKT or not _TPKT_BYTES < size <= RDP_REQUEST_BYTES_MAX:
            raise RefusedError("not an RDP connection request")
        packet = head + await reader.readexactly(size - _TPKT_BYTES)
        token, bare = split_request(packet)
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise RefusedError("an RDP connection request without a pass")
        session_id, secret = (part.decode("ascii") for part in found.groups())
        knock = await self._viewers.knock(ViewerKind.RDP, session_id, secret)
        return knock, RdpViewer(streams, bare)
