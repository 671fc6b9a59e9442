"""A machine's VNC server as QEMU speaks it with TLS: VeNCrypt, then RFB, which it echoes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

VERSION = b"RFB 003.008\n"


def demanding(folder: Path) -> ssl.SSLContext:
    """What shows the server's certificate of that folder, and asks for one of its authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "servercert.pem", folder / "serverkey.pem")
    context.load_verify_locations(str(folder / "cacert.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass(slots=True)
class VncServer:
    """`types`, `subtypes`: what it offers. `plain`: what a viewer sent it before TLS."""

    context: ssl.SSLContext
    types: bytes = b"\x13"
    subtypes: tuple[int, ...] = (260,)
    greeting: bytes = VERSION
    result: bytes = bytes(4)
    port: int = 0
    plain: bytearray = field(default_factory=bytearray)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        with contextlib.suppress(OSError):
            writer.close()

    async def _said(self, reader: asyncio.StreamReader, size: int) -> bytes:
        heard = await reader.readexactly(size)
        self.plain += heard
        return heard

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting)
        await self._said(reader, len(VERSION))
        writer.write(bytes([len(self.types)]) + self.types)
        if await self._said(reader, 1) != b"\x13":
            return
        writer.write(b"\x00\x02")
        await self._said(reader, 2)
        listed = b"".join(one.to_bytes(4) for one in self.subtypes)
        writer.write(b"\x00" + bytes([len(self.subtypes)]) + listed)
        await self._said(reader, 4)
        writer.write(b"\x01")
        await writer.drain()
        await writer.start_tls(self.context)
        writer.write(self.result)
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def vnc_server(context: ssl.SSLContext, **changes: object) -> AsyncIterator[VncServer]:
    one = VncServer(context, **changes)  # type: ignore[arg-type]
    server = await asyncio.start_server(one.meet, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        for writer in one.writers:
            writer.transport.abort()
        await server.wait_closed()
