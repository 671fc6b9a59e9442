"""RDP viewers: their first packet, and everything after it unread, through the relay's port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import Role
from broker.gateway.rdp import split_request
from broker.gateway.relay import RefusedError
from broker.limits import RDP_REQUEST_BYTES_MAX
from tests.support.eventually import eventually
from tests.support.viewers import School, school, until

NEGOTIATION = bytes.fromhex("0100080003000000")
"""RDP_NEG_REQ: TLS and NLA"""


def request(token: bytes | None, rest: bytes = NEGOTIATION) -> bytes:
    """A Connection Request as clients send it."""
    line = b"" if token is None else token + b"\r\n"
    body = b"\xe0\x00\x00\x00\x00\x00" + line + rest
    return b"\x03\x00" + (5 + len(body)).to_bytes(2) + bytes([len(body)]) + body


@dataclass
class RdpTarget:
    """A desktop's RDP server that keeps what it is sent, and answers with what the test says."""

    heard: bytearray = field(default_factory=bytearray)
    clients: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.append(writer)
        try:
            while data := await reader.read(65536):
                self.heard += data
        except ConnectionError:
            pass
        finally:
            self.clients.remove(writer)
            writer.close()


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[School, RdpTarget]]:
    target = RdpTarget()
    server = await asyncio.start_server(target.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with school(tmp_path, {"rdp": port, "vnc": port}) as made:
        yield made, target
    server.close()
    for writer in tuple(target.clients):
        writer.transport.abort()
    await eventually(lambda: not target.clients)


async def token_of(one: School, username: str = "ann") -> bytes:
    """The line that a client sends which was given the file."""
    reply = await one.file("rdp", username)
    assert reply.status == 200, reply.body
    lines = dict(line.split(":", 1) for line in reply.body.decode().split("\r\n") if line)
    return lines["loadbalanceinfo"].removeprefix("s:").encode()


@asynccontextmanager
async def dialled(
    one: School, said: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port("rdp"))
    writer.write(said)
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.transport.abort()


async def hung_up(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_the_desktop_gets_the_request_without_the_pass_and_then_every_byte(
    both: tuple[School, RdpTarget],
) -> None:
    one, target = both
    await one.connected()
    token = await token_of(one)
    after = bytes(range(256)) * 400
    async with dialled(one, request(token) + after) as (reader, writer):
        await eventually(lambda: len(target.heard) == 19 + len(after))
        assert target.heard == request(None) + after
        target.clients[0].write(b"\x03\x00\x00\x13" + bytes(15))
        assert await reader.readexactly(19) == b"\x03\x00\x00\x13" + bytes(15)
        assert await one.state() == "active"
        writer.write(b"more")
        await eventually(lambda: target.heard.endswith(b"more"))
    await eventually(lambda: not target.clients)
    await until(lambda: _disconnected(one))


async def _disconnected(one: School) -> bool:
    return await one.state() == "disconnected"


async def test_the_file_is_one_that_rdp_clients_read(both: tuple[School, RdpTarget]) -> None:
    one, _ = both
    await one.connected()
    reply = await one.file("rdp")
    assert reply.headers["Content-Type"] == "application/x-rdp"
    assert reply.headers["Content-Disposition"] == 'attachment; filename="library.rdp"'
    lines = reply.body.decode().split("\r\n")
    assert lines[0] == f"full address:s:127.0.0.1:{one.port('rdp')}"
    assert "username:s:ann" in lines
    closed = {"redirectclipboard:i:0", "drivestoredirect:s:", "redirectprinters:i:0"}
    assert {*closed, "devicestoredirect:s:", "usbdevicestoredirect:s:"} <= set(lines)
    (token,) = [line for line in lines if line.startswith("loadbalanceinfo:s:trivium:ses_")]
    assert len(token.removeprefix("loadbalanceinfo:s:")) % 2 == 0, "Microsoft's client drops one"


@pytest.mark.parametrize(
    ("channels", "opened"),
    [
        ({"clipboard": "both"}, {"redirectclipboard:i:1"}),
        ({"clipboard": "in"}, {"redirectclipboard:i:1"}),
        ({"drives": True}, {"drivestoredirect:s:*"}),
        ({"printing": True}, {"redirectprinters:i:1"}),
        ({"usb": True}, {"devicestoredirect:s:*", "usbdevicestoredirect:s:*"}),
    ],
)
async def test_the_file_opens_the_channels_that_the_pool_allows_and_no_other(
    both: tuple[School, RdpTarget], channels: dict[str, object], opened: set[str]
) -> None:
    one, _ = both
    await one.connected()
    before = set((await one.file("rdp")).body.decode().split("\r\n"))
    body = {"settings": {"channels": channels}}
    boss = await one.app.person("boss", Role.ADMINISTRATOR)
    changed = await one.app.call("PATCH", "/pools/library", boss, body=body)
    assert changed.status == 200
    after = set((await one.file("rdp")).body.decode().split("\r\n"))
    told = {line for line in after - before if "redirect" in line}
    assert told == opened


async def test_a_request_in_single_bytes_is_understood(both: tuple[School, RdpTarget]) -> None:
    one, target = both
    await one.connected()
    async with dialled(one) as (_, writer):
        for byte in request(await token_of(one)):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await eventually(lambda: target.heard == request(None))


async def test_a_pass_works_once(both: tuple[School, RdpTarget]) -> None:
    one, target = both
    await one.connected()
    token = await token_of(one)
    async with dialled(one, request(token)):
        await eventually(lambda: target.clients)
        async with dialled(one, request(token)) as (reader, _):
            assert await hung_up(reader) == b""
        assert len(target.clients) == 1


async def test_a_pass_opens_its_own_session_only(both: tuple[School, RdpTarget]) -> None:
    one, target = both
    mine, other = await one.connected("ann"), await one.connected("bob")
    token = (await token_of(one)).replace(mine.encode(), other.encode())
    async with dialled(one, request(token)) as (reader, _):
        assert await hung_up(reader) == b""
    assert not target.heard


async def test_a_pass_for_vnc_opens_no_rdp(both: tuple[School, RdpTarget]) -> None:
    one, target = both
    session_id = await one.connected()
    token = f"trivium:{session_id}:{await one.password('vnc')}"
    async with dialled(one, request(token.encode())) as (reader, _):
        assert await hung_up(reader) == b""
    assert not target.heard


async def test_a_desktop_that_does_not_answer_ends_the_viewer(
    both: tuple[School, RdpTarget],
) -> None:
    one, _ = both
    await one.connected()
    token = await token_of(one)
    one.engine.broken = EngineError("the desktop does not answer on its RDP port")
    async with dialled(one, request(token)) as (reader, _):
        assert await hung_up(reader) == b""


async def test_an_ended_session_takes_its_viewer_with_it(both: tuple[School, RdpTarget]) -> None:
    one, target = both
    session_id = await one.connected()
    async with dialled(one, request(await token_of(one))) as (reader, _):
        await eventually(lambda: target.clients)
        assert one.app.broker.displays.kill(session_id)
        await hung_up(reader)
        await eventually(lambda: not target.clients)


@pytest.mark.parametrize(
    "said",
    [
        request(None),
        request(b"Cookie: mstshash=ann"),
        request(b"trivium:ses_1"),
        request(b"trivium:ses_1:"),
        request(b"trivium:../x:secret"),
        request(b"trivium:ses_1:secret", b"")[:-2],
        request(b"trivium:ses_none:" + b"s" * 43),
        b"\x03\x00\xff\xff" + bytes(70_000),
        b"\x03\x00\x00\x04",
        b"\x03\x00\x00\x05\x00",
        b"\x03\x00\x00\x13\x0f\xe0" + bytes(13),
        b"\x03\x00\x00\x13\x0e\xd0" + bytes(13),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(512),
        bytes(4000),
    ],
)
async def test_whatever_else_knocks_is_hung_up_on(
    both: tuple[School, RdpTarget], said: bytes
) -> None:
    one, target = both
    await one.connected()
    async with dialled(one, said) as (reader, writer):
        writer.write_eof()
        assert await hung_up(reader) == b""
    assert not target.heard


# ----------------------------------------------------------------------------- the packet


@pytest.mark.parametrize("rest", [b"", NEGOTIATION, NEGOTIATION + bytes([6, 0, 36, 0]) + bytes(32)])
def test_a_request_loses_its_first_line_and_nothing_else(rest: bytes) -> None:
    token = b"trivium:ses_1:secret"
    assert split_request(request(token, rest)) == (token, request(None, rest))


def test_the_longest_request_has_room_for_a_pass() -> None:
    token = f"trivium:ses_{'x' * 22}:{'y' * 43}".encode()
    longest = request(token, NEGOTIATION + bytes(36))
    assert len(longest) < RDP_REQUEST_BYTES_MAX == 4 + 1 + 254


@pytest.mark.parametrize("size", range(4, 11))
def test_a_request_that_is_too_short_for_its_parts_is_refused(size: int) -> None:
    with pytest.raises(RefusedError):
        split_request((b"\x03\x00\x00" + bytes([size]) + bytes([size - 5 & 0xFF, 0xE0]))[:size])


@pytest.mark.parametrize("off", [-1, 1])
def test_a_request_whose_lengths_disagree_is_refused(off: int) -> None:
    packet = bytearray(request(b"trivium:ses_1:secret"))
    packet[4] += off
    with pytest.raises(RefusedError):
        split_request(bytes(packet))
