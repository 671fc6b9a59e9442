"""Hosts over SSH: whose key is taken, whose is not, and what a tunnel leads to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from broker.domain.errors import EngineError, HostUnreachableError
from broker.engines.reach.ssh import (
    KEY_FILE,
    SOCKETS,
    Refused,
    SshStream,
    SshTunnel,
    broker_key,
    host_key,
    public_line,
    try_socket,
)
from tests.support.eventually import eventually
from tests.support.ssh_hosts import FarHost, echoing, far_host


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory of a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="tvd-") as folder:
        yield Path(folder)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[FarHost]:
    async with far_host(tmp_path) as host:
        yield host


@pytest.fixture
async def target(data: Path) -> AsyncIterator[Path]:
    async with echoing(data / "far.sock") as path:
        yield path


@contextlib.contextmanager
def refusal(what: Refused) -> Iterator[None]:
    with pytest.raises(HostUnreachableError) as told:
        yield
    assert told.value.fields["refused"] == what


async def said_back(path: Path, text: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(text)
    async with asyncio.timeout(20):
        heard = await reader.read(100)
    writer.close()
    return heard


def test_the_brokers_key_is_made_once_and_nobody_else_may_read_it(data: Path) -> None:
    first, second = broker_key(data), broker_key(data)
    assert first.get_fingerprint() == second.get_fingerprint()
    assert stat.S_IMODE((data / KEY_FILE).stat().st_mode) == 0o600
    line = public_line(first)
    assert line.startswith('restrict,port-forwarding,command="/usr/local/bin/trivium-host" ')
    assert "PRIVATE" not in line


async def test_a_host_shows_its_key_before_anybody_signs_in(host: FarHost) -> None:
    assert await host_key(host.to_reach("")) == host.fingerprint
    assert await host_key(host.to_reach("SHA256:" + "a" * 43)) == host.fingerprint


async def test_a_tunnel_leads_to_the_socket_at_the_host(
    host: FarHost, data: Path, target: Path
) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
    await tunnel.open()
    await tunnel.open()
    assert await said_back(tunnel.path, b"hello") == b"hello"
    assert (host.asked_for, len(host.connections)) == ([str(target)], 1)
    assert stat.S_IMODE((data / SOCKETS).stat().st_mode) == 0o700
    await tunnel.close()
    assert list((data / SOCKETS).iterdir()) == []


async def test_a_host_whose_key_was_not_confirmed_or_is_another_is_not_signed_in_at(
    host: FarHost, data: Path, target: Path
) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    for fingerprint in ("", "SHA256:" + "a" * 43):
        tunnel = SshTunnel(host.to_reach(fingerprint), key, data=data, target=str(target))
        with refusal(Refused.KEY):
            await tunnel.open()
        assert not tunnel.path.exists()
    assert host.asked_for == []


async def test_a_host_that_does_not_know_the_broker_says_so(
    host: FarHost, data: Path, target: Path
) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    host.let_in(public_line(stranger))
    with refusal(Refused.SIGN_IN):
        await try_socket(host.to_reach(), broker_key(data), str(target))
    await try_socket(host.to_reach(), stranger, str(target))


async def test_a_host_without_that_socket_says_so(host: FarHost, data: Path) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    with refusal(Refused.SOCKET):
        await try_socket(host.to_reach(), key, str(data / "nothing.sock"))


async def test_keys_of_this_machines_user_are_not_offered(
    host: FarHost, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what an SSH configuration says."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    users = asyncssh.generate_private_key("ssh-ed25519")
    users.write_private_key(home / ".ssh/id_ed25519")
    (home / ".ssh/config").write_text(f"Host *\n  Port 1\n  ProxyCommand touch {home}/proxied\n")
    monkeypatch.setenv("HOME", str(home))
    host.let_in(public_line(users))
    with refusal(Refused.SIGN_IN):
        await try_socket(host.to_reach(), broker_key(data), "/nowhere")
    assert not (home / "proxied").exists()


async def test_a_tunnel_to_a_host_that_went_is_open_again_when_the_host_is_back(
    host: FarHost, data: Path, target: Path
) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
    await tunnel.open()
    await host.stop()
    await eventually(lambda: not tunnel.is_open)
    with pytest.raises(EngineError):
        await tunnel.open()
    await host.start()
    await tunnel.open()
    assert await said_back(tunnel.path, b"again") == b"again"
    await tunnel.close()


async def test_a_tunnel_that_nobody_waits_for_any_more_keeps_no_connection(
    host: FarHost, data: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
    made = asyncio.Event()

    async def hang(*_: object) -> None:
        made.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as hanging:
        hanging.setattr(asyncssh.SSHClientConnection, "forward_local_path", hang)
        opening = asyncio.create_task(tunnel.open())
        await made.wait()
        opening.cancel()
        await asyncio.wait([opening])
    [left] = host.connections
    async with asyncio.timeout(30):
        await left.wait_closed()
    await tunnel.open()
    assert await said_back(tunnel.path, b"again") == b"again"
    await tunnel.close()


async def test_a_tunnel_that_is_closed_while_it_is_opened_keeps_no_connection(
    host: FarHost, data: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
    forward = asyncssh.SSHClientConnection.forward_local_path

    async def closed_meanwhile(*told: Any) -> None:
        await tunnel.close()
        await forward(*told)

    monkeypatch.setattr(asyncssh.SSHClientConnection, "forward_local_path", closed_meanwhile)
    with pytest.raises(EngineError, match="not spoken to"):
        await tunnel.open()
    [left] = host.connections
    async with asyncio.timeout(30):
        await left.wait_closed()


async def test_sockets_that_a_killed_broker_left_are_removed_and_others_stay(
    host: FarHost, data: Path, target: Path
) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    (data / SOCKETS).mkdir(mode=0o755)
    left = data / SOCKETS / "1-left.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left))
    other = SshTunnel(host.to_reach(), key, data=data, target=str(target))
    await other.open()
    tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
    await tunnel.open()
    assert not left.exists()
    assert await said_back(other.path, b"still") == b"still"
    assert stat.S_IMODE((data / SOCKETS).stat().st_mode) == 0o700
    for one in (tunnel, other):
        await one.close()


def test_a_data_directory_of_too_long_a_path_is_told(data: Path, host_free: FarHost) -> None:
    with pytest.raises(EngineError, match="too long"):
        SshTunnel(host_free.to_reach("x"), broker_key(data), data=data / ("x" * 120), target="/x")


@pytest.fixture
def host_free(tmp_path: Path) -> FarHost:
    """A host that nothing reaches."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    return FarHost(key=key, authorized=tmp_path / "none", port=9)


