"""Malformed HTTP on a raw socket: what the library refuses must stay refused when it is renewed."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType
from yarl import URL

from broker.web.guard import GuardLimits
from tests.support.app import App, furnish, running_app

HOST = b"Host: localhost\r\n"
HIDDEN = b"GET /api/v1/users HTTP/1.1\r\nHost: x\r\n\r\n"

MALFORMED: dict[str, bytes] = {
    "length and chunked": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    "a list of lengths": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Length: -5\r\n\r\nhello",
    "a length in hexadecimal": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Length: 0x5\r\n\r\nhello",
    "chunked twice": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A : b\r\n\r\n",
    "a folded line": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c\r\n\r\n",
    "no Host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    "NUL in a value": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: a\0b\r\n\r\n",
    "NUL in a name": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X\0A: b\r\n\r\n",
    "a bare LF": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "a bare CR": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: a\rX-B: b\r\n\r\n",
    "64 KB in one line": b"GET /healthz HTTP/1.1\r\n" + HOST
    + b"X-A: " + b"a" * 65536 + b"\r\n\r\n",
    "64 KB of path": b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "1,000 lines": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: b\r\n" * 1000 + b"\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "HTTP/0.9": b"GET /healthz HTTP/0.9\r\n\r\n",
    "HTTP/2 in the clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200,
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "a whole address of another": b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target without a slash": b"GET healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a chunk size of 2^64": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"ffffffffffffffffff\r\nx",
    "a chunk that is no number": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
    + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
}  # fmt: skip


QUICK = GuardLimits(header_s=0.5, body_s=0.5, keepalive_s=0.5, sweep_s=0.1)
"""so that what never comes is not waited for"""


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(tmp_path, guard=QUICK) as made:
        await furnish(made)
        yield made


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_http_is_refused_once_and_closed(
    app: App, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    at_port = sent.replace(b"Host: localhost\r\n", f"Host: {app.address}\r\n".encode())
    answer = await app.raw(at_port)
    found = statuses(answer)
    assert found in ([], [400], [421], [404], [405]), answer[:300]
    assert b"Traceback" not in answer
    assert b"aiohttp" not in answer
    if found == [400]:
        assert b"application/problem+json" in answer
        assert b"X-Content-Type-Options: nosniff" in answer
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_what_hides_behind_a_request_is_not_answered(app: App) -> None:
    """Smuggling shapes: never two answers, and never one from the hidden address."""
    body = b'{"username":"x","password":"y"}'
    start = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
    start %= str(app.address).encode()
    length = b"Content-Length: %d\r\n" % len(body)
    shapes = [
        length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        length + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        length + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\n" + length + b"\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Transfer-Encoding: \tchunked\r\n" + length + b"\r\n0\r\n\r\n",
    ]
    for shape in shapes:
        answer = await app.raw(start + shape + HIDDEN)
        found = statuses(answer)
        assert found in ([400], []), (shape, answer)


async def test_requests_in_a_row_are_answered_in_their_order(app: App) -> None:
    one = f"GET /healthz HTTP/1.1\r\nHost: {app.address}\r\n\r\n".encode()
    two = f"GET /api/v1/users HTTP/1.1\r\nHost: {app.address}\r\n\r\n".encode()
    last = f"GET /nothing HTTP/1.1\r\nHost: {app.address}\r\nConnection: close\r\n\r\n".encode()
    assert statuses(await app.raw(one + two + last)) == [200, 401, 404]


async def test_a_handshake_that_is_declined_does_not_open_a_way_for_what_follows(
    app: App,
) -> None:
    upgrade = (
        f"GET /api/v1/sessions/x/display HTTP/1.1\r\nHost: {app.address}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    after = f"GET /api/v1/users HTTP/1.1\r\nHost: {app.address}\r\nConnection: close\r\n\r\n"
    assert statuses(await app.raw(upgrade + after.encode())) == [401, 401]


async def test_expect_is_granted_only_for_100_continue(app: App) -> None:
    start = f"POST /api/v1/auth/login HTTP/1.1\r\nHost: {app.address}\r\nConnection: close\r\n"
    body = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    assert statuses(await app.raw((start + "Expect: 100-continue\r\n" + body).encode())) == [
        100,
        400,
    ]
    answer = await app.raw((start + "Expect: <b>\r\n" + body).encode())
    assert statuses(answer) == [417]
    assert b"<b>" not in answer


async def test_every_answer_carries_its_headers(app: App) -> None:
    alice = app.people["alice"]
    ids = set()
    for path in ("/healthz", "/metrics", "/api/openapi.json", "/users", "/nothing", "/auth/me"):
        for person in (alice, None):
            reply = await app.call("GET", path, person)
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert reply.headers["Referrer-Policy"] == "same-origin"
            assert reply.headers["Server"] == "Trivium"
            assert "Strict-Transport-Security" not in reply.headers
            ids.add(reply.headers["X-Request-Id"])
    assert len(ids) == 12


# ------------------------------------------------------------------ WebSockets


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


FRAMES: dict[str, bytes] = {
    "not masked": frame(1, b"{}", mask=False),
    "reserved bits": frame(1, b"{}", rsv=4),
    "compressed without leave": frame(1, b"\xaa\x56\xaa", rsv=4),
    "an unknown opcode": frame(3, b"x"),
    "a control frame in pieces": frame(9, b"x", fin=False),
    "a control frame of 126 bytes": frame(9, b"x" * 126),
    "bad UTF-8": frame(1, b"\xff\xfe"),
    "a continuation of nothing": frame(0, b"x"),
    "2^63 bytes to come": b"\x82\xff" + struct.pack("!Q", 2**63) + b"\0\0\0\0",
    "2^62 bytes to come": b"\x82\xff" + struct.pack("!Q", 2**62) + b"\0\0\0\0",
    "a close of one byte": frame(8, b"x"),
    "a close with a bad code": frame(8, struct.pack("!H", 1005)),
    "64 KiB and one": frame(1, b" " * 65537),
    "half a message": frame(1, b"{", fin=False) + frame(1, b"}"),
    "not JSON": frame(1, b"hello"),
    "binary": frame(2, b"hello"),
    "another message first": frame(1, b'{"type":"heartbeat","seq":1}'),
    "deep JSON": frame(1, b'{"type":"hello","endpoint_id":' + b"[" * 30_000),
    "nothing": b"",
    "garbage": os.urandom(500),
}


@pytest.mark.parametrize("path", ["/agent/v1/link", "/agent/v1/display"])
async def test_bad_frames_end_the_socket_and_nothing_else(
    app: App, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    handshake = (
        f"GET {path} HTTP/1.1\r\nHost: {app.address}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    for name, sent in FRAMES.items():
        answer = await app.raw(handshake, last=sent)
        assert statuses(answer) == [101], (name, answer[:200])
    assert (await app.call("GET", "/healthz")).status == 200
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_a_frame_that_is_too_large_closes_with_1009(app: App) -> None:
    for path in ("/agent/v1/link", "/agent/v1/display"):
        async with app.http.ws_connect(URL(app.url + path)) as ws:
            await ws.send_bytes(b"x" * 200_000)
            async with asyncio.timeout(30):
                while (message := await ws.receive()).type is not WSMsgType.CLOSE:
                    assert message.type in {WSMsgType.TEXT, WSMsgType.CLOSED}
            assert message.data == 1009


async def test_no_socket_agrees_to_compression(app: App) -> None:
    for path in ("/agent/v1/link", "/agent/v1/display"):
        async with app.http.ws_connect(URL(app.url + path), compress=15) as ws:
            assert ws.compress == 0
