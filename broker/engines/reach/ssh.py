"""Hosts over SSH: the broker's own key, a host key that somebody confirmed, one socket forwarded.

No program of the broker's machine is run, and nothing is read of what its user keeps for SSH:
no configuration, no known hosts, no agent, no keys but the broker's. Passwords are never sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import asyncssh

from broker.domain.errors import EngineError, HostUnreachableError
from broker.engines.reach.commands import Command, Said
from broker.keyfile import own_key
from broker.limits import HOST_COMMAND_S, HOST_SAID_BYTES_MAX, SSH_LOGIN_S

KEY_FILE: Final = "hypervisor_key"
DOOR: Final = "/usr/local/bin/trivium-host"
"""what runs a host's commands; where there is no such file, nothing is run"""
SOCKETS: Final = "reach"
"""folder of the data directory for the sockets that lead to hosts"""
_SOCKET_PATH_MAX: Final = 100
"""bytes of a unix socket's path, a little less than Linux takes"""
_KEEPALIVE_S: Final = 5
_KEEPALIVES_MISSED_MAX: Final = 4
_CLOSE_S: Final = 5.0
_log = logging.getLogger("trivium.reach")


class Refused(StrEnum):
    """What of reaching a host failed: the network, or SSH itself; the host's key is not the one
    that was confirmed; the host does not let the broker's key in, or not to the socket, or runs
    nothing for it."""

    NETWORK = "network"
    KEY = "key"
    SIGN_IN = "sign_in"
    SOCKET = "socket"
    COMMAND = "command"


