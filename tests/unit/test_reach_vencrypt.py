"""A display at a host's port: shown to whoever has a certificate, by whoever has one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.domain.errors import EngineError, HostUnreachableError
from broker.engines.reach.tls import ssl_context
from broker.engines.reach.vencrypt import VERSION, CertifiedStream, open_display
from tests.support.certificates import Authority
from tests.support.vencrypt_server import VncServer, demanding, vnc_server


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Path:
    authority.vouch(tmp_path / "server", "host", server=True)
    return tmp_path / "server"


@pytest.fixture
def broker(authority: Authority, tmp_path: Path) -> Path:
    authority.vouch(tmp_path / "broker", "broker", server=False)
    return tmp_path / "broker"


async def seen(one: VncServer, broker: Path, name: str = "127.0.0.1") -> CertifiedStream:
    context = ssl_context(broker)
    return await open_display("127.0.0.1", one.port, context=context, name=name, host="server-1")


async def read(stream: CertifiedStream, size: int) -> bytes:
    heard = b""
    async with asyncio.timeout(30):
        while len(heard) < size:
            more = await stream.read(size - len(heard))
            assert more
            heard += more
    return heard


async def greeted(stream: CertifiedStream) -> None:
    """As a viewer does, a byte at a time."""
    assert await read(stream, 12) == VERSION
    for byte in VERSION:
        stream.write(bytes([byte]))
    assert await read(stream, 2) == b"\x01\x01"
    stream.write(b"\x01")
    assert await read(stream, 4) == bytes(4)


async def test_a_display_is_let_in_to_by_certificates_and_greets_without_a_password(
    server: Path, broker: Path
) -> None:
    async with vnc_server(demanding(server)) as one:
        stream = await seen(one, broker)
        await greeted(stream)
        stream.write(b"\x01")
        stream.write(b"a key")
        await stream.drain()
        assert await read(stream, 6) == b"\x01a key"
        assert bytes(one.plain) == VERSION + b"\x13" + b"\x00\x02" + (260).to_bytes(4)
        stream.abort()
        assert await stream.read(10) == b""


async def test_what_a_viewer_sends_with_its_choice_is_the_servers(
    server: Path, broker: Path
) -> None:
    async with vnc_server(demanding(server)) as one:
        stream = await seen(one, broker)
        stream.write(VERSION + b"\x01" + b"\x01more")
        assert await read(stream, 12 + 2 + 4) == VERSION + b"\x01\x01" + bytes(4)
        assert await read(stream, 5) == b"\x01more"
        stream.abort()


@pytest.mark.parametrize("said", [b"RFB 003.003\n", b"GET / HTTP/1", VERSION + b"\x02"])
async def test_a_viewer_that_speaks_otherwise_is_lost(
    server: Path, broker: Path, said: bytes
) -> None:
    async with vnc_server(demanding(server)) as one:
        stream = await seen(one, broker)
        with pytest.raises(ConnectionError):
            stream.write(said)
        stream.abort()


async def test_a_reader_that_waits_for_the_viewer_is_told_of_the_end(
    server: Path, broker: Path
) -> None:
    async with vnc_server(demanding(server)) as one:
        stream = await seen(one, broker)
        assert await read(stream, 12) == VERSION
        waiting = asyncio.create_task(stream.read(1))
        await asyncio.sleep(0)
        stream.abort()
        async with asyncio.timeout(30):
            assert await waiting == b""


async def test_a_server_that_another_authority_vouches_for_is_not_believed(
    broker: Path, tmp_path: Path
) -> None:
    Authority("a stranger").vouch(tmp_path / "strange", "host", server=True)
    async with vnc_server(demanding(tmp_path / "strange")) as one:
        with pytest.raises(EngineError, match="certificate of the display at server-1 is not tak"):
            await seen(one, broker)


async def test_a_server_with_another_hosts_name_is_not_believed(server: Path, broker: Path) -> None:
    async with vnc_server(demanding(server)) as one:
        with pytest.raises(EngineError, match="not valid for 'other'"):
            await seen(one, broker, "other")


async def test_a_broker_that_the_server_has_no_reason_to_believe_is_told_so(
    server: Path, authority: Authority, tmp_path: Path
) -> None:
    Authority("a stranger").vouch(tmp_path / "strange", "broker", server=False)
    (tmp_path / "strange/cacert.pem").write_bytes(authority.certificate())
    async with vnc_server(demanding(server)) as one:
        with pytest.raises(EngineError, match="does not take the broker's certificate"):
            await seen(one, tmp_path / "strange")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"types": b"\x01"}, "has no TLS"),
        ({"types": b"\x02\x01"}, "has no TLS"),
        ({"types": b""}, "has no TLS"),
        ({"subtypes": (257, 259)}, "no TLS with certificates"),
        ({"subtypes": (261, 263)}, "a password beside certificates"),
        ({"greeting": b"RFB 003.003\n"}, "does not speak RFB"),
        ({"greeting": b"SSH-2.0-sshd"}, "does not speak RFB"),
        ({"result": (1).to_bytes(4)}, "refuses the broker"),
    ],
)
async def test_a_server_without_certificates_both_ways_is_shown_nothing(
    server: Path, broker: Path, changes: dict[str, object], says: str
) -> None:
    async with vnc_server(demanding(server), **changes) as one:
        with pytest.raises(EngineError, match=says):
            await seen(one, broker)
        assert b"\x01" not in bytes(one.plain[12:13])


async def test_a_port_where_nothing_listens_says_so(server: Path, broker: Path) -> None:
    async with vnc_server(demanding(server)) as one:
        pass
    with pytest.raises(HostUnreachableError):
        await seen(one, broker)
