"""The support staff's SSH gateway, with a real client and with rude ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_USERAUTH_SUCCESS

from broker.domain.errors import ConfigError
from broker.domain.model import Role
from broker.gateway.ssh import BANNER, CIPHERS, KEX, MACS, SshGateway
from broker.limits import (
    SSH_CONNECTIONS_PER_SOURCE_MAX,
    SSH_LINE_CHARS_MAX,
    SSH_TRIES_MAX,
)
from broker.system import SystemClock
from tests.support.eventually import eventually
from tests.support.staff import PHRASE, FakeStaff

DENIED = (asyncssh.PermissionDenied, asyncssh.ConnectionLost, asyncssh.DisconnectError)


@asynccontextmanager
async def opened(staff: FakeStaff, path: Path, **limits: Any) -> AsyncIterator[SshGateway]:
    limits = {"new_per_source_max": 1000} | limits
    gateway = SshGateway(
        host="127.0.0.1", port=0, host_key_path=path / "ssh_host_key",
        authenticate=staff.authenticate, support=staff, clock=SystemClock(), **limits,
    )  # fmt: skip
    await gateway.open()
    try:
        yield gateway
    finally:
        await gateway.close()


@pytest.fixture
def staff() -> FakeStaff:
    return FakeStaff()


@pytest.fixture
async def gateway(staff: FakeStaff, tmp_path: Path) -> AsyncIterator[SshGateway]:
    async with opened(staff, tmp_path) as one:
        yield one


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """asyncssh's client side logs what these tests provoke."""
    asyncssh.set_log_level(logging.CRITICAL)
    yield
    asyncssh.set_log_level(logging.WARNING)


def dial(gateway: SshGateway, username: str = "olga", **options: Any) -> Any:
    chosen = {
        "username": username, "password": PHRASE, "known_hosts": None, "client_keys": None,
        "config": None, "agent_path": None, "preferred_auth": "password",
    } | options  # fmt: skip
    return asyncssh.connect("127.0.0.1", gateway.port, **chosen)


# ------------------------------------------------------------------------------- signing in


async def test_staff_sign_in_by_password_and_the_source_is_known(
    gateway: SshGateway, staff: FakeStaff
) -> None:
    async with dial(gateway) as connection:
        found = await connection.run("whoami")
    assert found.stdout == "olga, operator\n"
    assert found.exit_status == 0
    assert staff.tries == [("olga", PHRASE, "127.0.0.1")]


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("olga", "wrong"),
        ("olga", ""),
        ("olga", "x" * 5000),
        ("nobody", PHRASE),
        ("uwe", PHRASE),
        ("hasty", PHRASE),
        ("broken", PHRASE),
        ("", PHRASE),
    ],
)
async def test_everybody_else_is_refused(gateway: SshGateway, username: str, password: str) -> None:
    with pytest.raises(DENIED):
        await dial(gateway, username, password=password)


async def test_nothing_but_a_password_is_offered(gateway: SshGateway) -> None:
    methods = await asyncssh.get_server_auth_methods("127.0.0.1", gateway.port, username="olga")
    assert methods == ["password"]
    key = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(DENIED):
        await dial(gateway, password=None, client_keys=[key], preferred_auth="publickey")


class Guesser(asyncssh.SSHClient):
    """Goes on guessing as long as it is asked, and counts."""

    def __init__(self) -> None:
        self.tries = 0

    def password_auth_requested(self) -> str | None:
        self.tries += 1
        return f"guess {self.tries}" if self.tries < 50 else None


async def test_one_connection_has_few_tries(gateway: SshGateway, staff: FakeStaff) -> None:
    with pytest.raises(DENIED):
        await dial(gateway, password=None, client_factory=Guesser)
    assert len(staff.tries) == SSH_TRIES_MAX


