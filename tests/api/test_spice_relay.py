"""SPICE viewers: a proxy that leads to one's own session, with as many connections as it takes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.domain.errors import EngineError
from broker.gateway.relay import RefusedError
from broker.gateway.spice import read_request
from broker.limits import SPICE_CHANNELS_MAX
from tests.support.eventually import eventually
from tests.support.viewers import School, school, until, values_of

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class SpiceServer:
    """Echoes each connection with its number before every piece."""

    channels: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    opened: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        number = self.opened
        self.channels[number] = writer
        try:
            while data := await reader.read(65536):
                writer.write(b"%d:" % number + data)
        except ConnectionError:
            pass
        finally:
            del self.channels[number]
            writer.close()


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[School, SpiceServer]]:
    spice = SpiceServer()
    server = await asyncio.start_server(spice.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with school(tmp_path, {"spice": port}) as made:
        yield made, spice
    server.close()
    for writer in tuple(spice.channels.values()):
        writer.transport.abort()
    await eventually(lambda: not spice.channels)


def connect(host: str, username: str, password: str) -> bytes:
    """What a viewer says to its proxy."""
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    return (
        f"CONNECT {host}:5900 HTTP/1.0\r\nHost: {host}:5900\r\n"
        f"Proxy-Authorization: Basic {pair}\r\nUser-Agent: spice\r\n\r\n"
    ).encode()


async def request_of(one: School, username: str = "ann") -> bytes:
    """As the viewer that is given the file asks."""
    values = values_of(await one.file("spice", username))
    proxy = urlsplit(values["proxy"])
    assert (proxy.scheme, proxy.hostname, proxy.port) == ("http", "127.0.0.1", one.port("spice"))
    assert values["type"] == "spice"
    assert proxy.username is not None
    assert proxy.password is not None
    return connect(values["host"], proxy.username, proxy.password)


@asynccontextmanager
async def dialled(
    one: School, said: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port("spice"))
    writer.write(said)
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def channel(
    one: School, said: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is let through."""
    async with dialled(one, said) as (reader, writer):
        assert await reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
        yield reader, writer


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Everything until the relay hangs up."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_every_channel_goes_to_the_desktop_and_is_counted_with_the_session(
    both: tuple[School, SpiceServer],
) -> None:
    one, spice = both
    await one.connected()
    said = await request_of(one)
    async with channel(one, said) as first, channel(one, said) as second, channel(one, said):
        first[1].write(b"REDQ main")
        assert await first[0].readexactly(11) == b"1:REDQ main"
        second[1].write(b"REDQ display")
        assert await second[0].readexactly(14) == b"2:REDQ display"
        assert len(spice.channels) == 3
        assert one.app.broker.displays.open_count == 1
        assert await one.state() == "active"
        await one.app.broker.displays.flush()
        path = f"/sessions/{one.sessions['ann']}"
        session = (await one.app.call("GET", path, one.app.people["ann"])).json
        assert session["traffic"]["display"] == 9 + 11 + 12 + 14
    await eventually(lambda: not spice.channels)


async def test_a_channel_that_closes_leaves_the_others_open(
    both: tuple[School, SpiceServer],
) -> None:
    one, spice = both
    await one.connected()
    said = await request_of(one)
    async with channel(one, said) as first:
        async with channel(one, said):
            await eventually(lambda: len(spice.channels) == 2)
        await eventually(lambda: len(spice.channels) == 1)
        first[1].write(b"x")
        assert await first[0].readexactly(3) == b"1:x"


async def test_when_the_first_channel_closes_all_do_and_the_pass_is_spent(
    both: tuple[School, SpiceServer],
) -> None:
    one, spice = both
    await one.connected()
    said = await request_of(one)
    async with channel(one, said) as first, channel(one, said) as second:
        first[1].close()
        assert await answer(second[0]) == b""
        await eventually(lambda: not spice.channels)
    async with dialled(one, said) as (reader, _):
        assert (await answer(reader)).startswith(b"HTTP/1.1 403 ")


async def test_an_ended_session_takes_every_channel_with_it(
    both: tuple[School, SpiceServer],
) -> None:
    one, spice = both
    session_id = await one.connected()
    said = await request_of(one)
    async with channel(one, said) as first, channel(one, said) as second:
        assert one.app.broker.displays.kill(session_id)
        assert await answer(first[0]) == b""
        assert await answer(second[0]) == b""
        await eventually(lambda: not spice.channels)


async def test_another_pass_takes_over_and_the_old_one_opens_no_more_channels(
    both: tuple[School, SpiceServer],
) -> None:
    one, spice = both
    await one.connected()
    old, new = await request_of(one), await request_of(one)
    async with channel(one, old) as first, channel(one, new):
        assert await answer(first[0]) == b""
        async with dialled(one, old) as (reader, _):
            assert (await answer(reader)).startswith(b"HTTP/1.1 403 ")
        async with channel(one, new):
            await eventually(lambda: len(spice.channels) == 2)


