"""A person who opens the VDI display in a browser, without an endpoint. Runs under gevent.

Speaks the display protocol of the API: a WebSocket at /api/v1/sessions/{id}/display whose first
message presents the ticket; then binary frames come down until the broker closes. The frames
are read and counted, not drawn.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit, urlunsplit

import gevent
import msgspec
import websocket

from loadtests.limits import CONNECT_S, REQUEST_S
from loadtests.records import EndpointPhase


class DisplayError(Exception):
    """The display did not open. `error` is its class."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class _FirstAnswer(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    code: str = ""


class Display:
    """One open display. `phases`: display_open and first_frame, as this client timed them."""

    def __init__(self, url: str, session_id: str, token: str, ticket: str) -> None:
        self._session_id = session_id
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._ticket = ticket
        self._reader: gevent.Greenlet[[], None] | None = None
        self.bytes_down = 0
        self.phases: list[EndpointPhase] = []

    def open(self) -> None:
        """Presents the ticket and begins to read.

        Raises:
            DisplayError: the broker refused it or could not be reached.
        """
        begun = time.monotonic()
        parts = urlsplit(self._url)
        origin = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
        scheme = "wss" if parts.scheme == "https" else "ws"
        path = f"/api/v1/sessions/{self._session_id}/display"
        try:
            self._socket = websocket.create_connection(
                urlunsplit((scheme, parts.netloc, path, "", "")),
                timeout=CONNECT_S,
                header=self._headers,
                origin=origin,
                http_no_proxy=["*"],
            )
            self._socket.send(
                msgspec.json.encode({"type": "display_open", "ticket": self._ticket}).decode()
            )
            answer = self._socket.recv()
        except websocket.WebSocketBadStatusException as error:
            raise DisplayError(f"http:{error.status_code}") from error
        except (websocket.WebSocketException, OSError) as error:
            raise DisplayError("transport:display") from error
        self._check(answer)
        self._socket.settimeout(REQUEST_S)
        self._phase("display_open", begun)
        self._reader = gevent.spawn(self._read)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.kill()
            self._socket.close(timeout=1)

    def _check(self, answer: str | bytes) -> None:
        try:
            first = msgspec.json.decode(answer, type=_FirstAnswer)
        except msgspec.DecodeError as error:
            raise DisplayError("answer:not_understood") from error
        if first.type != "display_ready":
            raise DisplayError(f"problem:{first.code or 'display'}")

    def _read(self) -> None:
        waiting_since = time.monotonic()
        try:
            while True:
                frame = self._socket.recv()
                if frame in {"", b""}:
                    return
                if not self.bytes_down:
                    self._phase("first_frame", waiting_since, len(frame))
                self.bytes_down += len(frame)
        except (websocket.WebSocketException, OSError):
            return

    def _phase(self, name: str, since: float, bytes_down: int = 0) -> None:
        took_ms = round((time.monotonic() - since) * 1000, 3)
        self.phases.append(EndpointPhase(name=name, took_ms=took_ms, bytes_down=bytes_down))