async def test_requests_before_the_sign_in_do_nothing(
    gateway: SshGateway, staff: FakeStaff
) -> None:
    staff.hold.clear()
    async with asyncio.TaskGroup() as group:
        signing_in = group.create_task(_outcome(dial(gateway)))
        await eventually(lambda: staff.tries)
        (server,) = gateway._connections
        assert not signing_in.done()
        # the client has not been let in: its identity is nobody's
        assert server.get_extra_info("trivium").identity is None
        staff.hold.set()
    connection = signing_in.result()
    assert isinstance(connection, asyncssh.SSHClientConnection)
    connection.close()
    await connection.wait_closed()


async def _outcome(work: Any) -> object:
    try:
        return await work
    except DENIED as error:
        return error


# -------------------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("line", "shows", "status"),
    [
        ("overview", "desktops", 0),
        ("sessions wang", "ses_1", 0),
        ("session ses_1", "wang.fang", 0),
        ("end ses_1", "ending", 0),
        ("desktops", "library-001", 0),
        ("endpoints", "LAB-01", 0),
        ("hosts", "server-1", 0),
        ("why ses_1", "it was free", 0),
        ("why host server-1", "server-1 has room", 0),
        ("message ses_1 'save now'", "(olga, 0 s ago)", 0),
        ("extend ses_1 30", "in 2 h", 0),
        ("lock ses_1", "ses_1", 0),
        ("lock", "Usage:", 2),
        ("extend ses_1 0", "Usage:", 2),
        ("preview uwe", "for teachers", 0),
        ("help", "log a session off", 0),
        ("exit", "", 0),
        ("session ses_404", "resource.not_found", 1),
        ("bash -i", "There is no command", 2),
        ("whoami; id", "There is no command", 2),
        ("/bin/sh", "There is no command", 2),
    ],
)
async def test_one_command_may_be_run_directly(
    gateway: SshGateway, line: str, shows: str, status: int
) -> None:
    async with dial(gateway) as connection:
        found = await connection.run(line)
    assert shows in found.stdout
    assert found.exit_status == status
    assert found.stderr == ""


async def test_an_auditor_sees_but_does_not_end(gateway: SshGateway, staff: FakeStaff) -> None:
    async with dial(gateway, "adam") as connection:
        assert "ses_1" in (await connection.run("sessions")).stdout
        assert (await connection.run("preview uwe")).exit_status == 0
        for line in ("end ses_1", "message ses_1 hello", "extend ses_1 5", "lock ses_1"):
            refused = await connection.run(line)
            assert "auth.forbidden" in refused.stdout
            assert refused.exit_status == 1
    assert (staff.ended, staff.told, staff.extended, staff.locked) == ([], [], [], [])


async def converse(connection: Any, typed: str, **options: Any) -> str:
    async with connection.create_process(**options) as process:
        process.stdin.write(typed)
        if not options.get("term_type"):
            process.stdin.write_eof()
        async with asyncio.timeout(30):
            return str(await process.stdout.read())


async def test_lines_are_answered_one_after_the_other_until_exit(gateway: SshGateway) -> None:
    async with dial(gateway) as connection:
        text = await converse(connection, "whoami\n\nsessions\nexit\nwhoami\n")
    assert text.startswith(BANNER)
    assert text.count("olga, operator") == 1
    assert "wang.fang" in text


async def test_a_terminal_has_its_lines_edited_and_nothing_more(gateway: SshGateway) -> None:
    async with dial(gateway) as connection:
        text = await converse(
            connection, "whoamx\x7fi\rexit\r", term_type="xterm", term_size=(100, 30)
        )
    assert "olga, operator\r\n" in text


async def test_an_interrupt_drops_the_line_and_goes_on(gateway: SshGateway) -> None:
    async with dial(gateway) as connection:
        text = await converse(connection, "end ses\x03whoami\rexit\r", term_type="xterm")
    assert "olga, operator" in text


async def test_a_line_without_an_end_is_refused(gateway: SshGateway, staff: FakeStaff) -> None:
    async with dial(gateway) as connection:
        text = await converse(connection, "sessions " + "x" * (SSH_LINE_CHARS_MAX * 4))
    assert "too long" in text


