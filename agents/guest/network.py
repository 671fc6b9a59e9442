"""The addresses of this machine, from the kernel."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915
_IFREQ_BYTES = 256
_IF_INET6_FIELDS = 6
_SCOPE_GLOBAL = "00"
_LISTENS = "0A"
"""as the kernel writes a socket's state"""


def _ipv4() -> list[str]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack(f"{_IFREQ_BYTES}s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # it has none
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def ipv6(table: str) -> list[str]:
    """The global addresses in /proc/net/if_inet6."""
    found = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) >= _IF_INET6_FIELDS and fields[3] == _SCOPE_GLOBAL:
            found.append(str(ipaddress.IPv6Address(bytes.fromhex(fields[0]))))
    return found


def listens(port: int, root: Path) -> bool:
    """Whether something on this machine waits for connections at that TCP port: as the kernel
    tells it, for a connection would be somebody to it."""
    ending = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        try:
            lines = (root / "proc" / "net" / table).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            fields = line.split()
            if fields[3:4] == [_LISTENS] and fields[1].endswith(ending):
                return True
    return False


def addresses() -> tuple[str, ...]:
    """All but loopback and link-local ones, sorted: what somebody else could reach."""
    try:
        table = Path("/proc/net/if_inet6").read_text(encoding="ascii")
    except OSError:
        table = ""
    found = {each for each in _ipv4() if not ipaddress.ip_address(each).is_loopback}
    return tuple(sorted(found)) + tuple(sorted(ipv6(table)))
