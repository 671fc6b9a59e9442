"""A machine's display server as a Console: bytes both ways, nothing in them read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, Protocol

from broker.domain.errors import EngineError
from broker.engines.reach.ssh import SshStream
from broker.engines.reach.vencrypt import CertifiedStream
from broker.limits import FRAME_BYTES_MAX

RDP_PORT: Final = 3389
"""where a machine's RDP server listens"""


class Reads(Protocol):
    async def read(self, most: int, /) -> bytes: ...


class Writes(Protocol):
    def write(self, data: bytes, /) -> None: ...

    async def drain(self) -> None: ...

    async def wait_closed(self) -> None: ...


class StreamConsole:
    """An open connection to a server of that protocol. `abort` ends it; `on_close` is called
    once. However it breaks (a host that vanishes: no route, or no answer), it has ended."""

    def __init__(
        self,
        reader: Reads,
        writer: Writes,
        on_close: Callable[[StreamConsole], object],
        protocol: str = "vnc",
        *,
        abort: Callable[[], object],
    ) -> None:
        self._protocol = protocol
        self._reader = reader
        self._writer = writer
        self._abort = abort
        self._on_close = on_close
        self._closed = False

    @classmethod
    async def over(
        cls, connected: socket.socket, on_close: Callable[[StreamConsole], object],
        protocol: str = "vnc",
    ) -> StreamConsole:  # fmt: skip
        """Over a connected socket, which it closes at its end."""
        try:
            connected.settimeout(0)
            reader, writer = await asyncio.open_connection(sock=connected, limit=FRAME_BYTES_MAX)
        except BaseException:
            connected.close()
            raise
        return cls(reader, writer, on_close, protocol, abort=writer.transport.abort)

    @classmethod
    def through(
        cls, stream: SshStream | CertifiedStream, on_close: Callable[[StreamConsole], object],
        protocol: str = "vnc",
    ) -> StreamConsole:  # fmt: skip
        """Over a host's SSH connection, or a display's TLS."""
        return cls(stream, stream, on_close, protocol, abort=stream.abort)

    @classmethod
    async def to(
        cls, address: str, port: int, protocol: str, on_close: Callable[[StreamConsole], object]
    ) -> StreamConsole:
        """To a server in the machine itself. Raises EngineError when it does not answer."""
        try:
            reader, writer = await asyncio.open_connection(address, port, limit=FRAME_BYTES_MAX)
        except OSError as error:
            text = f"the desktop does not answer on its {protocol.upper()} port"
            raise EngineError(text) from error
        return cls(reader, writer, on_close, protocol, abort=writer.transport.abort)

    @property
    def protocol(self) -> str:
        return self._protocol

    @property
    def size(self) -> tuple[int, int]:
        """Unknown: the client reads it from what flows."""
        return 0, 0

    async def receive(self) -> bytes:
        if self._closed:
            return b""
        try:
            data = await self._reader.read(FRAME_BYTES_MAX)
        except OSError:
            data = b""
        if not data or self._closed:
            self.end()
            return b""
        return data

    async def send(self, data: bytes) -> None:
        """Waits while the machine takes nothing; into a display that has gone it does nothing."""
        if self._closed:
            return
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            self.end()

    async def close(self) -> None:
        self.end()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def end(self) -> None:
        """The display goes away now; `receive` answers b"" from here on."""
        if not self._closed:
            self._closed = True
            self._abort()
            self._on_close(self)
