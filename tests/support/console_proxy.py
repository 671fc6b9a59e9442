"""A console proxy as Nova's: a real WebSocket server between its clients and a VNC server.

It does what nova-novncproxy was seen to do: lets everybody in and only then looks at the token,
hangs up without a word where that is wrong, and sends an empty message behind the handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, Self

from aiohttp import WSMsgType, web

TOKEN: Final = "5f2b7c1e-6d0a-4c55-9a54-1f0c0a9e7d11"
_CHUNK_BYTES: Final = 65_536
_HANDSHAKE_MESSAGES: Final = 2
"""a client's version, and the security type that it takes"""


@dataclass(eq=False)
class ConsoleProxy:
    """`target`: the port of the VNC server behind it; `piece`: bytes of a message down, at most.
    `asked`: (path, whether there was a cookie) of each client."""

    target: int
    piece: int = _CHUNK_BYTES
    tls: ssl.SSLContext | None = None
    asked: list[tuple[str, bool]] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)
    port: int = 0
    clients: set[web.WebSocketResponse] = field(default_factory=set)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, target: int, **options: object) -> AsyncIterator[Self]:
        """Listening on a port of 127.0.0.1 until the end of the block."""
        one = cls(target, **options)  # type: ignore[arg-type]
        app = web.Application()
        app.router.add_get("/{path:.*}", one._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=one.tls)
        await site.start()
        one.port = runner.addresses[0][1]
        try:
            yield one
        finally:
            one.break_off()
            await runner.cleanup()

    def page(self, token: str = TOKEN, *, host: str = "127.0.0.1", old: bool = False) -> str:
        """The address that Nova would hand out; `old`: as before 2019."""
        base = f"{'https' if self.tls else 'http'}://{host}:{self.port}/vnc_lite.html"
        return f"{base}?token={token}" if old else f"{base}?path=%3Ftoken%3D{token}"

    def break_off(self) -> None:
        """Every connection ends without a word."""
        for client in tuple(self.clients):
            transport = client._req.transport if client._req is not None else None
            if transport is not None:
                transport.abort()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, "token" in request.cookies))
        client = web.WebSocketResponse(protocols=("binary",), compress=False)
        await client.prepare(request)
        self.protocols.append(client.ws_protocol or "")
        self.clients.add(client)
        try:
            token = request.query.get("token") or request.cookies.get("token")
            if token == TOKEN:
                await self._relay(client)
            elif request.transport is not None:
                request.transport.abort()
        finally:
            self.clients.discard(client)
        return client

    async def _relay(self, client: web.WebSocketResponse) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def down() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(self.piece):
                    await client.send_bytes(data)
                await client.close()

        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(down())
                heard = 0
                async for message in client:
                    if message.type is WSMsgType.BINARY:
                        heard += 1
                        writer.write(message.data)
                        if heard == _HANDSHAKE_MESSAGES:
                            await client.send_bytes(b"")
                task.cancel()
        finally:
            writer.transport.abort()