async def test_what_is_not_utf8_is_no_command_and_no_end(gateway: SshGateway) -> None:
    async with dial(gateway) as connection:
        process = await connection.create_process(encoding=None)
        process.stdin.write(b"\xff\xfe\x00\x1b[A\nwhoami\nexit\n")
        process.stdin.write_eof()
        async with asyncio.timeout(30):
            text = await process.stdout.read()
    assert b"There is no command" in text
    assert b"olga, operator" in text
    assert b"\x1b" not in text


async def test_a_person_signed_out_meanwhile_is_hung_up_on(
    gateway: SshGateway, staff: FakeStaff
) -> None:
    async with dial(gateway) as connection:
        staff.gone.add("olga")
        text = await converse(connection, "sessions\nwhoami\n")
    assert "You are signed out." in text
    assert "wang.fang" not in text
    assert "olga, operator" not in text


async def test_one_connection_holds_a_bounded_number_of_conversations(
    gateway: SshGateway,
) -> None:
    async with dial(gateway) as connection:
        held = [await connection.create_process() for _ in range(4)]
        refused = await connection.run("whoami")
        assert refused.exit_status == 1
        assert refused.stdout == "Refused.\n"
        for process in held:
            process.stdin.write_eof()
            await process.wait()
        assert (await connection.run("whoami")).exit_status == 0


# ------------------------------------------------------------------------- what is not there


async def test_no_forwarding_of_any_kind(gateway: SshGateway, tmp_path: Path) -> None:
    async with dial(gateway) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", gateway.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_unix_connection(str(tmp_path / "socket"))
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("", 0, "127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_path(str(tmp_path / "s"), str(tmp_path / "t"))
        assert (await connection.run("whoami")).exit_status == 0


async def test_no_files_and_no_subsystems(gateway: SshGateway, tmp_path: Path) -> None:
    async with dial(gateway) as connection:
        with pytest.raises((asyncssh.Error, OSError)):
            await connection.start_sftp_client()
        found = await connection.run("scp -t /tmp")
        assert found.exit_status == 2
        refused = await connection.run(subsystem="shell")
        assert (refused.stdout, refused.exit_status) == ("Refused.\n", 1)


async def test_no_agent_and_no_x11(gateway: SshGateway) -> None:
    async with dial(gateway) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process(x11_forwarding=True, x11_display=":7")
        (server,) = gateway._connections
        assert not server._agent_forwarding


@pytest.mark.parametrize(
    "weak",
    [
        {"kex_algs": ["diffie-hellman-group14-sha1", "ecdh-sha2-nistp256"]},
        {"encryption_algs": ["aes128-cbc", "3des-cbc", "aes128-ctr"]},
        {"mac_algs": ["hmac-sha1", "hmac-sha2-256"], "encryption_algs": ["aes256-ctr"]},
        {"server_host_key_algs": ["ssh-rsa", "ecdsa-sha2-nistp256"]},
        {"compression_algs": ["zlib@openssh.com"]},
    ],
)
async def test_weak_algorithms_find_no_match(gateway: SshGateway, weak: dict[str, Any]) -> None:
    with pytest.raises((asyncssh.KeyExchangeFailed, asyncssh.DisconnectError)):
        await dial(gateway, **weak)


async def test_the_strong_ones_are_offered_and_nothing_else(gateway: SshGateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(30):
        version = await reader.readline()
        writer.write(b"SSH-2.0-probe\r\n")
        size = int.from_bytes(await reader.readexactly(4))
        packet = await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()
    assert version == b"SSH-2.0-Trivium\r\n"
    lists, at = [], 1 + 1 + 16
    for _ in range(10):
        length = int.from_bytes(packet[at : at + 4])
        lists.append(packet[at + 4 : at + 4 + length].decode().split(","))
        at += 4 + length
    kex, keys, *both_ways = lists
    assert set(kex) - {"ext-info-s", "kex-strict-s-v00@openssh.com"} == set(KEX)
    assert "kex-strict-s-v00@openssh.com" in kex
    assert keys == ["ssh-ed25519"]
    assert both_ways[:6] == [list(CIPHERS)] * 2 + [list(MACS)] * 2 + [["none"]] * 2


async def test_a_client_of_today_gets_the_first_choice(gateway: SshGateway) -> None:
    async with dial(gateway) as connection:
        for way in ("send", "recv"):
            assert connection.get_extra_info(f"{way}_cipher") == CIPHERS[0]
            assert connection.get_extra_info(f"{way}_compression") == "none"


# -------------------------------------------------------------------------------- rude ones


async def test_a_silent_client_is_hung_up_on(staff: FakeStaff, tmp_path: Path) -> None:
    async with opened(staff, tmp_path, login_s=0.3) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        async with asyncio.timeout(30):
            await reader.read()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, b"SSH-2.0-x\r\n" + b"\xff" * 5000,
     b"SSH-1.5-old\r\n", b"x" * 100_000],
)  # fmt: skip
async def test_garbage_is_hung_up_on_and_the_gateway_goes_on(
    staff: FakeStaff, tmp_path: Path, garbage: bytes
) -> None:
    async with opened(staff, tmp_path, login_s=0.5) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(garbage)
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        async with dial(gateway) as connection:
            assert (await connection.run("whoami")).exit_status == 0
    assert [name for name, _, _ in staff.tries] == ["olga"]


