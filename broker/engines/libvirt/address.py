"""A daemon's libvirt address, and which ways of reaching one are taken.

Libvirt's own ways over SSH (ssh, libssh, libssh2) are never used: they run a program, or take
keys and known hosts from files, as parts of the address say. An address with `+ssh` is reached
by the broker's own tunnel (broker/engines/reach), and libvirt is given the tunnel's socket.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from broker.domain.errors import EngineError
from broker.engines.libvirt.kinds import Kind

HOST_KEY: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
"""a host key's fingerprint, as ssh-keygen shows it"""
TLS_PORT: Final = 16514
TCP_PORT: Final = 16509
SSH_PORT: Final = 22
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_PATH: Final = re.compile(r"/[A-Za-z0-9._/-]{0,200}")
_OPTIONS: Final = frozenset({"socket", "mode"})
"""of an address; the others name programs or files, or turn checks off"""


class Transport(StrEnum):
    """How a daemon is reached. DIRECT: libvirt's driver speaks to the hypervisor itself."""

    UNIX = "unix"
    TLS = "tls"
    TCP = "tcp"
    SSH = "ssh"
    DIRECT = "direct"


_PORTS: Final = {Transport.TLS: TLS_PORT, Transport.TCP: TCP_PORT, Transport.SSH: SSH_PORT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What an address says. port: 0 where there is none. socket: the daemon's, at its host."""

    uri: str
    driver: str
    transport: Transport
    host: str = ""
    port: int = 0
    user: str = ""
    path: str = "/system"
    socket: str = ""

    @property
    def place(self) -> str:
        """Which daemon it leads to, however the address is written. Whoever signs in at a host
        reaches the same system's daemon, but a session's is his own."""
        user = f"{self.user}@" if self.user and self.path == "/session" else ""
        where = f"{user}{self.host.lower()}:{self.port}" if self.host else ""
        socket = f"?socket={self.socket}" if self.socket else ""
        return f"{self.driver}+{self.transport}://{where}{self.path}{socket}"

    def through(self, socket: str) -> str:
        """The address of the same daemon through a socket on the broker's machine."""
        return f"{self.driver}+unix://{self.path}?socket={quote(socket, safe='/')}"

    def with_pki(self, folder: str) -> str:
        """The address with the folder of the certificates to use."""
        return f"{self.uri}?pkipath={quote(folder, safe='/')}"


def parse_address(text: str, kind: Kind, *, plain: bool) -> Address:
    """What the address says.

    Raises:
        EngineError: it is of another kind of hypervisor, or reaches it in a way that is not taken.
    """
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        host, port, user = parts.hostname or "", parts.port or 0, parts.username or ""
    except ValueError:
        raise EngineError("knob uri: not an address") from None
    driver, _, way = parts.scheme.partition("+")
    if driver not in kind.drivers or parts.password is not None or parts.fragment:
        raise EngineError(f"knob uri: not a libvirt address of {kind.name}")
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise EngineError(f"knob uri: {', '.join(sorted(unknown))} is not taken in an address")
    transport = _transport(way, host, kind)
    address = Address(
        uri=text,
        driver=driver,
        transport=transport,
        host=_checked(host, _NAME, "host"),
        port=port or _PORTS.get(transport, 0),
        user=_checked(user, _USER, "user name"),
        path=parts.path or "/system",
        socket=_checked(options.get("socket", ""), _PATH, "socket") or kind.socket,
    )
    _check_way(address, options, plain=plain)
    # another path of the test driver's would be a file of the broker's machine
    known = {"/default"} if kind.name == "test" else {"/system", "/session"}
    if not kind.refuses and address.path not in known:
        raise EngineError(f"knob uri: the path is one of {', '.join(sorted(known))}")
    return address


def _transport(way: str, host: str, kind: Kind) -> Transport:
    if not way and host:
        # as libvirt itself has it: a host without a way is reached by TLS
        return Transport.TLS if kind.socket or kind.name == "test" else Transport.DIRECT
    if way in {"", Transport.UNIX}:
        if host:
            raise EngineError("knob uri: a unix socket is on the broker's machine")
        return Transport.UNIX
    for one in (Transport.TLS, Transport.TCP, Transport.SSH):
        if way == one and host:
            return one
    raise EngineError("knob uri: not a libvirt address that is reached by unix, tls, tcp or ssh")


def _check_way(address: Address, options: dict[str, str], *, plain: bool) -> None:
    transport = address.transport
    if options and transport not in {Transport.UNIX, Transport.SSH}:
        raise EngineError("knob uri: only a unix socket, and SSH, take what follows a ?")
    if address.user and transport not in {Transport.SSH, Transport.DIRECT}:
        raise EngineError("knob uri: only SSH takes a user name")
    if transport is Transport.TCP and not (plain and _is_loopback(address.host)):
        text = "knob uri: TCP has no secrecy; it is taken for this machine only, with plain=yes"
        raise EngineError(text)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(text: str, form: re.Pattern[str], what: str) -> str:
    if text and not form.fullmatch(text):
        raise EngineError(f"knob uri: {text!r} is no {what}")
    return text
