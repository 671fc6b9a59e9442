"""Writing to a WebSocket without waiting: order, closing, and a peer that does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, web

from agents import limits
from agents.sockets import Socket, WebSocket
from tests.support.eventually import eventually


class Peer:
    """The other side: reads once it is told to."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.heard: list[bytes] = []
        self.code: int | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(max_msg_size=0)
        await ws.prepare(request)
        await self.reading.wait()
        async for message in ws:
            self.heard.append(message.data)
        self.code = ws.close_code
        return ws


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    app = web.Application()
    app.router.add_get("/", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    made.reading.set()
    await runner.cleanup()


@pytest.fixture
async def ws(peer: Peer) -> AsyncIterator[WebSocket]:
    async with ClientSession() as session, session.ws_connect(peer.url, decode_text=False) as made:
        yield made


@pytest.fixture
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as group:
        yield group


def socket_of(ws: WebSocket, tasks: asyncio.TaskGroup) -> Socket:
    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.create_task(work)

    return Socket(ws, spawn)


async def test_messages_are_written_in_order_and_before_the_close(
    peer: Peer, ws: WebSocket, tasks: asyncio.TaskGroup
) -> None:
    peer.reading.set()
    socket = socket_of(ws, tasks)
    for number in range(100):
        socket.send(WSMsgType.BINARY, bytes([number]))
    socket.close(4321, "enough")
    socket.send(WSMsgType.BINARY, b"too late")
    await eventually(lambda: peer.code)
    assert peer.heard == [bytes([number]) for number in range(100)]
    assert peer.code == 4321


@pytest.mark.parametrize("limit", ["queue", "time"])
async def test_a_peer_that_does_not_read_is_cut_off(
    peer: Peer,
    ws: WebSocket,
    tasks: asyncio.TaskGroup,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    monkeypatch.setattr(limits, "CLOSE_S", 0.2)
    monkeypatch.setattr(limits, "DEAD_PEER_S", 0.5)
    monkeypatch.setattr(limits, "SEND_QUEUE_MAX", 20 if limit == "queue" else 10_000)
    socket = socket_of(ws, tasks)
    for _ in range(60):
        socket.send(WSMsgType.BINARY, bytes(1_000_000))
    await eventually(lambda: ws.closed)
    message = await ws.receive()
    assert message.type is WSMsgType.CLOSED


async def test_a_connection_that_breaks_while_writing_breaks_nothing_else(
    peer: Peer, ws: WebSocket, tasks: asyncio.TaskGroup
) -> None:
    socket = socket_of(ws, tasks)
    transport = ws.get_extra_info("socket")
    assert transport is not None
    assert ws._response.connection is not None
    assert ws._response.connection.transport is not None
    ws._response.connection.transport.abort()
    socket.send(WSMsgType.BINARY, b"into the void")
    socket.close(1000, "bye")
    await eventually(lambda: ws.closed)
