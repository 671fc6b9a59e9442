"""WebSocket (RFC 6455), a client's side, as far as the agent needs it. Bytes in, events out.

Strict: whatever a server may not send ends the connection. Extensions are not offered, so none is
taken; nothing is longer than a line of the protocol.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import NamedTuple

from agents.guest import limits

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_CONTINUED, _BINARY = 0x0, 0x2
_CONTROL = {CLOSE, PING, PONG}
_CONTROL_BYTES_MAX = 125
_LAST, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

PROTOCOL, UNSUPPORTED, NOT_TEXT, TOO_LONG = 1002, 1003, 1007, 1009
"""close codes for a server that breaks the protocol"""
NO_CODE = 1005


class BrokenError(Exception):
    """The server broke the protocol. `code`: to close with; 0: there is nothing to close yet."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Event(NamedTuple):
    """`kind`: TEXT, PING, PONG or CLOSE. `code`: why the server closes."""

    kind: int
    data: bytes = b""
    code: int = 0


def request(host: str, path: str, key: bytes, protocol: str) -> bytes:
    """The handshake's request. `host`: as it is sent. `key`: 16 bytes of chance."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode()}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {protocol}",
        "User-Agent: trivium-guest",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def check_answer(head: bytes, key: bytes, protocol: str) -> None:
    """Raises BrokenError unless this head of an answer lets us in."""
    status, *lines = head.decode("latin-1").split("\r\n")
    words = status.split(" ", 2)
    if words[0] != "HTTP/1.1" or words[1:2] != ["101"]:
        raise BrokenError(f"the broker answers {status[:80]!r}")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name.lower() in fields:
            raise BrokenError("the broker's answer is not well formed")
        fields[name.lower()] = value.strip()
    wanted = base64.b64encode(hashlib.sha1(base64.b64encode(key) + _MAGIC).digest())  # noqa: S324 -- what RFC 6455 asks for; nothing secret
    tokens = {one.strip().lower() for one in fields.get("connection", "").split(",")}
    if (
        fields.get("upgrade", "").lower() != "websocket"
        or "upgrade" not in tokens
        or fields.get("sec-websocket-accept", "").encode() != wanted
        or fields.get("sec-websocket-protocol") != protocol
        or "sec-websocket-extensions" in fields
    ):
        raise BrokenError("what answers is no broker that takes guests")


def frame(kind: int, payload: bytes, mask: bytes) -> bytes:
    """One whole message, masked. `mask`: 4 bytes of chance."""
    size = len(payload)
    if size < _TWO_BYTES:
        head = struct.pack("!BB", _LAST | kind, _MASKED | size)
    else:
        head = struct.pack("!BBH", _LAST | kind, _MASKED | _TWO_BYTES, size)
    wide = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(wide, "big")
    return head + mask + masked.to_bytes(size, "big")


class Frames:
    """Cuts what the server sends into events. Useless once it has raised."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts = b""
        self._within = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete now. Raises BrokenError."""
        self._rest += data
        found: list[Event] = []
        while True:
            cut = self._cut()
            if cut is None:
                return found
            event = self._taken(*cut)
            if event is not None:
                found.append(event)

    def _cut(self) -> tuple[int, bool, bytes] | None:
        """The next frame: its kind, whether it is a message's last, and what it carries."""
        data = self._rest
        if len(data) < 2:  # noqa: PLR2004 -- a frame's first two bytes
            return None
        first, second = data[0], data[1]
        if first & _RESERVED or second & _MASKED:
            raise BrokenError("the broker's frames are not those of RFC 6455", PROTOCOL)
        size, begins = second, 2
        if second == _TWO_BYTES:
            begins = 4
        elif second == _EIGHT_BYTES:
            begins = 10
        if len(data) < begins:
            return None
        if begins > 2:  # noqa: PLR2004 -- likewise
            size = int.from_bytes(data[2:begins], "big")
            if size < _TWO_BYTES or (begins == 10 and size <= 0xFFFF):  # noqa: PLR2004
                raise BrokenError("the broker's frames are not those of RFC 6455", PROTOCOL)
        if len(self._parts) + size > limits.LINE_BYTES_MAX:
            raise BrokenError("the broker says more than a line holds", TOO_LONG)
        if len(data) < begins + size:
            return None
        self._rest = data[begins + size :]
        return first & 0x0F, bool(first & _LAST), data[begins : begins + size]

    def _taken(self, kind: int, last: bool, data: bytes) -> Event | None:  # noqa: FBT001
        if kind in _CONTROL:
            if not last or len(data) > _CONTROL_BYTES_MAX:
                raise BrokenError("the broker's frames are not those of RFC 6455", PROTOCOL)
            return _closed(data) if kind == CLOSE else Event(kind, data)
        if kind == _BINARY:
            raise BrokenError("the broker says something that is no text", UNSUPPORTED)
        if kind != (_CONTINUED if self._within else TEXT):
            raise BrokenError("the broker's frames are not those of RFC 6455", PROTOCOL)
        self._parts += data
        self._within = not last
        if not last:
            return None
        whole, self._parts = self._parts, b""
        _check_text(whole)
        return Event(TEXT, whole)


def _closed(data: bytes) -> Event:
    if not data:
        return Event(CLOSE, b"", NO_CODE)
    if len(data) == 1:
        raise BrokenError("the broker's frames are not those of RFC 6455", PROTOCOL)
    _check_text(data[2:])
    return Event(CLOSE, data[2:], int.from_bytes(data[:2], "big"))


def _check_text(data: bytes) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise BrokenError("the broker says something that is no text", NOT_TEXT) from None
