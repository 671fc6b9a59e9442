"""A machine that is reached over SSH: an asyncssh server that forwards to its sockets, as sshd
does, for whoever it has the key of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from broker.engines.reach.ssh import SshHost


class _Server(asyncssh.SSHServer):
    def __init__(self, host: FarHost) -> None:
        self._host = host

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._host.connections.append(conn)
        self._conn = conn

    def begin_auth(self, username: str) -> bool:
        if self._host.authorized.read_text():
            self._conn.set_authorized_keys(str(self._host.authorized))
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def unix_connection_requested(self, dest_path: str) -> Any:
        self._host.asked_for.append(dest_path)
        inside = self._host.root / dest_path.lstrip("/")
        if inside.exists():
            return self._conn.forward_unix_connection(str(inside))
        return True


@dataclass(slots=True)
class FarHost:
    """`key`: its own. `asked_for`: sockets that were asked for. `connections`: all there were.
    `root`: of its file system, as far as that is not this machine's own. `told`: commands that it
    was to run. `obeys`: what becomes of one, as its status and what it says; None: there is no such
    program as its authorized_keys name."""

    key: asyncssh.SSHKey
    authorized: Path
    asked_for: list[str] = field(default_factory=list)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    _acceptor: asyncssh.SSHAcceptor | None = None
    port: int = 0
    root: Path = Path("/")
    told: list[str] = field(default_factory=list)
    obeys: Callable[[str], Awaitable[tuple[int, bytes]]] | None = None

    @property
    def fingerprint(self) -> str:
        return self.key.get_fingerprint("sha256")

    def to_reach(self, fingerprint: str | None = None) -> SshHost:
        return SshHost(
            name="server-7", host="127.0.0.1", port=self.port, user="trivium",
            fingerprint=self.fingerprint if fingerprint is None else fingerprint,
        )  # fmt: skip

    def let_in(self, line: str) -> None:
        """A line of authorized_keys. The server here forgets what was asked for where the line
        names a program, so that is done by `obeys`, which is what that program does."""
        self.authorized.write_text(re.sub(r',command="[^"]*"', "", line) + "\n")

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        self.told.append(command)
        status, said = (127, b"") if self.obeys is None else await self.obeys(command)
        process.stdout.write(said)
        process.exit(status)

    async def start(self) -> None:
        self._acceptor = await asyncssh.create_server(
            lambda: _Server(self), "127.0.0.1", self.port, server_host_keys=[self.key],
            password_auth=False, allow_scp=False, process_factory=self._run, encoding=None,
        )  # fmt: skip
        self.port = self._acceptor.get_port()

    async def stop(self) -> None:
        """As when it goes off: nobody is told."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()
            for connection in self.connections:
                connection.abort()
            self.connections.clear()
            await acceptor.wait_closed()


@asynccontextmanager
async def far_host(folder: Path) -> AsyncIterator[FarHost]:
    authorized = folder / "authorized_keys"
    authorized.write_text("")
    host = FarHost(key=asyncssh.generate_private_key("ssh-ed25519"), authorized=authorized)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@asynccontextmanager
async def echoing(path: Path) -> AsyncIterator[Path]:
    """A socket that answers with what it is sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(echo, path):
        yield path