async def test_success_told_by_the_client_lets_nobody_in(
    gateway: SshGateway, staff: FakeStaff
) -> None:
    """An unauthenticated peer that claims what only a server may say is thrown out."""

    class Liar(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            self.conn = conn

        def password_auth_requested(self) -> str:
            self.conn.send_packet(MSG_USERAUTH_SUCCESS)
            return "wrong"

    with pytest.raises((*DENIED, asyncssh.ProtocolError)):
        await dial(gateway, password=None, client_factory=Liar)
    await eventually(lambda: not gateway._connections)
    assert staff.ended == []


async def test_one_source_may_not_come_too_often(staff: FakeStaff, tmp_path: Path) -> None:
    async with opened(staff, tmp_path, new_per_source_max=3) as gateway:
        outcomes = []
        for _ in range(6):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            async with asyncio.timeout(30):
                try:
                    outcomes.append(bool(await reader.read(3)))
                except ConnectionError:
                    outcomes.append(False)
            writer.close()
        assert outcomes[:3] == [True] * 3
        assert outcomes[3:] == [False] * 3


async def test_one_source_holds_a_bounded_number_of_connections(
    staff: FakeStaff, tmp_path: Path
) -> None:
    async with opened(staff, tmp_path) as gateway:
        held = [await dial(gateway) for _ in range(SSH_CONNECTIONS_PER_SOURCE_MAX)]
        with pytest.raises((*DENIED, ConnectionError)):
            await dial(gateway)
        held[0].close()
        await held[0].wait_closed()
        await eventually(lambda: len(gateway._connections) < SSH_CONNECTIONS_PER_SOURCE_MAX)
        async with dial(gateway) as again:
            assert (await again.run("whoami")).exit_status == 0
        for connection in held[1:]:
            connection.close()
            await connection.wait_closed()


async def test_closing_the_gateway_hangs_up_on_everybody(staff: FakeStaff, tmp_path: Path) -> None:
    async with opened(staff, tmp_path) as gateway:
        port = gateway.port
        connection = await dial(gateway)
        process = await connection.create_process()
        await gateway.close()
        async with asyncio.timeout(30):
            await connection.wait_closed()
            await process.stdout.read()
        assert gateway.port == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


# ------------------------------------------------------------------------------ and its edges


async def test_an_address_that_is_taken_is_a_matter_of_configuration(
    gateway: SshGateway, staff: FakeStaff, tmp_path: Path
) -> None:
    other = SshGateway(
        host="127.0.0.1", port=gateway.port, host_key_path=tmp_path / "other",
        authenticate=staff.authenticate, support=staff, clock=SystemClock(),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="cannot listen"):
        await other.open()


async def test_a_role_taken_away_counts_at_the_next_command(
    gateway: SshGateway, staff: FakeStaff
) -> None:
    async with dial(gateway) as connection:
        staff.people["olga"] = Role.AUDITOR
        refused = await connection.run("end ses_1")
    assert refused.exit_status == 1
    assert staff.ended == []
