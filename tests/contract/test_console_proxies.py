"""Displays through a console proxy: what is shown, what is refused, and that the token stays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import asyncvnc
import pytest
from aiohttp import web

from broker.domain.errors import ConsoleProxyError
from broker.engines.reach import novnc
from broker.engines.reach.novnc import ConsoleProxies, ProxiedConsole, proxied
from broker.limits import CONSOLE_ADDRESS_CHARS_MAX, FRAME_BYTES_MAX
from tests.support.app import furnish, running_app
from tests.support.certificates import Authority
from tests.support.console_proxy import TOKEN, ConsoleProxy
from tests.support.eventually import eventually
from tests.support.rfb import display_on
from tests.support.rfb_server import GREETING, RfbServer, colour_after
from tests.support.shadows import RfbEnd, RfbEngine, Stage
from tests.support.viewers import vnc_school

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def desktop() -> AsyncIterator[RfbServer]:
    async with RfbServer.started() as server:
        yield server


@pytest.fixture
async def proxy(desktop: RfbServer) -> AsyncIterator[ConsoleProxy]:
    async with ConsoleProxy.started(desktop.port) as started:
        yield started


@pytest.fixture
async def proxies() -> AsyncIterator[ConsoleProxies]:
    opened = ConsoleProxies()
    yield opened
    await opened.close()


def nobody(_: ProxiedConsole) -> None:
    """Who does not care when it ends."""


async def refused(proxies: ConsoleProxies, page: str, *, verify: bool | str = True) -> object:
    """Why the display at that page was refused; no text of it has the token."""
    with pytest.raises(ConsoleProxyError) as raised:
        await proxies.open(page, nobody, verify=verify)
    error: BaseException | None = raised.value
    assert "127.0.0.1" not in raised.value.detail
    assert TOKEN not in str(error) + repr(error) + repr(raised.value.fields)
    assert error is not None
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return raised.value.fields["refused"]


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """The address of a page whose server does that with each connection, and nothing else."""
    writers: list[asyncio.StreamWriter] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/vnc.html?token={TOKEN}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def speaking(say: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    """The address of a page whose server says that to each client."""

    async def serve(request: web.Request) -> web.StreamResponse:
        client = web.WebSocketResponse(protocols=("binary",))
        await client.prepare(request)
        await say(client)
        await client.receive()
        return client

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/vnc.html?token={TOKEN}"
    finally:
        await runner.cleanup()


# ------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("page", "address", "cookie"),
    [
        ("http://p:6080/vnc_lite.html?path=%3Ftoken%3Dt-1", "ws://p:6080/?token=t-1", ""),
        ("https://p/vnc.html?path=%3Ftoken%3Dt-1", "wss://p/?token=t-1", ""),
        (
            "https://p/a/vnc.html?path=cloud%2Fnovnc%3Ftoken%3Dt-1",
            "wss://p/cloud/novnc?token=t-1",
            "",
        ),
        ("http://p:6080/vnc_auto.html?token=t-1", "ws://p:6080/websockify?token=t-1", "t-1"),
        ("http://[::1]:6080/vnc.html?path=%3Ftoken%3Dt", "ws://[::1]:6080/?token=t", ""),
        ("wss://p/?path=%2F%2Fother%3Ftoken%3Dt", "wss://p/other?token=t", ""),
        ("wss://p/?path=%40q%3Ftoken%3Dt", "wss://p/%40q?token=t", ""),
    ],
)
def test_what_the_proxys_page_would_open_is_opened(page: str, address: str, cookie: str) -> None:
    found = proxied(page)
    assert (found.address, found.cookie) == (address, cookie)
    assert "t-1" not in repr(found)


@pytest.mark.parametrize(
    "page",
    [
        "",
        "http://p:6080/vnc.html",
        "http://p:6080/vnc.html?path=x",
        "http://p:6080/vnc.html?path=%3Ftoken%3D",
        "file:///etc/passwd?token=t",
        "http:///vnc.html?token=t",
        "http://somebody@p/vnc.html?token=t",
        "http://p:port/vnc.html?token=t",
        "http://p/vnc.html?token=a%0d%0ab",
        "http://p/vnc.html?token=a%3Bb",
        "http://[p/vnc.html?token=t",
        "http://p/vnc.html?token=t&" + "&".join(f"k{number}=1" for number in range(20)),
        "http://p/vnc.html?token=" + "t" * CONSOLE_ADDRESS_CHARS_MAX,
    ],
)
def test_what_is_no_address_of_a_console_is_refused(page: str) -> None:
    with pytest.raises(ConsoleProxyError):
        proxied(page)


# ----------------------------------------------------------------------------- a good proxy


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("piece", [65_536, 1])
async def test_the_desktop_is_seen_and_typed_at(
    proxies: ConsoleProxies, desktop: RfbServer, *, old: bool, piece: int
) -> None:
    """However its bytes are cut."""
    desktop.width, desktop.height = (320, 200) if piece > 1 else (8, 4)
    async with ConsoleProxy.started(desktop.port, piece=piece) as proxy:
        console = await proxies.open(proxy.page(old=old), nobody)
        assert (console.protocol, console.size) == ("vnc", (0, 0))
        async with display_on(console) as display:
            assert (await display.look()).pixels[:3] == bytes(colour_after(0))
            await display.type("a")
            await eventually(lambda: len(desktop.keys) == 1)
            assert (await display.look()).pixels[:3] == bytes(colour_after(1))
        assert proxy.asked == [("/websockify" if old else "/", old)]
        assert proxy.protocols == ["binary"]
        await eventually(lambda: not proxy.clients)
    assert await console.receive() == b""


async def test_a_person_sees_it_through_the_whole_broker(
    tmp_path: Path, desktop: RfbServer, proxy: ConsoleProxy, proxies: ConsoleProxies,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(desktop, "console", lambda: proxies.open(proxy.page(), nobody))
    async with running_app(tmp_path) as app:
        await furnish(app)
        engine = RfbEngine(desktop)
        engines = cast("dict[str, object]", app.broker.engines._engines)
        with monkeypatch.context() as patched:
            patched.setitem(engines, "simulated", engine)
            async with Stage(app, engine).desktop() as own:
                end = RfbEnd(own)
                await end.greet()
                await end.key(ord("x"))
                await eventually(lambda: desktop.keys == [ord("x")])
                assert engine.sessions
            await eventually(lambda: not proxy.clients)


@pytest.mark.filterwarnings("ignore:TripleDES has been", "ignore:Single-key TripleDES")
async def test_a_viewer_outside_the_browser_sees_it_too(
    tmp_path: Path, proxies: ConsoleProxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        vnc_school(tmp_path) as (school, rfb),
        ConsoleProxy.started(rfb.port) as proxy,
    ):
        monkeypatch.setattr(school.engine, "console", lambda *_: proxies.open(proxy.page(), nobody))
        await school.connected()
        password = await school.password()
        async with asyncio.timeout(60):
            port = school.port("vnc")
            async with asyncvnc.connect("127.0.0.1", port, password=password) as viewer:
                picture = await viewer.screenshot()
                assert tuple(picture[100, 100][:3]) == colour_after(0)
        await eventually(lambda: not proxy.clients)


async def test_large_messages_are_passed_on_in_pieces(proxies: ConsoleProxies) -> None:
    body = bytes(range(256)) * 2048
    assert len(body) > FRAME_BYTES_MAX

    async def say(client: web.WebSocketResponse) -> None:
        await client.send_bytes(GREETING + body)
        await client.send_bytes(b"")
        await client.send_bytes(b"end")

    async with speaking(say) as page:
        console = await proxies.open(page, nobody)
        heard = b""
        while not heard.endswith(b"end"):
            piece = await console.receive()
            assert 0 < len(piece) <= FRAME_BYTES_MAX
            heard += piece
        assert heard == GREETING + body + b"end"
        await console.close()


# --------------------------------------------------------------------------------- its end


async def test_a_proxy_that_breaks_off_ends_the_display_once(
    proxies: ConsoleProxies, proxy: ConsoleProxy
) -> None:
    ended: list[ProxiedConsole] = []
    console = await proxies.open(proxy.page(), ended.append)
    assert await console.receive() == GREETING
    proxy.break_off()
    assert await console.receive() == b""
    await console.send(b"too late")
    await console.close()
    await console.close()
    assert ended == [console]


async def test_a_desktop_that_hangs_up_ends_the_display(
    proxies: ConsoleProxies, proxy: ConsoleProxy, desktop: RfbServer
) -> None:
    console = await proxies.open(proxy.page(), nobody)
    assert await console.receive() == GREETING
    desktop.hang_up()
    assert await console.receive() == b""


async def test_a_display_that_is_ended_wakes_whoever_waits_for_it(
    proxies: ConsoleProxies, proxy: ConsoleProxy
) -> None:
    console = await proxies.open(proxy.page(), nobody)
    assert await console.receive() == GREETING
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(console.receive())
        await asyncio.sleep(0)
        console.end()
        assert await waiting == b""
    await eventually(lambda: not proxy.clients)


async def test_closing_all_leaves_nothing_open_whoever_forgot_to_close_it(
    proxy: ConsoleProxy,
) -> None:
    proxies = ConsoleProxies()
    asyncio.get_running_loop().set_debug(True)  # aiohttp warns then, in whatever order things go
    opened = [await proxies.open(proxy.page(), nobody) for _ in range(3)]
    for one in opened[1:]:
        one.end()
    await proxies.close()
    opened.clear()
    await eventually(lambda: not proxy.clients)
    assert await refused(proxies, proxy.page()) == "closed"
    gc.collect()  # what was left open warns, which fails the test


async def test_a_message_beyond_all_measure_ends_the_display(
    proxies: ConsoleProxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novnc, "CONSOLE_PROXY_MESSAGE_BYTES_MAX", 1024)

    async def say(client: web.WebSocketResponse) -> None:
        await client.send_bytes(GREETING)
        with contextlib.suppress(ConnectionError):
            await client.send_bytes(bytes(2048))

    async with speaking(say) as page:
        console = await proxies.open(page, nobody)
        assert await console.receive() == GREETING
        assert await console.receive() == b""


# --------------------------------------------------------------------------------- refused


async def test_a_token_that_is_not_taken_is_told(
    proxies: ConsoleProxies, proxy: ConsoleProxy
) -> None:
    assert await refused(proxies, proxy.page(TOKEN[::-1])) == "token"
    assert proxy.asked


async def test_a_proxy_that_is_away_is_told(proxies: ConsoleProxies) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert await refused(proxies, f"http://127.0.0.1:{port}/vnc.html?token={TOKEN}") == "network"


async def test_a_proxy_that_hangs_is_given_its_time_and_no_more(
    proxies: ConsoleProxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novnc, "CONSOLE_PROXY_S", 0.3)
    hung_up = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        hung_up.set()

    async with serving(hang) as page:
        assert await refused(proxies, page) == "silence"
        async with asyncio.timeout(60):
            await hung_up.wait()


async def test_a_proxy_that_lets_in_and_shows_nothing_is_left(
    proxies: ConsoleProxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novnc, "CONSOLE_PROXY_S", 0.3)

    async def silence(client: web.WebSocketResponse) -> None:
        await client.send_bytes(b"")

    async with speaking(silence) as page:
        assert await refused(proxies, page) == "silence"


@pytest.mark.parametrize("word", [b"HTTP/1.1 400", "RFB 003.008"])
async def test_what_is_not_vnc_is_not_shown(proxies: ConsoleProxies, word: bytes | str) -> None:
    async def say(client: web.WebSocketResponse) -> None:
        if isinstance(word, str):
            await client.send_str(word)
        else:
            await client.send_bytes(word)

    async with speaking(say) as page:
        assert await refused(proxies, page) in {"protocol", "token"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n", "token"),
        (b"HTTP/1.1 404 Not Found\r\n", "http"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n", "http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "http"),
    ],
)
async def test_what_is_no_console_proxy_is_told_and_a_token_goes_nowhere_else(
    proxies: ConsoleProxies, answer: bytes, why: str
) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer + b"Content-Length: 0\r\n\r\n")
        await reader.read()

    async with serving(serve) as elsewhere:
        moved = answer.replace(b"http://127.0.0.1:9/", elsewhere.encode())

        async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(moved + b"Content-Length: 0\r\n\r\n")
            await reader.read()

        async with serving(first) as page:
            assert await refused(proxies, page) == why
    assert heard == []


# ----------------------------------------------------------------------- certificates, secrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A proxy's certificate for "proxy" and 127.0.0.1, and who vouches for it."""
    Authority().vouch(tmp_path, "proxy", server=True)
    return tmp_path