def unreachable(refused: Refused, detail: str) -> HostUnreachableError:
    return HostUnreachableError(detail, fields={"refused": refused.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class SshHost:
    """fingerprint: of the host's key, as SHA256:…; empty: nobody has confirmed one yet."""

    name: str
    host: str
    port: int
    user: str
    fingerprint: str


def broker_key(data: Path) -> asyncssh.SSHKey:
    """The key that the broker signs in at hosts with; made at the first use. Raises ConfigError."""
    return own_key(data / KEY_FILE)


def public_line(key: asyncssh.SSHKey) -> str:
    """What an administrator puts into a host's authorized_keys: it may forward, and have run what
    the administrator's own program there lets through."""
    key.set_comment("trivium")
    line = key.export_public_key().decode().strip()
    return f'restrict,port-forwarding,command="{DOOR}" {line}'


async def host_key(host: SshHost) -> str:
    """The fingerprint of the key that the host shows. Raises EngineError."""
    shown = _Watcher(host)
    with _telling(host):
        try:
            async with asyncio.timeout(SSH_LOGIN_S):
                await asyncssh.connect(
                    host.host, host.port, client_factory=lambda: shown, client_keys=None,
                    **_options(host.user),
                )  # fmt: skip
        except (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied):
            pass
    if not shown.fingerprint:
        raise EngineError(f"{host.name} showed no key")
    return shown.fingerprint


async def try_socket(host: SshHost, key: asyncssh.SSHKey, target: str) -> None:
    """Sign in, reach the socket `target` at the host, and hang up.

    Raises:
        HostUnreachableError: it says what was refused.
    """
    connection = await _connect(host, key)
    try:
        async with asyncio.timeout(SSH_LOGIN_S):
            _, writer = await connection.open_unix_connection(target)
            writer.close()
    except (asyncssh.ChannelOpenError, TimeoutError):
        raise unreachable(
            Refused.SOCKET, f"{host.name} does not lead the broker to {target}"
        ) from None
    finally:
        await _hang_up(connection)


async def _hang_up(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    with contextlib.suppress(TimeoutError, asyncssh.Error, OSError):
        async with asyncio.timeout(_CLOSE_S):
            await connection.wait_closed()


async def _connect(host: SshHost, key: asyncssh.SSHKey) -> asyncssh.SSHClientConnection:
    if not host.fingerprint:
        raise unreachable(Refused.KEY, f"nobody has confirmed the key of {host.name} yet")
    with _telling(host):
        async with asyncio.timeout(SSH_LOGIN_S):
            return await asyncssh.connect(
                host.host, host.port, client_factory=lambda: _Watcher(host), client_keys=[key],
                keepalive_interval=_KEEPALIVE_S, keepalive_count_max=_KEEPALIVES_MISSED_MAX,
                **_options(host.user),
            )  # fmt: skip


class SshStream:
    """Bytes both ways to something at a host; a way that was lost is a ConnectionError. What was
    not read yet is held back at the host, past the channel's window (asyncssh's: 2 MiB)."""

    def __init__(
        self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]
    ) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, most: int) -> bytes:
        """b"" when the other side ended it."""
        with _lost():
            return await self._reader.read(most)

    def write(self, data: bytes) -> None:
        with _lost():
            self._writer.write(data)

    async def drain(self) -> None:
        with _lost():
            await self._writer.drain()

    def abort(self) -> None:
        self._writer.channel.abort()

    async def wait_closed(self) -> None:
        with _lost():
            await self._writer.wait_closed()


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except asyncssh.Error as error:
        raise ConnectionResetError("the way there was lost") from error


class SshTunnel:
    """A socket of the broker's machine that leads to one of a host. One loop uses it.

    `path` is the socket; whoever connects there reaches `target`, at the host, while the tunnel
    is open.
    """

    def __init__(self, host: SshHost, key: asyncssh.SSHKey, *, data: Path, target: str) -> None:
        """Raises EngineError for a data directory whose sockets would have too long a path."""
        self._host = host
        self._key = key
        self._target = target
        mark = sha256(f"{host}|{target}|{id(self)}".encode()).hexdigest()[:8]
        self.path = data.absolute() / SOCKETS / f"{os.getpid()}-{mark}.sock"
        if len(str(self.path).encode()) > _SOCKET_PATH_MAX:
            raise EngineError("the data directory's path is too long for sockets")
        self._connection: asyncssh.SSHClientConnection | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def open(self) -> None:
        """Have it open; nothing is done where it is. Raises EngineError."""
        async with self._lock:
            if self.is_open:
                return
            connection = await _connect(self._host, self._key)
            try:
                await asyncio.to_thread(self._make_way)
                await connection.forward_local_path(str(self.path), self._target)
            except BaseException as error:
                connection.abort()
                if not isinstance(error, (OSError, asyncssh.Error)):
                    raise
                text = f"no socket could be made that leads to {self._host.name}"
                raise EngineError(text) from error
            if self._closed:
                connection.abort()
                raise EngineError(f"{self._host.name} is not spoken to any more")
            self._connection = connection

    async def stream(self, target: str) -> SshStream:
        """To another socket at the host, by its path there, over the same connection. Raises
        HostUnreachableError."""
        if self._connection is None or self._connection.is_closed():
            raise unreachable(Refused.NETWORK, f"{self._host.name} is not reached just now")
        try:
            async with asyncio.timeout(SSH_LOGIN_S):
                reader, writer = await self._connection.open_unix_connection(target)
        except (OSError, asyncssh.Error, TimeoutError):
            text = f"{self._host.name} does not lead the broker to {target}"
            raise unreachable(Refused.SOCKET, text) from None
        return SshStream(reader, writer)

    async def run(self, command: Command) -> Said:
        """Have it run at the host, over the same connection. Raises HostUnreachableError;
        EngineError for one that says too much or takes too long."""
        if self._connection is None or self._connection.is_closed():
            raise unreachable(Refused.NETWORK, f"{self._host.name} is not reached just now")
        try:
            async with asyncio.timeout(HOST_COMMAND_S):
                process = await self._connection.create_process(
                    command.value, encoding=None, stdin=asyncssh.DEVNULL, stderr=asyncssh.DEVNULL
                )
                try:
                    said = await _all_of(process.stdout)
                    await process.wait_closed()
                finally:
                    process.channel.abort()
        except (asyncssh.ChannelOpenError, asyncssh.ProcessError):
            text = f"{self._host.name} runs nothing for the broker"
            raise unreachable(Refused.COMMAND, text) from None
        except (OSError, asyncssh.Error):
            return Said(status=None, text="")
        except TimeoutError:
            raise EngineError(f"{self._host.name} did not do in time what it was told") from None
        if len(said) > HOST_SAID_BYTES_MAX:
            raise EngineError(f"{self._host.name} said more than is taken")
        return Said(status=process.exit_status, text=said.decode("ascii", "replace"))

    def _make_way(self) -> None:
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        for path in folder.glob("*.sock"):
            if path == self.path or not _is_listened_to(path):
                path.unlink(missing_ok=True)

    async def close(self) -> None:
        """For good: one that is being opened is closed at its end."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await _hang_up(connection)
        await asyncio.to_thread(self.path.unlink, missing_ok=True)


async def _all_of(reader: asyncssh.SSHReader[bytes]) -> bytes:
    """Up to its end, or a byte more than is taken."""
    said = b""
    while len(said) <= HOST_SAID_BYTES_MAX:
        more = await reader.read(HOST_SAID_BYTES_MAX + 1 - len(said))
        if not more:
            break
        said += more
    return said


def _is_listened_to(path: Path) -> bool:
    """Whether a process has the socket; one that was killed leaves the file."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(_CLOSE_S)
        try:
            one.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


class _Watcher(asyncssh.SSHClient):
    """Looks at the host's key: the one that was confirmed, and no other, is let through."""

    def __init__(self, host: SshHost) -> None:
        self._wanted = host.fingerprint
        self.fingerprint = ""

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        del host, addr, port
        self.fingerprint = key.get_fingerprint("sha256")
        return hmac.compare_digest(self.fingerprint, self._wanted)


def _options(user: str) -> dict[str, Any]:
    """What asyncssh is told: nothing of this machine's user, no way in but the broker's key."""
    return {
        "username": user or "root",
        "config": None,
        # nobody is known beforehand, so every key is shown to the watcher
        "known_hosts": ([], [], []),
        "agent_path": None,
        "preferred_auth": "publickey",
        "password_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        "gss_host": None,
        "gss_kex": False,
        "gss_auth": False,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "compression_algs": ["none"],
        "x509_trusted_certs": None,
        "login_timeout": SSH_LOGIN_S,
        "client_version": "Trivium",
    }


@contextlib.contextmanager
def _telling(host: SshHost) -> Iterator[None]:
    """Raises HostUnreachableError that says what of reaching the host failed."""
    try:
        yield
    except asyncssh.HostKeyNotVerifiable:
        raise unreachable(
            Refused.KEY, f"the key of {host.name} is not the one that was confirmed"
        ) from None
    except asyncssh.PermissionDenied:
        raise unreachable(
            Refused.SIGN_IN, f"{host.name} does not let the broker's key in"
        ) from None
    except (OSError, TimeoutError, asyncssh.Error) as error:
        _log.info("%s was not reached over SSH: %s", host.name, error)
        text = f"{host.name} was not reached over SSH"
        raise unreachable(Refused.NETWORK, text) from None
