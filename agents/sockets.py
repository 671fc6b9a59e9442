"""A WebSocket that can be written to without waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias

from aiohttp import ClientError, ClientWebSocketResponse, WSMsgType

from agents import limits

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
"""starts a task that somebody owns"""

WebSocket: TypeAlias = ClientWebSocketResponse[bool]
ENDED = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED})
"""what a socket's reader gets once it is over"""
NETWORK = (ClientError, OSError)
"""what a broken network, or a peer outside HTTP, raises here; TimeoutError is an OSError"""


class Socket:
    """Messages are queued and written in order by a task that lives only while there are any, so
    an idle endpoint has no writer. Its reader is elsewhere."""

    __slots__ = ("_closing", "_queue", "_spawn", "_writing", "_ws")

    def __init__(self, ws: WebSocket, spawn: Spawn) -> None:
        self._ws = ws
        self._spawn = spawn
        self._queue: deque[tuple[WSMsgType, bytes]] | None = None
        self._writing = False
        self._closing: tuple[int, bytes] | None = None

    def send(self, kind: WSMsgType, data: bytes) -> None:
        """Queue a message. A peer that does not read for SEND_QUEUE_MAX messages is cut off."""
        if self._closing is not None:
            return
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= limits.SEND_QUEUE_MAX:
            self.close(1008, "the peer does not read")
            return
        self._queue.append((kind, data))
        self._write()

    def close(self, code: int, why: str) -> None:
        """Close after what is queued was written."""
        if self._closing is None:
            self._closing = (code, why.encode()[:120])
            self._write()

    def _write(self) -> None:
        if not self._writing:
            self._writing = True
            self._spawn(self._pump())

    async def _pump(self) -> None:
        try:
            async with asyncio.timeout(limits.DEAD_PEER_S):
                while self._queue:
                    kind, data = self._queue.popleft()
                    await self._ws.send_frame(data, kind)
        except NETWORK:
            # the reader sees the end of the connection, and tells it
            self._closing = self._closing or (1006, b"")
        finally:
            self._queue = None
            self._writing = False
        if self._closing is not None:
            await shut(self._ws, *self._closing)


async def shut(ws: WebSocket, code: int = 1000, why: bytes = b"") -> None:
    """Close, and do not wait long for a peer that does not answer."""
    with suppress(*NETWORK):
        async with asyncio.timeout(limits.CLOSE_S):
            await ws.close(code=code, message=why)