async def test_a_proxys_certificate_is_checked_as_the_clouds(
    proxies: ConsoleProxies, desktop: RfbServer, folder: Path, tmp_path: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "servercert.pem", folder / "serverkey.pem")
    own = str(folder / "cacert.pem")
    Authority("another").vouch(tmp_path / "other", "proxy", server=True)
    async with ConsoleProxy.started(desktop.port, tls=tls) as proxy:
        for verify in (own, False):
            async with display_on(await proxies.open(proxy.page(), nobody, verify=verify)) as seen:
                assert (await seen.look()).pixels[:3] == bytes(colour_after(0))
        there = len(proxy.asked)
        other = str(tmp_path / "other" / "cacert.pem")
        for verify in (True, other, str(tmp_path / "nowhere.pem"), str(folder / "serverkey.pem")):
            assert await refused(proxies, proxy.page(), verify=verify) == "certificate"
        assert await refused(proxies, proxy.page(host="localhost"), verify=own) == "certificate"
        assert len(proxy.asked) == there


async def test_a_token_is_in_no_log(
    proxies: ConsoleProxies, proxy: ConsoleProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with display_on(await proxies.open(proxy.page(), nobody)) as display:
        await display.look()
    async with serving(_not_found) as page:
        await refused(proxies, page)
    proxy.tls = ssl.create_default_context()
    await refused(proxies, proxy.page())
    assert "a console proxy" in caplog.text
    assert TOKEN not in caplog.text


async def _not_found(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    await reader.read()
