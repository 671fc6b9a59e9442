"""A port for one kind of viewer outside the browser.

A viewer's connection goes three steps: it is counted by its source, it shows a pass within
RELAY_HANDSHAKE_S (`Greet`, the protocol's own), and then it is a client of the displays like a
browser's socket: the same tickets, the same limits, one display for each session, killed by the
same switch. From the pass on, bytes are copied unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections import Counter
from typing import Final, Protocol, TypeAlias, cast

from broker.config import Address
from broker.domain.errors import BadTicketError, ConfigError, TriviumError
from broker.domain.policy.sources import source_of
from broker.domain.viewers import ViewerKind
from broker.gateway.sources import SourceThrottle
from broker.limits import (
    DISPLAY_CLOSE_S,
    DISPLAY_INPUT_BYTES_MAX,
    DISPLAY_SIGN_IN_S,
    RELAY_BUFFER_BYTES,
    RELAY_HANDSHAKE_S,
    RELAY_NEW_PER_SOURCE_MAX,
    RELAY_NEW_WINDOW_S,
    RELAY_SILENT_S,
    RELAY_SOURCES_MAX,
    RELAY_STRANGERS_PER_SOURCE_MAX,
    RELAYS_MAX,
    RELAYS_PER_SOURCE_MAX,
)
from broker.listening import stop_listening
from broker.ports import Clock, Displays
from broker.services.viewers import Knock, Viewers

_log = logging.getLogger("trivium.relay")

_READ_BYTES: Final = 16 * 1024
"""read ahead of what is asked for"""
_RTT_OFFSET: Final = 68
"""of tcpi_rtt, in microseconds, in Linux's struct tcp_info"""
_PROBES: Final = 4
"""TCP keepalives unanswered before a connection counts as broken"""

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class RefusedError(Exception):
    """A viewer that showed no pass, or spoke something else; closed without a word."""


class Viewer:
    """The DisplayClient port over a TCP connection: bytes both ways."""

    def __init__(self, streams: Streams) -> None:
        self.reader, self.writer = streams

    async def ready(self, session_id: str, width: int, height: int, protocol: str) -> None:
        """Nothing is to be said: the desktop speaks for itself."""

    async def receive(self) -> bytes:
        try:
            return await self.reader.read(DISPLAY_INPUT_BYTES_MAX)
        except OSError:
            return b""

    async def send(self, frame: bytes) -> None:
        self.writer.write(frame)
        try:
            await self.writer.drain()
        except ConnectionError:
            raise
        except OSError as error:
            raise ConnectionError(str(error)) from error

    async def ping(self) -> None:
        """As long as the kernel measures a round trip of this connection to take: a viewer knows
        no ping of the broker's."""
        if self.writer.is_closing():
            raise ConnectionError("the viewer has gone")
        await asyncio.sleep(round_trip_s(self.writer))

    async def close(self, code: str, detail: str) -> None:
        _log.debug("a viewer is closed: %s: %s", code, detail)
        self.writer.transport.abort()

    async def refuse(self, error: TriviumError) -> None:
        """Say why it was not opened, where the protocol has words for it."""
        _log.info("a viewer is refused: %s", error.code)


class Greet(Protocol):
    """One protocol's way from the first byte to the pass."""

    async def __call__(self, streams: Streams) -> tuple[Knock, Viewer]:
        """Raises RefusedError, BadTicketError, or what a broken connection raises."""


