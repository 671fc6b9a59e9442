"""The support staff's SSH gateway: a password, a handful of commands, nothing else.

Everything SSH could do beside that is refused: no forwarding of ports, sockets, agent or X11,
no SFTP or SCP, no shell of the machine. The algorithms are those that ssh-audit 3.9 finds no
fault with. A connection has SSH_LOGIN_S to sign in and SSH_TRIES_MAX passwords to do it with;
one source has a rate. Anything an authenticator does but answer with somebody who may read is
a refusal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import asyncssh

from broker.domain.errors import ConfigError, TriviumError
from broker.domain.model import Identity
from broker.domain.policy.sources import source_of
from broker.domain.roles import Permission, allows
from broker.gateway.sources import SourceThrottle
from broker.gateway.support import Support, SupportConsole, plain
from broker.keyfile import own_key
from broker.limits import (
    PASSWORD_CHARS_MAX,
    SSH_CHANNELS_MAX,
    SSH_CONNECTIONS_MAX,
    SSH_CONNECTIONS_PER_SOURCE_MAX,
    SSH_IDLE_S,
    SSH_LINE_CHARS_MAX,
    SSH_LOGIN_S,
    SSH_NEW_PER_SOURCE_MAX,
    SSH_NEW_WINDOW_S,
    SSH_SOURCES_MAX,
    SSH_TRIES_MAX,
)
from broker.listening import stop_listening
from broker.ports import Clock

_log = logging.getLogger(__name__)

Authenticate: TypeAlias = Callable[[str, str, str], Awaitable[Identity | None]]
"""(username, password, source address) -> who it is; None or TriviumError where it is nobody"""

KEX: Final = ("mlkem768x25519-sha256", "curve25519-sha256")
CIPHERS: Final = ("chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com")
MACS: Final = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com")
BANNER: Final = "Trivium support gateway. Type help.\n"
PROMPT: Final = "trivium> "

_WINDOW_BYTES: Final = 64 * 1024
"""input that one channel may send ahead"""
_KEEPALIVE_S: Final = 30
_KEEPALIVES_MISSED_MAX: Final = 3
_DRAIN_S: Final = 30.0
"""for a client to take one answer"""
_CLOSE_S: Final = 5.0


class SshGateway:
    """Listens from `open` to `close`. `host_key_path` is read, or made, by `open`.

    `login_s` and `new_per_source_max` are the limits of their names; only tests give others.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        host_key_path: Path,
        authenticate: Authenticate,
        support: Support,
        clock: Clock,
        login_s: float = SSH_LOGIN_S,
        new_per_source_max: int = SSH_NEW_PER_SOURCE_MAX,
    ) -> None:
        self._host = host
        self._port = port
        self._host_key_path = host_key_path
        self._authenticate = authenticate
        self._console = SupportConsole(support)
        self._login_s = login_s
        self._throttle = SourceThrottle(
            clock,
            total_max=SSH_CONNECTIONS_MAX,
            open_max=SSH_CONNECTIONS_PER_SOURCE_MAX,
            new_max=new_per_source_max,
            window_s=SSH_NEW_WINDOW_S,
            sources_max=SSH_SOURCES_MAX,
        )
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def port(self) -> int:
        """Where it listens (the system's choice where 0 was asked for); 0 when it does not."""
        return self._acceptor.get_port() if self._acceptor is not None else 0

    async def open(self) -> None:
        """Raises ConfigError for a bad host key or an address that cannot be listened on."""
        asyncssh.set_log_level(logging.WARNING)
        key = await asyncio.to_thread(own_key, self._host_key_path)
        try:
            self._acceptor = await asyncssh.create_server(
                lambda: _Connection(self._authenticate, self._throttle, self._connections),
                self._host,
                self._port,
                server_host_keys=[key],
                process_factory=self._talk,
                **_options(self._login_s),
            )
        except OSError as error:
            raise ConfigError(f"ssh_listen: cannot listen on {self._host}:{self._port}") from error

    async def close(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._acceptor is None:
            return
        # it hands everything on to asyncio's server
        await stop_listening(cast("asyncio.Server", self._acceptor))
        for connection in tuple(self._connections):
            connection.disconnect(asyncssh.DISC_BY_APPLICATION, "the broker stops")
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._acceptor.wait_closed()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
        self._acceptor = None

    async def _talk(self, process: asyncssh.SSHServerProcess[str]) -> None:
        """One session channel: one command, or line after line."""
        connection: _Connection = process.get_extra_info("trivium")
        status = 1
        connection.channels += 1
        try:
            identity = connection.identity
            if identity is None or connection.channels > SSH_CHANNELS_MAX or process.subsystem:
                await _say(process, "Refused.\n")
            elif process.command is not None:
                status = await self._answer(process, identity, process.command)
            else:
                status = await self._converse(process, identity)
        except (asyncssh.Error, OSError, TimeoutError, asyncio.IncompleteReadError):
            _log.debug("a support channel broke off")
        finally:
            connection.channels -= 1
            process.exit(status)

    async def _converse(self, process: asyncssh.SSHServerProcess[str], identity: Identity) -> int:
        channel: object = process.channel
        has_terminal = process.term_type is not None
        if has_terminal and isinstance(channel, asyncssh.SSHLineEditorChannel):
            # an interrupt drops the line; asyncssh would keep it for the next command
            channel.register_key("\x03", lambda _line, _at: ("", 0))
        await _say(process, BANNER + PROMPT)
        while True:
            try:
                async with asyncio.timeout(SSH_IDLE_S):
                    line = await process.stdin.readline()
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
                await _say(process, "\n" + PROMPT)
                continue
            except asyncssh.TerminalSizeChanged:
                continue
            except TimeoutError:
                await _say(process, "Nothing was typed for too long.\n")
                return 1
            if not line.endswith("\n"):
                if len(line) > SSH_LINE_CHARS_MAX:
                    await _say(process, "That line is too long.\n")
                    return 2
                return 0
            answer = await self._console.run(identity, line, width=_width(process))
            await _say(process, answer.text if answer.bye else answer.text + PROMPT)
            if answer.bye:
                return answer.status

    async def _answer(
        self, process: asyncssh.SSHServerProcess[str], identity: Identity, line: str
    ) -> int:
        answer = await self._console.run(identity, line, width=_width(process))
        await _say(process, answer.text)
        return answer.status


class _Connection(asyncssh.SSHServer):
    """One connection: let in by its source's rate, signed in by password."""

    def __init__(
        self,
        authenticate: Authenticate,
        throttle: SourceThrottle,
        connections: set[asyncssh.SSHServerConnection],
    ) -> None:
        self._authenticate = authenticate
        self._throttle = throttle
        self._connections = connections
        self._conn: asyncssh.SSHServerConnection | None = None
        self._address = ""
        self._entered = ""
        self._tries = 0
        self.identity: Identity | None = None
        self.channels = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        conn.set_extra_info(trivium=self)
        peer = conn.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        source = source_of(self._address)
        if not self._throttle.enter(source):
            _log.info("ssh: %s comes too often", source)
            conn.abort()
            return
        self._entered = source
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's shape
        self.identity = None
        if self._conn is not None:
            self._connections.discard(self._conn)
        if self._entered:
            self._throttle.leave(self._entered)
            self._entered = ""

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - nobody comes in without
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        self.identity = None
        self._tries += 1
        if self._tries > SSH_TRIES_MAX:
            if self._conn is not None:
                self._conn.disconnect(
                    asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many passwords"
                )
            return False
        found = await self._who(username, password)
        shown = plain(username, 64)
        if found is None or not allows(found.role, Permission.READ):
            _log.warning("ssh: sign-in of %s from %s refused", shown, self._address)
            return False
        _log.info("ssh: %s signed in from %s", shown, self._address)
        self.identity = found
        return True

    async def _who(self, username: str, password: str) -> Identity | None:
        if len(password) > PASSWORD_CHARS_MAX:
            return None
        try:
            return await self._authenticate(username, password, self._address)
        except TriviumError as error:
            _log.info("ssh: no sign-in: %s", error.code)
        except Exception:  # noqa: BLE001 - whatever it is, it is no sign-in
            _log.exception("ssh: the authenticator failed")
        return None


def _options(login_s: float) -> dict[str, Any]:
    """What asyncssh is told: everything off that is on by default and not needed."""
    return {
        "server_version": "Trivium",
        "kex_algs": list(KEX),
        "encryption_algs": list(CIPHERS),
        "mac_algs": list(MACS),
        "compression_algs": ["none"],
        "login_timeout": login_s,
        "keepalive_interval": _KEEPALIVE_S,
        "keepalive_count_max": _KEEPALIVES_MISSED_MAX,
        "password_auth": True,
        "public_key_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        "gss_host": None,
        "gss_kex": False,
        "gss_auth": False,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "allow_scp": False,
        "sftp_factory": None,
        "line_editor": True,
        "line_history": 0,
        "max_line_length": SSH_LINE_CHARS_MAX,
        "window": _WINDOW_BYTES,
        "encoding": "utf-8",
        "errors": "replace",
        "reuse_address": True,
    }


async def _say(process: asyncssh.SSHServerProcess[str], text: str) -> None:
    if text:
        process.stdout.write(text)
        async with asyncio.timeout(_DRAIN_S):
            await process.stdout.drain()


def _width(process: asyncssh.SSHServerProcess[str]) -> int:
    """Columns of the client's terminal; 120 where it has none."""
    columns = process.term_size[0] if process.term_type is not None else 0
    return columns or 120
