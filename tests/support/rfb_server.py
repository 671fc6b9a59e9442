"""A desktop's VNC server, as small as one can be: RFB 3.8, security None, raw encoding.

It remembers what is typed and where it is clicked, and draws anew for each key: the screen is one
colour, which the number of keys pressed so far decides (`colour_after`).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, Self

from broker.limits import FRAME_BYTES_MAX

GREETING: Final = b"RFB 003.008\n"
NAME: Final = b"a desktop"
_FORMAT: Final = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
_BODIES: Final = {0: 19, 2: 3, 3: 9, 4: 7, 5: 5, 6: 7}
"""fixed part of each client message after its type"""


def colour_after(keys: int) -> tuple[int, int, int]:
    """Red, green and blue of the screen once so many keys were pressed."""
    return (40 * keys % 256, 90 + 70 * keys % 160, 200 - 30 * keys % 200)


@dataclass(eq=False)
class RfbServer:
    """`types`: the security types that it offers; `keys`: keysyms pressed; `shared`: the last
    viewer's wish to share the desktop."""

    width: int = 320
    height: int = 200
    types: bytes = b"\x01"
    keys: list[int] = field(default_factory=list)
    clicks: list[tuple[int, int]] = field(default_factory=list)
    clients: int = 0
    shared: int | None = None
    port: int = 0
    _wakes: list[asyncio.Event] = field(default_factory=list)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, **options: object) -> AsyncIterator[Self]:
        """Listening on a port of 127.0.0.1 until the end of the block."""
        one = cls(**options)  # type: ignore[arg-type]
        server = await asyncio.start_server(one._serve, "127.0.0.1", 0)
        one.port = server.sockets[0].getsockname()[1]
        try:
            yield one
        finally:
            server.close()
            for writer in tuple(one._writers):
                writer.transport.abort()
            await server.wait_closed()

    def redraw(self) -> None:
        """Something on the screen changed."""
        for wake in self._wakes:
            wake.set()

    @property
    def colour(self) -> tuple[int, int, int]:
        return colour_after(len(self.keys))

    def hang_up(self) -> None:
        """Break every connection off."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def console(self) -> SocketConsole:
        """A new connection to it, as an engine would hand it out."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return SocketConsole(reader, writer)

    # ----------------------------------------------------------------- one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        self._writers.add(writer)
        wake = asyncio.Event()
        self._wakes.append(wake)
        try:
            if await self._greet(reader, writer):
                await self._talk(reader, writer, wake)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.clients -= 1
            self._wakes.remove(wake)
            self._writers.discard(writer)
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(GREETING)
        if await reader.readexactly(12) != GREETING:
            return False
        writer.write(bytes([len(self.types)]) + self.types)
        if await reader.readexactly(1) != b"\x01":
            return False
        writer.write(bytes(4))
        self.shared = (await reader.readexactly(1))[0]
        size = struct.pack(">HH", self.width, self.height)
        writer.write(size + _FORMAT + struct.pack(">I", len(NAME)) + NAME)
        await writer.drain()
        return True

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wake: asyncio.Event
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            asked, shifts = asyncio.Event(), [16, 8, 0]
            drawing = tasks.create_task(self._draw_on(writer, wake, asked, shifts))
            try:
                while kind := await reader.read(1):
                    body = await reader.readexactly(_BODIES[kind[0]])
                    if kind[0] == 0:
                        shifts[:] = body[13:16]
                    await self._hear(kind[0], body, reader, wake, asked)
            finally:
                drawing.cancel()

    async def _hear(
        self,
        kind: int,
        body: bytes,
        reader: asyncio.StreamReader,
        wake: asyncio.Event,
        asked: asyncio.Event,
    ) -> None:
        if kind == 2:
            await reader.readexactly(4 * int.from_bytes(body[1:3]))
        elif kind == 3:
            asked.set()
            if not body[0]:
                wake.set()
        elif kind == 4 and body[0]:
            self.keys.append(int.from_bytes(body[3:7]))
            self.redraw()
        elif kind == 5 and body[0]:
            self.clicks.append(struct.unpack(">HH", body[1:5]))
        elif kind == 6:
            await reader.readexactly(int.from_bytes(body[3:7]))

    async def _draw_on(
        self,
        writer: asyncio.StreamWriter,
        wake: asyncio.Event,
        asked: asyncio.Event,
        shifts: list[int],
    ) -> None:
        """Each update that was asked for, once there is something new."""
        while True:
            await asked.wait()
            await wake.wait()
            asked.clear()
            wake.clear()
            value = sum(part << by for part, by in zip(self.colour, shifts, strict=True))
            area = struct.pack(">HHHHi", 0, 0, self.width, self.height, 0)
            pixels = value.to_bytes(4, "little") * (self.width * self.height)
            writer.write(b"\x00\x00" + struct.pack(">H", 1) + area + pixels)
            await writer.drain()


class SocketConsole:
    """The Console port over a socket: bytes both ways."""

    size = (0, 0)

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str = "vnc"
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.protocol = protocol
        self.closed = False

    async def receive(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await self._reader.read(FRAME_BYTES_MAX)
        return b""

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def close(self) -> None:
        self.closed = True
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
