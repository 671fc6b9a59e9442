"""The guest agent's link over the network, at a real WebSocket server (aiohttp's), and at none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import WSMsgType, web

from agents.guest import given, limits
from agents.guest.chance import Chance
from agents.guest.clock import Clock
from agents.guest.config import Config, ConfigError, read
from agents.guest.given import Given
from agents.guest.link import PATH, SUBPROTOCOL, Link, UnreachableError, place_of
from broker import guest_wire
from broker.listening import stop_listening
from tests.support.certificates import Authority

DEADLINE_S = 30
TICKET = "dsk_1.1.seal"
Script = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]


OTHERS_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"Sec-WebSocket-Protocol: trivium-guest.1\r\n\r\n"
)
"""to another handshake than ours"""


def test_both_ends_mean_the_same_address() -> None:
    assert (PATH, SUBPROTOCOL) == (guest_wire.LINK_PATH, guest_wire.LINK_SUBPROTOCOL)


class QuickClock(Clock):
    """Time may be put forward."""

    def __init__(self) -> None:
        self.shift = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


class NoPause(Chance):
    """Draws no pauses, and keeps how long they might have been."""

    def __init__(self) -> None:
        self.mosts: list[float] = []

    def up_to(self, most: float) -> float:
        self.mosts.append(most)
        return 0.0


@contextlib.asynccontextmanager
async def serving(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A WebSocket server that does this with whoever comes. Answers its port."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=(SUBPROTOCOL,), timeout=1, autoping=False)
        await ws.prepare(request)
        await script(ws, request)
        return ws

    app = web.Application()
    app.router.add_get(PATH, handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        server = cast("asyncio.Server", site._server)
        yield server.sockets[0].getsockname()[1]
        await stop_listening(server)
    finally:
        await runner.cleanup()
    # aiohttp does not know those who failed at TLS; their sockets close a moment later
    async with asyncio.timeout(DEADLINE_S):
        while getattr(server, "_active_count", 0):  # Python 3.11's `wait_closed` waits for nothing
            await asyncio.sleep(0.005)
        await server.wait_closed()


def link_to(
    port: int, scheme: str = "http", clock: Clock | None = None, chance: Chance | None = None,
    **settings: Any,
) -> Link:  # fmt: skip
    config = Config(plain=True)._replace(**settings)
    found = Given(TICKET, f"{scheme}://127.0.0.1:{port}")
    return Link(config, clock or Clock(), chance or NoPause(), lambda: found)


async def until(link: Link, done: Callable[[bytes], bool]) -> bytes:
    """Wait with the link, on a thread as the agent does, until what it heard is enough."""

    def work() -> bytes:
        clock, heard = Clock(), b""
        ends = clock.monotonic() + DEADLINE_S
        while not done(heard):
            assert clock.monotonic() < ends, heard
            heard += link.wait(0.05, writable=False)
        return heard

    return await asyncio.to_thread(work)


async def linked(link: Link) -> None:
    await until(link, lambda _: link.connected)


async def test_the_ticket_comes_first_and_lines_go_both_ways() -> None:
    heard: list[str] = []

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        assert "ticket" not in request.path_qs
        heard.append((await ws.receive()).data)
        await ws.send_str('{"type":"identify"}')
        heard.append((await ws.receive()).data)
        await ws.send_str("x" * (limits.LINE_BYTES_MAX - 1))
        heard.append((await ws.receive()).data)

    async with serving(script) as port:
        link = link_to(port)
        said = await until(link, lambda said: b"\n" in said)
        assert said == b'{"type":"identify"}\n'
        assert link.write(b"\n") == 1
        assert link.write(b'{"type":"hello"}\n') == 17
        said = await until(link, lambda said: said.endswith(b"\n"))
        assert len(said) == limits.LINE_BYTES_MAX
        long = b"y" * (limits.LINE_BYTES_MAX - 1)
        assert link.write(long + b"\n") == limits.LINE_BYTES_MAX
        await until(link, lambda _: not link.connected)
        link.close()
    assert json.loads(heard[0]) == {"type": "present", "ticket": TICKET}
    assert heard[1:] == ['{"type":"hello"}', long.decode()]


async def test_pings_are_answered_and_messages_in_pieces_are_whole() -> None:
    answered = asyncio.Event()

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        await ws.receive()
        await ws.ping(b"there?")
        pong = await ws.receive()
        assert (pong.type, pong.data) == (WSMsgType.PONG, b"there?")
        answered.set()
        assert request.transport is not None
        request.transport.write(b"\x01\x02on\x89\x00\x80\x01e")
        assert (await ws.receive()).type is WSMsgType.PONG
        await ws.receive()

    async with serving(script) as port:
        link = link_to(port)
        assert await until(link, lambda said: b"\n" in said) == b"one\n"
        assert answered.is_set()
        link.close()


@pytest.mark.parametrize(
    "bad", [b"\x82\x01x", b"\x81\x7e\xff\xff", b"\x81\x7f" + b"\x7f" * 8, b"\x81\x01\xff"]
)
async def test_a_server_that_breaks_the_protocol_is_left(bad: bytes) -> None:
    codes: list[int | None] = []

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        await ws.receive()
        if not codes:
            assert request.transport is not None
            request.transport.write(bad)
        else:
            await ws.send_str("good")
        await ws.receive()
        codes.append(ws.close_code)

    async with serving(script) as port:
        link = link_to(port)
        assert await until(link, lambda said: b"\n" in said) == b"good\n"
        link.close()
    assert codes[0] in {1003, 1007, 1009}


async def test_a_link_that_is_closed_is_made_anew_after_pauses_that_grow() -> None:
    comings = 0

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        nonlocal comings
        comings += 1
        await ws.receive()
        if comings < 9:
            await ws.close(code=guest_wire.CLOSE_OLD, message=b"old")
        elif comings == 9:
            await ws.send_str("in")
        else:
            await ws.receive()

    chance = NoPause()
    async with serving(script) as port:
        link = link_to(port, chance=chance)
        await until(link, lambda said: b"in" in said)
        await until(link, lambda _: comings == 10)
        link.close()
    assert chance.mosts == [2, 4, 8, 16, 30, 30, 30, 30, 2]


async def test_a_broker_that_says_nothing_for_long_is_left() -> None:
    comings = 0

    async def script(ws: web.WebSocketResponse, _: web.Request) -> None:
        nonlocal comings
        comings += 1
        await ws.receive()
        await ws.receive()

    clock = QuickClock()
    async with serving(script) as port:
        link = link_to(port, clock=clock)
        await linked(link)
        for shift, still in ((-5, True), (1, False)):
            clock.shift = limits.LINK_SILENT_S + shift
            await asyncio.to_thread(link.wait, 0.05, writable=False)
            assert link.connected is still
        await until(link, lambda _: link.connected and comings == 2)
        link.close()


async def test_a_broker_that_does_not_read_holds_nothing_up() -> None:
    enough = asyncio.Event()

    async def script(ws: web.WebSocketResponse, request: web.Request) -> None:
        await ws.receive()
        assert request.transport is not None
        request.transport.pause_reading()
        await enough.wait()

    async with serving(script) as port:
        link = link_to(port)
        await linked(link)
        line = b"x" * 16_000 + b"\n"
        async with asyncio.timeout(DEADLINE_S):
            while await asyncio.to_thread(link.write, line):
                pass
        assert len(link._unsent) <= limits.UNSENT_BYTES_MAX + len(line)
        enough.set()
        link.close()


# ----------------------------------------------------------------------------------- who answers


@contextlib.asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Something that says this to whoever asks, and hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # what is closed with something unread is reset, and the answer lost on its way
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "answer",
    [
        OTHERS_ANSWER,
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 " + b"x" * 20_000,
        b"",
    ],
)
async def test_what_is_no_broker_never_gets_the_ticket(
    answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(answer) as port:
        link = link_to(port)
        await asyncio.to_thread(link.wait, 0.1, writable=False)
        assert not link.connected
        assert link._failures == 1
        assert link._unsent == b""
        link.close()
    told = capsys.readouterr().err
    assert told.startswith(f"link: 127.0.0.1:{port}: ")
    assert TICKET not in told


async def waits(ws: web.WebSocketResponse, _: web.Request) -> None:
    await ws.receive()
    await ws.send_str("in")
    await ws.receive()


def context_of(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "servercert.pem", folder / "serverkey.pem")
    return context


async def test_tls_is_spoken_to_whom_the_authority_vouches_for(tmp_path: Path) -> None:
    Authority().vouch(tmp_path, "desk", server=True)
    async with serving(waits, context_of(tmp_path)) as port:
        link = link_to(port, "https", plain=False, authority=str(tmp_path / "cacert.pem"))
        assert await until(link, lambda said: b"\n" in said) == b"in\n"
        link.close()


@pytest.mark.parametrize("wrong", ["authority", "name", "system", "missing"])
async def test_a_wrong_certificate_gets_no_ticket(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Authority()
    address = "127.0.0.9" if wrong == "name" else "127.0.0.1"
    own.vouch(tmp_path / "server", "desk", server=True, address=address)
    Authority().vouch(tmp_path / "other", "desk", server=True)
    trusted = {
        "authority": str(tmp_path / "other" / "cacert.pem"),
        "name": str(tmp_path / "server" / "cacert.pem"),
        "system": "",
        "missing": str(tmp_path / "nothing.pem"),
    }[wrong]
    async with serving(waits, context_of(tmp_path / "server")) as port:
        link = link_to(port, "wss", plain=False, authority=trusted)
        await asyncio.to_thread(link.wait, 0.1, writable=False)
        assert not link.connected
        assert link._unsent == b""
        link.close()
    told = capsys.readouterr().err
    assert ("No such file" if wrong == "missing" else "CERTIFICATE_VERIFY_FAILED") in told


# ------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("address", ["", "desk", "ftp://desk", "https://", "https://a@desk",
                                     "https://desk:99999", "https://d\u00e9sk"])  # fmt: skip
def test_what_is_no_address_is_not_gone_to(address: str) -> None:
    with pytest.raises(UnreachableError, match=r"broker\.address"):
        place_of(address, plain=True)


def test_an_address_without_secrecy_must_be_asked_for() -> None:
    with pytest.raises(UnreachableError, match=r"broker\.plain"):
        place_of("http://desk", plain=False)
    assert place_of("http://desk", plain=True).port == 80
    assert place_of("https://desk", plain=False) == ("desk", 443, "desk", True)
    assert place_of("wss://[::1]:8443", plain=False) == ("::1", 8443, "[::1]:8443", True)


def test_the_settings_name_the_broker(tmp_path: Path) -> None:
    file = tmp_path / "conf"
    file.write_text(
        "[broker]\naddress = https://desk\nca = /etc/ca.pem\nticket_file = /run/ticket\nplain=yes\n"
    )
    config = read(file)
    assert (config.address, config.authority, config.ticket_file, config.plain) == (
        "https://desk", "/etc/ca.pem", "/run/ticket", True,
    )  # fmt: skip
    file.write_text("[broker]\nplain = maybe\n")
    with pytest.raises(ConfigError):
        read(file)


def test_the_ticket_is_found_where_the_machine_was_given_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "environ"
    first.write_bytes(b"A=1\0TRIVIUM_TICKET=t1\0TRIVIUM_BROKER=https://a\0")
    assert given.by_variables({}, first) == Given("t1", "https://a")
    assert given.by_variables({"TRIVIUM_TICKET": "t2"}, first) == Given("t2", "")
    assert given.by_variables({}, tmp_path / "none") == Given()
    monkeypatch.setenv("TRIVIUM_TICKET", "t3")
    monkeypatch.setenv("TRIVIUM_BROKER", "https://b")
    assert given.find(Config()) == Given("t3", "https://b")
    assert given.find(Config(address="https://own")) == Given("t3", "https://own")
    file = tmp_path / "ticket"
    config = Config(address="https://own", ticket_file=str(file))
    assert given.find(config) == Given("", "https://own")
    file.write_text("t4\n")
    assert given.find(config) == Given("t4", "https://own")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            b'HTTP/1.0 200 OK\r\n\r\n{"meta":{"trivium_ticket":"t","trivium_broker":"b"}}',
            ("t", "b"),
        ),
        (b'HTTP/1.1 200 OK\r\n\r\n{"meta":{"trivium_ticket":"t"}}', ("t", "")),
        (b'HTTP/1.1 200 OK\r\n\r\n{"meta":{}}', ("", "")),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", ("", "")),
        (b'HTTP/1.1 404 No\r\n\r\n{"meta":{"trivium_ticket":"t"}}', ("", "")),
        (b"x" * 300_000, ("", "")),
    ],
)
async def test_a_clouds_server_finds_its_ticket_among_its_metadata(
    answer: bytes, found: tuple[str, str]
) -> None:
    async with answering(answer) as port:
        assert await asyncio.to_thread(given.by_metadata, ("127.0.0.1", port)) == found
