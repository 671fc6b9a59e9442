"""What an idle endpoint costs the broker in memory, against a bare WebSocket server's.

Both are given the same number of idle connections; what is compared is the growth of the
process's resident set, after a first batch of connections has warmed everything up.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker import wire
from tests.support.process import BrokerProcess, free_port

ENDPOINTS = 3_000
WARM = 500
AT_ONCE = 100
SETTLE_S = 3.0

_FLOOR = """
import asyncio, sys
from aiohttp import web

async def handle(request):
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws

async def main():
    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """KiB of resident memory for each idle connection."""

    endpoints: int
    floor_kib: float
    broker_kib: float


def _rss_kib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1024


async def _grow(
    pid: int, open_one: Callable[[int], Awaitable[aiohttp.ClientWebSocketResponse]]
) -> float:
    """KiB per connection between the warm and the full count."""
    held: list[aiohttp.ClientWebSocketResponse] = []
    before = 0.0
    for count in (WARM, ENDPOINTS):
        while len(held) < count:
            batch = range(len(held), min(count, len(held) + AT_ONCE))
            held += await asyncio.gather(*(open_one(number) for number in batch))
        await asyncio.sleep(SETTLE_S)
        now = _rss_kib(pid)
        if count == WARM:
            before = now
        else:
            return (now - before) / (ENDPOINTS - WARM)
    raise AssertionError


async def _floor(http: aiohttp.ClientSession) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FLOOR, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())

    async def open_one(number: int) -> aiohttp.ClientWebSocketResponse:
        ws = await http.ws_connect(f"http://127.0.0.1:{port}/", max_msg_size=65536)
        await ws.send_str(f"hello {number}")
        await ws.receive()
        return ws

    try:
        return await _grow(process.pid, open_one)
    finally:
        process.terminate()
        await process.wait()


async def _broker(http: aiohttp.ClientSession, data: Path) -> float:
    process = BrokerProcess(data, free_port(), {})
    await process.start()
    try:
        async with process.http() as api:
            tokens: list[str] = []
            while len(tokens) < ENDPOINTS:
                answer = await api.ok("POST", "/endpoints/tokens", {"count": 500})
                tokens += answer["tokens"]

        async def open_one(number: int) -> aiohttp.ClientWebSocketResponse:
            key = Ed25519PrivateKey.generate()
            request = wire.EnrolRequest(
                token=tokens[number],
                name=f"bench-{number:05d}",
                kind="thin",
                public_key=key.public_key().public_bytes_raw().hex(),
            )
            async with http.post(
                process.url + wire.ENROL_PATH,
                data=wire.encode(request),
                headers={"Content-Type": "application/json"},
            ) as response:
                enrolled = json.loads(await response.read())
            ws = await http.ws_connect(
                process.url + wire.LINK_PATH, protocols=(wire.SUBPROTOCOL,), max_msg_size=65536
            )
            hello = wire.Hello(
                endpoint_id=enrolled["endpoint_id"], boot_id="bench", agent_version="bench"
            )
            await ws.send_str(wire.encode(hello).decode())
            challenge = wire.decode_from_broker((await ws.receive()).data)
            assert isinstance(challenge, wire.Challenge)
            payload = wire.proof_payload(
                challenge.installation_id, hello.endpoint_id, challenge.nonce
            )
            await ws.send_str(wire.encode(wire.Proof(signature=key.sign(payload).hex())).decode())
            welcome = wire.decode_from_broker((await ws.receive()).data)
            assert isinstance(welcome, wire.Welcome)
            return ws

        return await _grow(process.pid, open_one)
    finally:
        await process.stop()


async def measure(directory: Path) -> Memory:
    """Both, one after the other, with the same client."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        floor_kib = await _floor(http)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        broker_kib = await _broker(http, directory / "data")
    return Memory(endpoints=ENDPOINTS, floor_kib=floor_kib, broker_kib=broker_kib)
