"""VNC viewers outside the browser: a real one, and rude ones, through the relay's port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncvnc
import pytest

from broker.domain.errors import EngineError, UnavailableError
from broker.gateway.rfb import OK, VERSION, response_of
from broker.limits import VIEWER_PASS_S
from tests.support.eventually import eventually
from tests.support.rfb_server import RfbServer, colour_after
from tests.support.viewers import School, until, values_of, vnc_school

pytestmark = pytest.mark.filterwarnings(
    "ignore:TripleDES has been moved", "ignore:Single-key TripleDES"
)
"""asyncvnc still takes it from where it was, and as it was"""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign-ins are looked at often."""
    monkeypatch.setattr("broker.gateway.relay.DISPLAY_SIGN_IN_S", 0.02)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[School, RfbServer]]:
    async with vnc_school(tmp_path) as made:
        yield made


@asynccontextmanager
async def viewer(school: School, password: str) -> AsyncIterator[asyncvnc.Client]:
    """A real viewer, let in."""
    async with asyncio.timeout(60):
        async with asyncvnc.connect("127.0.0.1", school.port("vnc"), password=password) as client:
            yield client


class Raw:
    """A viewer that says what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def knocking(cls, school: School) -> AsyncIterator[Raw]:
        reader, writer = await asyncio.open_connection("127.0.0.1", school.port("vnc"))
        try:
            async with asyncio.timeout(60):
                yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def take(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, password: str) -> None:
        """Go through VNC authentication up to the response."""
        assert await self.take(12) == VERSION
        self.say(VERSION)
        assert await self.take(2) == b"\x01\x02"
        self.say(b"\x02")
        self.say(response_of(password, await self.take(16)))

    async def reason(self) -> str:
        """Why it was refused."""
        assert await self.take(4) == b"\x00\x00\x00\x01"
        reason = await self.take(int.from_bytes(await self.take(4)))
        await self.hung_up()
        return reason.decode()

    async def hung_up(self) -> None:
        try:
            assert await self.reader.read(1) == b""
        except ConnectionError:
            return


# ------------------------------------------------------------------------ a good viewer


async def test_a_viewer_sees_the_desktop_and_types_into_it(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    await school.connected()
    async with viewer(school, await school.password()) as client:
        picture = await client.screenshot()
        assert picture.shape == (200, 320, 4)
        assert tuple(picture[100, 100][:3]) == colour_after(0)
        client.keyboard.press("a")
        await eventually(lambda: rfb.keys)
        assert rfb.keys == [ord("a")]
        picture = await client.screenshot()
        assert tuple(picture[100, 100][:3]) == colour_after(1)
        assert await school.state() == "active"
    await until(lambda: _is(school, "disconnected"))
    await eventually(lambda: rfb.clients == 0)
    path = f"/sessions/{school.sessions['ann']}"
    session = (await school.app.call("GET", path, school.app.people["ann"])).json
    assert session["traffic"]["display"] > 2 * 320 * 200 * 4


async def test_only_what_the_person_does_counts_against_idle_time(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    session_id = await school.connected()
    displays = school.app.broker.displays
    async with viewer(school, await school.password()) as client:
        for _ in range(3):
            await client.screenshot()
        assert session_id not in displays._inputs
        client.keyboard.press("a")
        await eventually(lambda: rfb.keys)
        assert session_id in displays._inputs


async def _is(school: School, state: str, username: str = "ann") -> bool:
    return await school.state(username) == state


async def test_the_file_is_one_that_virt_viewer_reads_and_carries_the_password(
    both: tuple[School, RfbServer],
) -> None:
    school, _ = both
    await school.connected()
    reply = await school.file("vnc")
    assert reply.headers["Content-Type"] == "application/x-virt-viewer"
    assert reply.headers["Content-Disposition"] == 'attachment; filename="library.vv"'
    assert reply.headers["Cache-Control"] == "no-store"
    values = values_of(reply)
    assert len(values.pop("password")) == 43
    assert values == {
        "type": "vnc", "host": "127.0.0.1", "port": str(school.port("vnc")),
        "title": "Library", "delete-this-file": "1",
    }  # fmt: skip


async def test_what_the_viewer_sends_ahead_reaches_the_desktop_unchanged(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    await school.connected()
    async with Raw.knocking(school) as raw:
        await raw.answer(await school.password())
        # ClientInit and two keys, before the relay has said that it may
        raw.say(b"\x00" + b"\x04\x01\0\0\0\0\0a" + b"\x04\x01\0\0\0\0\0b")
        assert await raw.take(4) == OK
        await eventually(lambda: len(rfb.keys) == 2)
    assert rfb.keys == [ord("a"), ord("b")]
    assert rfb.shared == 0


async def test_a_viewer_that_sends_byte_by_byte_is_let_in(
    both: tuple[School, RfbServer],
) -> None:
    school, _ = both
    await school.connected()
    password = await school.password()
    async with Raw.knocking(school) as raw:
        assert await raw.take(12) == VERSION
        for byte in VERSION:
            raw.say(bytes([byte]))
            await asyncio.sleep(0)
        assert await raw.take(2) == b"\x01\x02"
        raw.say(b"\x02")
        for byte in response_of(password, await raw.take(16)):
            raw.say(bytes([byte]))
            await asyncio.sleep(0.001)
        assert await raw.take(4) == OK


# ------------------------------------------------------------------------------ passes


async def test_a_password_opens_once(both: tuple[School, RfbServer]) -> None:
    school, _ = both
    await school.connected()
    password = await school.password()
    async with viewer(school, password), Raw.knocking(school) as raw:
        await raw.answer(password)
        assert await raw.reason() == "The ticket is unknown, used or too old"


@pytest.mark.parametrize("password", ["", "wrong", "12345678", "x" * 500])
async def test_a_wrong_password_is_refused_and_does_not_spend_the_right_one(
    both: tuple[School, RfbServer], password: str
) -> None:
    school, rfb = both
    await school.connected()
    right = await school.password()
    async with Raw.knocking(school) as raw:
        await raw.answer(password)
        assert await raw.reason() == "The ticket is unknown, used or too old"
    assert rfb.shared is None
    async with viewer(school, right) as client:
        await client.screenshot()


async def test_a_host_that_does_not_answer_is_not_named(
    both: tuple[School, RfbServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    school, _ = both

    async def away(*_: object) -> None:
        raise EngineError("server-1 cannot be reached")

    await school.connected()
    monkeypatch.setattr(school.engine, "console", away)
    async with Raw.knocking(school) as raw:
        await raw.answer(await school.password())
        assert await raw.reason() == "a host cannot be reached"


async def test_a_password_gets_too_old(both: tuple[School, RfbServer]) -> None:
    school, _ = both
    await school.connected()
    password = await school.password()
    school.app.clock.shift_s += VIEWER_PASS_S + 1
    async with Raw.knocking(school) as raw:
        await raw.answer(password)
        assert "too old" in await raw.reason()
    assert school.app.services.viewers.waiting() == ()


async def test_a_password_opens_nothing_once_its_session_has_ended(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    session_id = await school.connected()
    password = await school.password()
    await school.app.call("DELETE", f"/sessions/{session_id}", school.app.people["ann"])
    async with Raw.knocking(school) as raw:
        await raw.answer(password)
        assert await raw.reason()
    assert rfb.shared is None


async def test_each_password_opens_the_session_of_its_own_person(
    both: tuple[School, RfbServer],
) -> None:
    school, _ = both
    first, second = await school.connected("ann"), await school.connected("bob")
    passwords = [await school.password(username=name) for name in ("ann", "bob")]
    async with viewer(school, passwords[1]):
        assert school.app.broker.displays.open_sessions() == (second,)
        async with viewer(school, passwords[0]):
            assert set(school.app.broker.displays.open_sessions()) == {first, second}


async def test_a_password_dies_when_the_session_moves_to_another_browser(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    await school.connected()
    password = await school.password()
    ann = await school.app.services.directory.user("ann")
    elsewhere = await school.app.signed_in(ann)
    reply = await school.app.call("POST", "/sessions", elsewhere, body={"pool": "library"})
    assert reply.status == 200
    async with Raw.knocking(school) as raw:
        await raw.answer(password)
        assert await raw.reason()
    assert rfb.shared is None


# --------------------------------------------------------------------- ends of a display


async def test_a_session_that_is_logged_off_takes_the_viewer_with_it(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    session_id = await school.connected()
    async with viewer(school, await school.password()) as client:
        await client.screenshot()
        assert school.app.broker.displays.kill(session_id)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.screenshot()
    await eventually(lambda: rfb.clients == 0)


async def test_a_viewer_that_takes_nothing_is_killed_all_the_same(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    rfb.width, rfb.height = 2000, 2000
    session_id = await school.connected()
    async with Raw.knocking(school) as raw:
        await raw.answer(await school.password())
        raw.say(b"\x01" + b"\x03\x00\0\0\0\0\x07\xd0\x07\xd0")
        assert await raw.take(4) == OK
        await eventually(lambda: rfb.shared == 1)
        await asyncio.sleep(0.3)  # its buffers fill; nobody reads
        assert school.app.broker.displays.kill(session_id)
        await eventually(lambda: rfb.clients == 0)
        await eventually(lambda: school.app.broker.displays.open_count == 0)


async def test_a_second_viewer_takes_over_from_the_first(
    both: tuple[School, RfbServer],
) -> None:
    school, rfb = both
    await school.connected()
    async with viewer(school, await school.password()) as first:
        await first.screenshot()
        async with viewer(school, await school.password()) as second:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await first.screenshot()
            await second.screenshot()
            assert await school.state() == "active"
    await eventually(lambda: rfb.clients == 0)


async def test_whoever_signs_out_loses_the_viewer(
    both: tuple[School, RfbServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    school, rfb = both
    monkeypatch.setattr("broker.gateway.relay.DISPLAY_SIGN_IN_S", 0.05)
    await school.connected()
    async with viewer(school, await school.password()) as client:
        await client.screenshot()
        await school.app.call("POST", "/auth/logout", school.app.people["ann"])
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(client.read(), 60)
    await eventually(lambda: rfb.clients == 0)


async def test_an_open_viewer_outlives_the_store_and_a_closed_port(
    both: tuple[School, RfbServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    school, rfb = both
    monkeypatch.setattr("broker.gateway.relay.DISPLAY_SIGN_IN_S", 0.02)
    looks: list[object] = []

    async def away(*asked: object) -> frozenset[str]:
        looks.append(asked)
        raise UnavailableError("the store is away")

    await school.connected()
    async with viewer(school, await school.password()) as client:
        await client.screenshot()
        port = school.port("vnc")
        credentials = school.app.services.kit.store.credentials
        monkeypatch.setattr(credentials, "signed_in", away)
        await school.app.broker.relays.shut()
        await eventually(lambda: len(looks) > 2)
        client.keyboard.press("z")
        await eventually(lambda: rfb.keys)
        await client.screenshot()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    assert (await school.file("vnc")).code == "engine.unsupported"


# --------------------------------------------------------------------- hostile desktops


@pytest.mark.parametrize(
    "types", [b"\x02", b"", b"\x10\x13"], ids=["password", "refused", "unknown"]
)
async def test_a_desktop_that_wants_a_password_is_told_to_the_viewer(
    tmp_path: Path, types: bytes
) -> None:
    async with vnc_school(tmp_path, types=types) as (school, _):
        await school.connected()
        async with Raw.knocking(school) as raw:
            await raw.answer(await school.password())
            assert await raw.reason() == "the desktop's display wants a password"


@pytest.mark.parametrize("said", [b"RFB 003.003\n", b"SSH-2.0-x\r\n\r\n\r\n", b"\x00" * 4000])
async def test_a_desktop_that_speaks_something_else_is_cut(
    tmp_path: Path, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.rfb_server.GREETING", said)
    async with vnc_school(tmp_path) as (school, _):
        await school.connected()
        async with Raw.knocking(school) as raw:
            await raw.answer(await school.password())
            assert await raw.reason() == "the desktop does not speak RFB 3.8"
        await eventually(lambda: school.app.broker.displays.open_count == 0)


async def test_a_desktop_that_says_nothing_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.rfb_server.GREETING", b"")
    monkeypatch.setattr("broker.gateway.rfb.RELAY_HANDSHAKE_S", 0.1)
    async with vnc_school(tmp_path) as (school, _):
        await school.connected()
        async with Raw.knocking(school) as raw:
            await raw.answer(await school.password())
            assert await raw.reason()


async def test_a_desktop_without_a_display_is_told_to_the_viewer(
    both: tuple[School, RfbServer],
) -> None:
    school, _ = both
    await school.connected()
    password = await school.password()
    school.engine.broken = EngineError("the desktop does not run")
    async with Raw.knocking(school) as raw:
        await raw.answer(password)
        assert await raw.reason() == "the desktop does not run"


# ----------------------------------------------------------------------- hostile viewers


@pytest.mark.parametrize(
    "said",
    [
        b"RFB 003.003\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00",
        b"\x16\x03\x01" + bytes(5000),
        VERSION + b"\x01",
        VERSION + b"\x13",
    ],
    ids=["old", "http", "rdp", "tls", "no password", "encryption"],
)
async def test_whatever_else_knocks_is_hung_up_on(
    both: tuple[School, RfbServer], said: bytes
) -> None:
    school, _ = both
    async with Raw.knocking(school) as raw:
        raw.say(said)
        heard = await _all_of(raw)
        assert heard.startswith(VERSION)
        assert len(heard) <= 14


async def _all_of(raw: Raw) -> bytes:
    heard = b""
    try:
        while more := await raw.reader.read(100):
            heard += more
    except ConnectionError:
        pass
    return heard
