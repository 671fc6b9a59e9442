"""Slow clients are closed, ordinary ones are not. Waits are on what happens, not on a clock."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from broker.system import SystemIds
from broker.web.guard import GuardedRunner, GuardLimits
from tests.support.app import App, furnish, running_app
from tests.support.eventually import eventually

QUICK = GuardLimits(
    header_s=0.3,
    body_s=0.3,
    keepalive_s=0.3,
    write_stalled_s=0.3,
    sweep_s=0.05,
    per_address_max=20,
    loopback_limited=True,
)
LONG_S = 1.5
"""several times every limit above"""


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(tmp_path, guard=QUICK) as made:
        await furnish(made)
        yield made


class Raw:
    """One connection, read and written as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)

    async def until_closed(self) -> bytes:
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""


@contextlib.asynccontextmanager
async def connected(app: App) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(app.address.host, app.address.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def head(app: App, method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join(
        (
            f"{method} {path} HTTP/1.1",
            f"Host: {app.address}",
            f"Authorization: Bearer {app.people['ann'].token}",
            *lines,
            "",
            "",
        )
    ).encode()


async def test_a_silent_connection_is_closed(quick: App) -> None:
    async with connected(quick) as raw:
        assert await raw.until_closed() == b""


async def test_a_header_that_dribbles_is_closed_although_bytes_keep_coming(quick: App) -> None:
    async with connected(quick) as raw:
        closed = asyncio.ensure_future(raw.until_closed())
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ")
        while not closed.done():
            raw.send(b"a")
            await asyncio.sleep(0.05)
        assert b"200" not in await closed


async def test_a_second_header_that_dribbles_is_closed_too(tmp_path: Path) -> None:
    # with a long keep-alive, so that it is not this that closes it
    guard = GuardLimits(header_s=0.3, keepalive_s=600, sweep_s=0.05)
    async with running_app(tmp_path, guard=guard) as app, connected(app) as raw:
        await furnish(app)
        raw.send(head(app, "GET", "/healthz"))
        await raw.reader.readuntil(b"alive")
        closed = asyncio.ensure_future(raw.until_closed())
        raw.send(b"GET /healthz HTTP/1.1\r\nX-A: ")
        while not closed.done():
            # one line that grows: too many lines would be refused for their number
            raw.send(b"a")
            await asyncio.sleep(0.05)
        await closed


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_stalls_is_closed(quick: App, framing: str) -> None:
    async with connected(quick) as raw:
        raw.send(head(quick, "POST", "/api/v1/sessions", "Content-Type: application/json", framing))
        assert b" 20" not in await raw.until_closed()


async def test_a_body_that_dribbles_is_closed(quick: App) -> None:
    async with connected(quick) as raw:
        closed = asyncio.ensure_future(raw.until_closed())
        raw.send(
            head(
                quick,
                "POST",
                "/api/v1/sessions",
                "Content-Type: application/json",
                "Content-Length: 1000000",
            )
        )
        while not closed.done():
            raw.send(b" ")
            await asyncio.sleep(0.02)
        await closed


async def test_an_idle_connection_between_two_requests_is_closed(quick: App) -> None:
    async with connected(quick) as raw:
        raw.send(head(quick, "GET", "/healthz"))
        assert b"alive" in await raw.until_closed()


async def test_a_client_that_takes_nothing_of_its_answer_is_closed(quick: App) -> None:
    """Small buffers, large answers, nothing read: the broker lets go of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, (quick.address.host, quick.address.port))
        one = head(quick, "GET", "/api/openapi.json")
        await loop.sock_sendall(sock, one * 60)
        runner = quick.broker.web._runner
        assert runner is not None
        server = runner.server
        assert server is not None
        await eventually(lambda: len(server.connections) == 1)
        await eventually(lambda: len(server.connections) == 0)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


async def test_one_address_has_so_many_connections_and_no_more(quick: App) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(QUICK.per_address_max):
            raw = await stack.enter_async_context(connected(quick))
            raw.send(b"GET /healthz HTTP/1.1\r\n")
        refused = await stack.enter_async_context(connected(quick))
        refused.send(head(quick, "GET", "/healthz"))
        assert await refused.until_closed() == b""
    # they are counted out again
    await eventually_healthy(quick)


async def eventually_healthy(app: App) -> None:
    for _ in range(200):
        async with connected(app) as raw:
            raw.send(head(app, "GET", "/healthz", "Connection: close"))
            if b"alive" in await raw.until_closed():
                return
        await asyncio.sleep(0.05)
    raise AssertionError("the address stays locked out")


# ------------------------------------------------------------------ and nobody else


async def test_a_quick_client_is_served_again_and_again(quick: App) -> None:
    async with connected(quick) as raw:
        for _ in range(10):
            raw.send(head(quick, "GET", "/healthz"))
            await raw.reader.readuntil(b"alive")
            await asyncio.sleep(QUICK.keepalive_s / 4)


async def test_a_long_poll_is_not_cut(quick: App) -> None:
    ann = quick.people["ann"]
    made = await quick.call("POST", "/sessions", ann, body={"pool": "library"})
    session = made.json["session"]
    path = f"/sessions/{session['id']}?seen={session['revision']}&wait_s=2"
    assert (await quick.call("GET", path, ann)).status == 200


async def test_an_event_stream_is_not_cut(quick: App) -> None:
    url = URL(quick.url + "/api/v1/events")
    async with quick.http.get(url, headers=quick.people["ann"].headers) as stream:
        await stream.content.readuntil(b"\n\n")
        await asyncio.sleep(LONG_S)
        await quick.call("POST", "/sessions", quick.people["ann"], body={"pool": "library"})
        async with asyncio.timeout(30):
            while b"event: session" not in await stream.content.readline():
                pass


async def test_a_socket_is_not_cut(quick: App) -> None:
    async with quick.http.ws_connect(URL(quick.url + "/agent/v1/display")) as ws:
        await asyncio.sleep(LONG_S)
        await ws.send_str("{}")
        async with asyncio.timeout(30):
            message = await ws.receive()
        assert "request.invalid" in str(message.data)


async def test_a_connection_that_comes_while_the_door_closes_is_cut_not_forgotten() -> None:
    runner = GuardedRunner(
        web.Application(),
        guard_limits=GuardLimits(header_s=600, keepalive_s=600),
        headers=CIMultiDict(),
        ids=SystemIds(),
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.server is not None
        runner.server.pre_shutdown()
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        assert await Raw(reader, writer).until_closed() == b""
        assert not runner.server.connections
        writer.close()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("turns", range(8))
async def test_who_comes_while_the_broker_stops_is_told_so_at_once(
    tmp_path: Path, turns: int
) -> None:
    """`turns` of the loop after the knock: accepted or not, made a connection or not yet."""
    guard = GuardLimits(header_s=600, keepalive_s=600)
    async with running_app(tmp_path, guard=guard) as app:
        with socket.create_connection((app.address.host, app.address.port)) as knocking:
            knocking.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await app.broker.web.stop(0.0)
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.get_running_loop().sock_recv(knocking, 1) == b""


async def test_hundreds_of_slow_clients_do_not_keep_others_out(tmp_path: Path) -> None:
    guard = GuardLimits(header_s=1.0, body_s=1.0, keepalive_s=1.0, sweep_s=0.1)
    async with running_app(tmp_path, guard=guard) as app, contextlib.AsyncExitStack() as stack:
        await furnish(app)
        raws = [await stack.enter_async_context(connected(app)) for _ in range(300)]
        for number, raw in enumerate(raws):
            if number % 3 == 1:
                raw.send(b"GET /healthz HTTP/1.1\r\nHost")
            elif number % 3 == 2:
                raw.send(head(app, "POST", "/api/v1/sessions", "Content-Length: 5"))
        assert (await app.call("GET", "/auth/me", app.people["ann"])).status == 200
        await asyncio.gather(*(raw.until_closed() for raw in raws))
        assert (await app.call("GET", "/auth/me", app.people["ann"])).status == 200