async def test_other_sockets_are_reached_over_the_same_connection(
    host: FarHost, data: Path, target: Path
) -> None:
    key = broker_key(data)
    host.let_in(public_line(key))
    tunnel = SshTunnel(host.to_reach(), key, data=data, target=str(target))
    with refusal(Refused.NETWORK):
        await tunnel.stream(str(target))
    await tunnel.open()
    async with echoing(data / "display.sock") as display:
        streams = [await tunnel.stream(str(display)) for _ in range(3)]
        with refusal(Refused.SOCKET):
            await tunnel.stream(str(data / "nobody.sock"))
        for number, stream in enumerate(streams):
            stream.write(b"picture %d" % number)
            await stream.drain()
            async with asyncio.timeout(30):
                assert await stream.read(100) == b"picture %d" % number
        assert len(host.connections) == 1
        first, second, third = streams
        first.abort()
        await first.wait_closed()
        # that one was given up takes nothing from the others
        second.write(b"still here")
        async with asyncio.timeout(30):
            assert await second.read(100) == b"still here"
        await tunnel.close()
        for stream in (second, third):
            with pytest.raises(ConnectionError):
                await until_lost(stream)
        with refusal(Refused.NETWORK):
            await tunnel.stream(str(display))


async def until_lost(stream: SshStream) -> None:
    async with asyncio.timeout(30):
        while True:
            stream.write(b"anybody?")
            await stream.drain()
            await asyncio.sleep(0.01)