class Relay:
    """Listens from `open` to `shut`; those who are inside stay until `close`.

    `tls` is for ports that speak TLS from the first byte on. `handshake_s`,
    `new_per_source_max` and `strangers_max` are the limits of their names; only tests give others.
    """

    def __init__(
        self,
        *,
        kind: ViewerKind,
        address: Address,
        greet: Greet,
        displays: Displays,
        viewers: Viewers,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        handshake_s: float = RELAY_HANDSHAKE_S,
        new_per_source_max: int = RELAY_NEW_PER_SOURCE_MAX,
        strangers_max: int = RELAY_STRANGERS_PER_SOURCE_MAX,
    ) -> None:
        self.kind = kind
        self._address = address
        self._greet = greet
        self._displays = displays
        self._viewers = viewers
        self._tls = tls
        self._handshake_s = handshake_s
        self._server: asyncio.Server | None = None
        self._closed = False
        self._inside: set[asyncio.StreamWriter] = set()
        self._strangers = Counter[str]()
        self._strangers_max = strangers_max
        self._empty = asyncio.Event()
        self._empty.set()
        self._open: dict[Viewer, Knock] = {}
        self._clock = clock
        self._throttle = SourceThrottle(
            clock,
            total_max=RELAYS_MAX,
            open_max=RELAYS_PER_SOURCE_MAX,
            new_max=new_per_source_max,
            window_s=RELAY_NEW_WINDOW_S,
            sources_max=RELAY_SOURCES_MAX,
        )

    @property
    def open_count(self) -> int:
        """Connections at this port, those that have not shown a pass yet among them."""
        return len(self._inside)

    async def open(self) -> int:
        """Answers the port. Raises ConfigError for an address that cannot be listened on."""
        loop = asyncio.get_running_loop()

        def door() -> asyncio.StreamReaderProtocol:
            return _Door(asyncio.StreamReader(_READ_BYTES, loop), self._come, loop)

        try:
            self._server = await loop.create_server(door, self._address.host, self._address.port)
        except OSError as error:
            text = f"{self.kind}_listen: cannot listen on {self._address}"
            raise ConfigError(text) from error
        self._closed = False
        port: int = self._server.sockets[0].getsockname()[1]
        self._viewers.doors[self.kind] = port
        return port

    async def shut(self) -> None:
        """Let nobody in any more."""
        self._viewers.doors.pop(self.kind, None)
        if self._server is not None:
            await stop_listening(self._server)

    async def close(self) -> None:
        """Cut everybody off who is still inside."""
        await self.shut()
        self._closed = True
        for writer in tuple(self._inside):
            writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISPLAY_CLOSE_S):
                await self._empty.wait()

    async def run(self) -> None:
        """End the displays of people who signed out, until cancelled. While the store is away
        what is open stays open."""
        while True:
            await self._clock.sleep(DISPLAY_SIGN_IN_S)
            browsers = {one.browser for one in self._open.values()}
            try:
                over = await self._viewers.signed_out(browsers)
            except TriviumError as error:
                _log.warning("sign-ins of viewers could not be checked: %s", error.code)
                continue
            for knock in tuple(self._open.values()):
                if knock.browser in over:
                    self._displays.kill(
                        knock.session_id, code="display.signed_out", browser=knock.browser
                    )

    # --------------------------------------------------------------- one connection

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        source = source_of(str(peer[0]) if peer else "")
        if self._closed:  # it was let in just before the door was shut
            writer.transport.abort()
            return
        calm = self._strangers[source] < self._strangers_max
        if not calm or not self._throttle.enter(source):
            _log.info("%s: %s comes too often", self.kind, source)
            writer.transport.abort()
            return
        self._inside.add(writer)
        self._empty.clear()
        try:
            _prepare(writer)
            await self._serve((reader, writer), source)
        except (RefusedError, BadTicketError, TimeoutError) as error:
            _log.info("%s: %s is refused: %s", self.kind, source, str(error) or "too late")
        except (OSError, EOFError, asyncio.LimitOverrunError):
            _log.debug("%s: %s broke off", self.kind, source)
        except Exception:  # noqa: BLE001 - one viewer's trouble is nobody else's
            _log.exception("%s: a viewer's connection failed", self.kind)
        finally:
            await _hang_up(writer)
            self._throttle.leave(source)
            self._inside.discard(writer)
            if not self._inside:
                self._empty.set()

    async def _serve(self, streams: Streams, source: str) -> None:
        self._strangers[source] += 1
        try:
            async with asyncio.timeout(self._handshake_s):
                if self._tls is not None:
                    await encrypt(streams[1], self._tls)
                else:
                    _read_on(streams[1])
                knock, viewer = await self._greet(streams)
        finally:
            self._strangers -= Counter([source])
        self._open[viewer] = knock
        try:
            why = await self._show(knock, viewer, source)
            _log.info("%s: %s of %s closed: %s", self.kind, knock.session_id, source, why)
        except TriviumError as error:
            await viewer.refuse(await self._viewers.told(error))
        finally:
            del self._open[viewer]

    async def _show(self, knock: Knock, viewer: Viewer, source: str) -> str:
        """Until it ends; answers why. Raises TriviumError where it could not be opened."""
        del source  # only a viewer of several connections is known by it
        return await self._displays.serve(
            viewer, ticket=knock.ticket, session_id=knock.session_id, browser=knock.browser
        )


class _Door(asyncio.StreamReaderProtocol):
    """Reads nothing until the connection is let in: what TLS begins with must not be read in the
    clear."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.ReadTransport", transport).pause_reading()
        super().connection_made(transport)


def _read_on(writer: asyncio.StreamWriter) -> None:
    cast("asyncio.Transport", writer.transport).resume_reading()


async def encrypt(writer: asyncio.StreamWriter, tls: ssl.SSLContext) -> None:
    """TLS from here on, with the same bound to what is kept. Raises OSError."""
    raw = writer.transport
    try:
        await writer.start_tls(tls)
    except AttributeError:
        # asyncio's way where this side cut the connection meanwhile: there is no transport then,
        # and the writer must still be able to close
        writer._transport = raw  # type: ignore[attr-defined] # noqa: SLF001
        raise ConnectionAbortedError from None
    writer.transport.set_write_buffer_limits(high=RELAY_BUFFER_BYTES)


def _prepare(writer: asyncio.StreamWriter) -> None:
    """Bound what is kept for it, and find out by itself when its machine is gone."""
    writer.transport.set_write_buffer_limits(high=RELAY_BUFFER_BYTES)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause_s = RELAY_SILENT_S // (_PROBES + 1)
    for option, value in (
        ("TCP_KEEPIDLE", pause_s),
        ("TCP_KEEPINTVL", pause_s),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", RELAY_SILENT_S * 1000),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def round_trip_s(writer: asyncio.StreamWriter) -> float:
    """The smoothed round trip that the kernel has measured; 0.0 where it does not tell."""
    sock = writer.get_extra_info("socket")
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        told: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_OFFSET + 4)
    except OSError:
        return 0.0
    if len(told) < _RTT_OFFSET + 4:
        return 0.0
    microseconds: int = struct.unpack_from("=I", told, _RTT_OFFSET)[0]
    return microseconds / 1_000_000


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close it once it took what was said last, or after DISPLAY_CLOSE_S."""
    if writer.transport.is_closing():  # it is gone, or cut: nothing more is taken
        writer.transport.abort()
        return
    try:
        async with asyncio.timeout(DISPLAY_CLOSE_S):
            writer.close()
            await writer.wait_closed()
    except (TimeoutError, OSError):
        writer.transport.abort()
