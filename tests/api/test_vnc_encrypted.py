"""VNC viewers at a relay with a certificate: VeNCrypt, and nothing without TLS."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.domain.errors import ConfigError
from broker.gateway.relays import viewer_tls
from broker.gateway.rfb import OK, VERSION, X509_PLAIN, X509_VNC, response_of
from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.rfb_server import RfbServer
from tests.support.viewers import School, values_of, vnc_school

KEY_A = b"\x04\x01\0\0\0\0\0a"


class Encrypted:
    """A viewer that speaks VeNCrypt."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def take(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def begin(self, kind: int, ahead: bytes = b"") -> bool:
        """Up to TLS; whether the relay wants to go on with it. `ahead`: said too early."""
        assert await self.take(12) == VERSION
        self.writer.write(VERSION)
        assert await self.take(2) == b"\x01\x13"
        self.writer.write(b"\x13")
        assert await self.take(2) == b"\x00\x02"
        self.writer.write(b"\x00\x02")
        assert await self.take(10) == b"\x00\x02" + struct.pack(">II", X509_PLAIN, X509_VNC)
        self.writer.write(struct.pack(">I", kind) + ahead)
        return await self.reader.read(1) == b"\x01"

    async def secure(self, certificate: Path) -> None:
        """With whoever is vouched for by the authority beside that certificate."""
        trusting = ssl.create_default_context(cafile=str(certificate.with_name("cacert.pem")))
        await self.writer.start_tls(trusting, server_hostname="127.0.0.1")

    def name(self, username: str, password: str) -> None:
        lengths = struct.pack(">II", len(username), len(password))
        self.writer.write(lengths + username.encode() + password.encode())


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """(certificate, key)"""
    Authority().vouch(tmp_path, "localhost", server=True)
    return tmp_path / "servercert.pem", tmp_path / "serverkey.pem"


@pytest.fixture
async def both(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> AsyncIterator[tuple[School, RfbServer]]:
    cert, key = certificate
    env = {"TRIVIUM_VIEWER_CERT": str(cert), "TRIVIUM_VIEWER_KEY": str(key)}
    async with vnc_school(tmp_path / "data", env) as made:
        yield made


@asynccontextmanager
async def knocking(school: School) -> AsyncIterator[Encrypted]:
    reader, writer = await asyncio.open_connection("127.0.0.1", school.port("vnc"))
    try:
        async with asyncio.timeout(60):
            yield Encrypted(reader, writer)
    finally:
        writer.transport.abort()


async def test_the_session_and_the_whole_password_open_it(
    both: tuple[School, RfbServer], certificate: tuple[Path, Path]
) -> None:
    school, rfb = both
    session_id = await school.connected()
    values = values_of(await school.file("vnc"))
    assert values["username"] == session_id
    async with knocking(school) as one:
        assert await one.begin(X509_PLAIN)
        await one.secure(certificate[0])
        one.name(values["username"], values["password"])
        assert await one.take(4) == OK
        one.writer.write(b"\x01" + KEY_A)
        assert struct.unpack(">HH", (await one.take(24))[:4]) == (320, 200)
        await eventually(lambda: rfb.keys)
    assert rfb.keys == [ord("a")]
    await eventually(lambda: rfb.clients == 0)


async def test_nothing_but_the_protocol_comes_through_the_encryption(
    both: tuple[School, RfbServer], certificate: tuple[Path, Path]
) -> None:
    """A viewer may wait at its socket for what came together with TLS 1.3's tickets."""
    school, _ = both
    await school.connected()
    values = values_of(await school.file("vnc"))
    async with knocking(school) as one:
        assert await one.begin(X509_PLAIN)
        await one.secure(certificate[0])
        one.name(values["username"], values["password"])
        assert await one.take(4) == OK
        encryption = one.writer.get_extra_info("ssl_object")
        assert encryption.version() == "TLSv1.3"
        assert not encryption.session.has_ticket


async def test_a_viewer_that_knows_no_user_names_comes_in_by_challenge(
    both: tuple[School, RfbServer], certificate: tuple[Path, Path]
) -> None:
    school, _ = both
    await school.connected()
    password = await school.password()
    async with knocking(school) as one:
        assert await one.begin(X509_VNC)
        await one.secure(certificate[0])
        one.writer.write(response_of(password, await one.take(16)))
        assert await one.take(4) == OK


async def test_a_much_larger_picture_comes_whole_through_the_encryption(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    env = {"TRIVIUM_VIEWER_CERT": str(cert), "TRIVIUM_VIEWER_KEY": str(key)}
    async with vnc_school(tmp_path / "data", env, width=1600, height=900) as (school, _):
        await school.connected()
        values = values_of(await school.file("vnc"))
        async with knocking(school) as one:
            assert await one.begin(X509_PLAIN)
            await one.secure(cert)
            one.name(values["username"], values["password"])
            one.writer.write(b"\x01" + struct.pack(">BBHHHH", 3, 0, 0, 0, 1600, 900))
            assert await one.take(4) == OK
            await one.take(24 + len(b"a desktop"))
            await one.take(16)
            pixels = await one.take(1600 * 900 * 4)
            assert pixels == pixels[:4] * (1600 * 900)


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("", ""),
        ("ses_none", "right"),
        ("right", "wrong"),
        ("right", "another"),
        ("another", "right"),
        ("right", "r\N{LATIN SMALL LETTER E WITH ACUTE}"),
    ],
)
async def test_nobody_else_comes_in(
    both: tuple[School, RfbServer], certificate: tuple[Path, Path], username: str, password: str
) -> None:
    school, rfb = both
    words = {"right": await school.connected("ann"), "another": await school.connected("bob")}
    secrets = {
        "right": await school.password(),
        "another": await school.password(username="bob"),
    }
    async with knocking(school) as one:
        assert await one.begin(X509_PLAIN)
        await one.secure(certificate[0])
        one.writer.write(
            b"".join(len(part.encode()).to_bytes(4) for part in (
                words.get(username, username), secrets.get(password, password)
            ))
            + words.get(username, username).encode()
            + secrets.get(password, password).encode()
        )  # fmt: skip
        assert await one.take(4) == b"\x00\x00\x00\x01"
    assert rfb.shared is None


