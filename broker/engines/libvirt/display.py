"""A machine's VNC server as a Console: bytes both ways, nothing in them read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from broker.limits import FRAME_BYTES_MAX


class VncConsole:
    """An open connection to a VNC server. `on_close` is called once."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_close: Callable[[VncConsole], object],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_close = on_close
        self._closed = False

    @classmethod
    async def over(cls, fd: int, on_close: Callable[[VncConsole], object]) -> VncConsole:
        """Over a connected socket, which it closes at its end."""
        connected = socket.socket(fileno=fd)
        connected.settimeout(0)
        try:
            reader, writer = await asyncio.open_connection(sock=connected, limit=FRAME_BYTES_MAX)
        except BaseException:
            connected.close()
            raise
        return cls(reader, writer, on_close)

    @property
    def protocol(self) -> str:
        return "vnc"

    @property
    def size(self) -> tuple[int, int]:
        """Unknown: the client reads it from what flows."""
        return 0, 0

    async def receive(self) -> bytes:
        if self._closed:
            return b""
        try:
            data = await self._reader.read(FRAME_BYTES_MAX)
        except ConnectionError:
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
        except ConnectionError:
            self.end()

    async def close(self) -> None:
        self.end()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def end(self) -> None:
        """The display goes away now; `receive` answers b"" from here on."""
        if not self._closed:
            self._closed = True
            self._writer.transport.abort()
            self._on_close(self)