async def test_a_viewer_has_only_so_many_channels(both: tuple[School, SpiceServer]) -> None:
    one, _ = both
    await one.connected()
    said = await request_of(one)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(1 + SPICE_CHANNELS_MAX):
            await stack.enter_async_context(channel(one, said))
        async with dialled(one, said) as (reader, _):
            assert (await answer(reader)).startswith(b"HTTP/1.1 403 ")


async def test_a_channel_from_another_address_is_not_let_in_beside(
    both: tuple[School, SpiceServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, spice = both
    await one.connected()
    said = await request_of(one)
    async with channel(one, said):
        monkeypatch.setattr("broker.gateway.relay.source_of", lambda _: "192.0.2.7")
        async with dialled(one, said) as (reader, _):
            assert (await answer(reader)).startswith(b"HTTP/1.1 403 ")
        assert len(spice.channels) == 1


async def test_a_desktop_without_spice_is_told_as_a_refusal(
    both: tuple[School, SpiceServer],
) -> None:
    one, _ = both
    await one.connected()
    said = await request_of(one)
    one.engine.broken = EngineError("the desktop does not run")
    async with dialled(one, said) as (reader, _):
        assert (await answer(reader)).startswith(b"HTTP/1.1 403 ")


async def test_nobody_comes_to_another_session_or_another_host(
    both: tuple[School, SpiceServer],
) -> None:
    one, spice = both
    mine, other = await one.connected("ann"), await one.connected("bob")
    proxy = urlsplit(values_of(await one.file("spice"))["proxy"])
    secret = proxy.password or ""
    for said in (
        connect(other, mine, secret),
        connect(other, other, secret),
        connect("127.0.0.1", mine, secret),
        connect(mine, mine, "wrong"),
        connect(mine, mine, ""),
    ):
        async with dialled(one, said) as (reader, _):
            assert (await answer(reader)).startswith(b"HTTP/1.1 403 "), said
    assert spice.opened == 0
    async with channel(one, connect(mine, mine, secret)):
        assert spice.opened == 1


async def test_a_viewer_without_credentials_is_asked_for_them(
    both: tuple[School, SpiceServer],
) -> None:
    one, _ = both
    async with dialled(one, b"CONNECT ses_1:5900 HTTP/1.0\r\n\r\n") as (reader, _):
        said = await answer(reader)
    assert said.startswith(b"HTTP/1.1 407 ")
    assert b'Proxy-Authenticate: Basic realm="session"' in said


@pytest.mark.parametrize(
    "said",
    [
        b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"CONNECT ses_1:22 HTTP/2.0\r\n\r\n",
        b"CONNECT [::1]:22 HTTP/1.1\r\n\r\n",
        b"CONNECT ses_1:5900 HTTP/1.1\r\nProxy-Authorization: Basic !!!!\r\n\r\n"[:-2] + b"\r\n",
        b"CONNECT ses_1:5900 HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
        b"x" * 100_000,
        b"\x03\x00\x00\x13\x0e\xe0" + bytes(13) + b"\r\n\r\n",
    ],
)
async def test_whatever_else_knocks_is_hung_up_on(
    both: tuple[School, SpiceServer], said: bytes
) -> None:
    one, spice = both
    async with dialled(one, said) as (reader, writer):
        writer.write_eof()
        assert b" 200 " not in await answer(reader)
    assert spice.opened == 0


async def test_a_request_in_single_bytes_is_understood(both: tuple[School, SpiceServer]) -> None:
    one, _ = both
    await one.connected()
    async with dialled(one, b"") as (reader, writer):
        for byte in await request_of(one):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await reader.readexactly(len(ESTABLISHED)) == ESTABLISHED


async def test_whoever_signs_out_loses_every_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.gateway.relay.DISPLAY_SIGN_IN_S", 0.02)
    spice = SpiceServer()
    server = await asyncio.start_server(spice.serve, "127.0.0.1", 0)
    async with school(tmp_path, {"spice": server.sockets[0].getsockname()[1]}) as one:
        await one.connected()
        said = await request_of(one)
        async with channel(one, said) as first, channel(one, said) as second:
            await one.app.call("POST", "/auth/logout", one.app.people["ann"])
            assert await answer(first[0]) == b""
            assert await answer(second[0]) == b""
        await until(lambda: _none(spice))
    server.close()


async def _none(spice: SpiceServer) -> bool:
    return not spice.channels


@pytest.mark.parametrize("lines", ["", "Proxy-Authorization: Basic eDp5\r\n" * 2])
def test_credentials_are_given_once(lines: str) -> None:
    header = f"CONNECT ses_1:5900 HTTP/1.1\r\n{lines}\r\n".encode()
    if not lines:
        assert read_request(header) is None
        return
    with pytest.raises(RefusedError):
        read_request(header)