async def test_what_is_said_ahead_of_the_encryption_is_not_taken_for_encrypted(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    await school.connected()
    values = values_of(await school.file("vnc"))
    ahead = struct.pack(">II", len(values["username"]), len(values["password"]))
    ahead += values["username"].encode() + values["password"].encode()
    async with knocking(school) as one:
        assert not await one.begin(X509_PLAIN, ahead)
    assert rfb.shared is None


@pytest.mark.parametrize("kind", [0, 256, 258, 259, 2**32 - 1])
async def test_no_weaker_kind_is_taken(both: tuple[School, RfbServer], kind: int) -> None:
    school, _ = both
    async with knocking(school) as one:
        assert not await one.begin(kind)


async def test_whoever_speaks_no_tls_is_hung_up_on(both: tuple[School, RfbServer]) -> None:
    school, _ = both
    async with knocking(school) as one:
        assert await one.begin(X509_PLAIN)
        one.writer.write(bytes(600))
        try:
            heard = await one.reader.read()
        except ConnectionError:
            heard = b""
        assert b"RFB" not in heard


async def test_a_name_without_end_is_hung_up_on(
    both: tuple[School, RfbServer], certificate: tuple[Path, Path]
) -> None:
    school, _ = both
    async with knocking(school) as one:
        assert await one.begin(X509_PLAIN)
        await one.secure(certificate[0])
        one.writer.write(struct.pack(">II", 2**31, 2**31))
        try:
            assert await one.reader.read(1) == b""
        except ConnectionError:
            return


def test_a_certificate_and_a_key_that_do_not_fit_are_told_by_their_settings(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    assert viewer_tls(None, None) is None
    made = viewer_tls(cert, key)
    assert made is not None
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    for pair in ((cert, None), (None, key), (cert, tmp_path / "none"), (key, cert)):
        with pytest.raises(ConfigError, match="viewer_cert, viewer_key"):
            viewer_tls(*pair)
