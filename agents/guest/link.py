"""The link to a broker over the network: for machines into which there is no port."""

from __future__ import annotations

import json
import select
import socket
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from agents.guest import limits, websocket
from agents.guest.chance import Chance
from agents.guest.clock import Clock
from agents.guest.config import Config
from agents.guest.given import Given
from agents.guest.transport import Transport

PATH = "/agent/v1/guest"
SUBPROTOCOL = "trivium-guest.1"
_SECURE = {"https": 443, "wss": 443}
_PLAIN = {"http": 80, "ws": 80}
_NO_ADDRESS = "the broker's address is not known: see broker.address"
_HEAD_ENDS = b"\r\n\r\n"


class UnreachableError(Exception):
    """Not linked; the text says why, without the ticket."""


class Place(NamedTuple):
    """Where the broker is. `shown`: its name and port as they are sent."""

    host: str
    port: int
    shown: str
    secure: bool


def place_of(address: str, *, plain: bool) -> Place:
    """Raises UnreachableError for what is no address, or one without secrecy, unless `plain`."""
    ports = {**_SECURE, **_PLAIN}
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UnreachableError(_NO_ADDRESS) from None
    if not host or parts.scheme not in ports or not address.isascii() or parts.username:
        raise UnreachableError(_NO_ADDRESS)
    if parts.scheme in _PLAIN and not plain:
        raise UnreachableError("the broker's address has no secrecy: see broker.plain")
    own = f"[{host}]" if ":" in host else host
    shown = own if port in (None, ports[parts.scheme]) else f"{own}:{port}"
    return Place(host, port or ports[parts.scheme], shown, parts.scheme in _SECURE)


def _encrypted(raw: socket.socket, host: str, authority: str) -> socket.socket:
    # a Python without TLS still speaks over a port
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context(cafile=authority or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context.wrap_socket(raw, server_hostname=host)


class Link(Transport):
    """`given`: what the machine was given, looked for before each connection."""

    def __init__(
        self, config: Config, clock: Clock, chance: Chance, given: Callable[[], Given]
    ) -> None:
        self._config = config
        self._clock = clock
        self._chance = chance
        self._given = given
        self._socket: Any = None
        self._frames = websocket.Frames()
        self._unsent = b""
        self._heard = 0.0
        self._due = 0.0
        self._failures = 0
        self._told = ""

    # --------------------------------------------------------------------- connecting

    def _open(self) -> None:
        """Connected, and the ticket sent. Raises UnreachableError."""
        given = self._given()
        place = place_of(given.address, plain=self._config.plain)
        if not given.ticket:
            raise UnreachableError("this machine was given no ticket")
        ends = self._clock.monotonic() + limits.CONNECT_S
        self._frames = websocket.Frames()
        try:
            self._socket = socket.create_connection((place.host, place.port), limits.CONNECT_S)
            if place.secure:
                self._socket = _encrypted(self._socket, place.host, self._config.authority)
            key = self._chance.draw(16)
            self._socket.sendall(websocket.request(place.shown, PATH, key, SUBPROTOCOL))
            rest = self._shake_hands(key, ends)
            self._socket.settimeout(0)
        except (OSError, ValueError, ImportError, websocket.BrokenError) as error:
            self.close()
            raise UnreachableError(f"{place.shown}: {error}") from None
        self._unsent = b""
        self._heard = self._clock.monotonic()
        self.connected = True
        presented = {"type": "present", "ticket": given.ticket}
        self._say(websocket.TEXT, json.dumps(presented).encode())
        self._take(rest)

    def _shake_hands(self, key: bytes, ends: float) -> bytes:
        """What came after the answer's head."""
        head = b""
        while _HEAD_ENDS not in head:
            left = ends - self._clock.monotonic()
            if left <= 0 or len(head) > limits.HEAD_BYTES_MAX:
                raise websocket.BrokenError("the broker does not answer")
            self._socket.settimeout(left)
            data = self._socket.recv(limits.READ_BYTES)
            if not data:
                raise websocket.BrokenError("the broker hung up")
            head += data
        head, _, rest = head.partition(_HEAD_ENDS)
        websocket.check_answer(head, key, SUBPROTOCOL)
        return rest

    def _later(self, why: str) -> None:
        """Not linked: try again, after a pause that chance draws."""
        self.close()
        self._failures += 1
        most = min(limits.LINK_PAUSE_S_MAX, limits.LINK_PAUSE_S * 2.0 ** min(self._failures, 10))
        self._due = self._clock.monotonic() + self._chance.up_to(most)
        if why != self._told:
            self._told = why
            sys.stderr.write(f"link: {why}\n")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self.connected = False

    # ------------------------------------------------------------------ reading, writing

    def wait(self, timeout_s: float, *, writable: bool) -> bytes:
        if self._socket is None:
            left = self._due - self._clock.monotonic()
            if left > 0:
                self._clock.sleep(min(left, timeout_s))
                return b""
            try:
                self._open()
            except UnreachableError as error:
                self._later(str(error))
            return b""
        if self._clock.monotonic() - self._heard > limits.LINK_SILENT_S:
            self._later("the broker was not heard for long")
            return b""
        self._flush()
        if self._socket is None:
            return b""
        wants = select.POLLIN | (select.POLLOUT if writable or self._unsent else 0)
        poll = select.poll()
        poll.register(self._socket.fileno(), wants)
        # what TLS has unpacked already is not seen by the kernel
        ready = getattr(self._socket, "pending", int)() or poll.poll(timeout_s * 1000)
        return self._read() if ready else b""

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(limits.READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            if type(error).__name__ in {"SSLWantReadError", "SSLWantWriteError"}:
                return b""
            self._later(f"the link broke: {error}")
            return b""
        if not data:
            self._later("the broker hung up")
            return b""
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        """The lines that are complete now."""
        self._heard = self._clock.monotonic()
        try:
            events = self._frames.feed(data)
        except websocket.BrokenError as error:
            self._say(websocket.CLOSE, error.code.to_bytes(2, "big"))
            self._later(str(error))
            return b""
        lines = b""
        for event in events:
            if event.kind == websocket.TEXT:
                self._failures, self._told = 0, ""
                lines += event.data.replace(b"\n", b" ") + b"\n"
            elif event.kind == websocket.PING:
                self._say(websocket.PONG, event.data)
            elif event.kind == websocket.CLOSE:
                self._say(websocket.CLOSE, event.code.to_bytes(2, "big") if event.data else b"")
                reason = event.data.decode(errors="replace")
                self._later(f"the broker closed the link: {event.code} {reason}")
                break
        return lines

    def write(self, data: bytes) -> int:
        if not self.connected:
            return 0
        self._flush()
        if self._socket is None or self._unsent:
            return 0
        line = data.rstrip(b"\n")
        if line:
            self._say(websocket.TEXT, line)
        return len(data)

    def _say(self, kind: int, payload: bytes) -> None:
        if len(self._unsent) > limits.UNSENT_BYTES_MAX:
            return  # a broker that does not read is not answered either
        self._unsent += websocket.frame(kind, payload, self._chance.draw(4))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent and self._socket is not None:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if type(error).__name__ not in {"SSLWantReadError", "SSLWantWriteError"}:
                self._later(f"the link broke: {error}")
