"""Wake-on-LAN: the packet that a network card listens for while its host is off."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from broker.domain.errors import EngineError

EVERYBODY: Final = "255.255.255.255"
DISCARD_PORT: Final = 9
_MAC: Final = r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}"
_KNOB: Final = re.compile(
    rf"(?P<mac>{_MAC})(@(?P<address>[0-9.]{{7,15}})(:(?P<port>[0-9]{{1,5}}))?)?"
)
_PORT_MAX: Final = 65535
_REPEATS: Final = 16
"""of the address in the packet, after six bytes of ones (AMD's Magic Packet, 1995)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Which card, and where to send: a broadcast address of its network, as routers let no packet
    through to a host that is off."""

    mac: str
    address: str = EVERYBODY
    port: int = DISCARD_PORT

    @property
    def packet(self) -> bytes:
        mac = bytes.fromhex(self.mac.replace(":", "").replace("-", ""))
        return b"\xff" * 6 + mac * _REPEATS


def parse_wake(text: str) -> Wake:
    """MAC, MAC@ADDRESS or MAC@ADDRESS:PORT. Raises EngineError for anything else."""
    found = _KNOB.fullmatch(text)
    port = int(found["port"] or DISCARD_PORT) if found is not None else 0
    if found is None or not 0 < port <= _PORT_MAX or not _is_address(found["address"]):
        raise EngineError(f"{text!r} is not a card's address, as in 52:54:00:12:34:56")
    return Wake(mac=found["mac"].lower(), address=found["address"] or EVERYBODY, port=port)


def _is_address(text: str | None) -> bool:
    try:
        ipaddress.IPv4Address(text or EVERYBODY)
    except ValueError:
        return False
    return True


async def send(wake: Wake) -> None:
    """One packet; nothing answers it. Raises EngineError where it cannot be sent."""
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol,
            remote_addr=(wake.address, wake.port),
            allow_broadcast=True,
        )
    except OSError as error:
        raise EngineError(f"no packet can be sent to {wake.address}") from error
    try:
        transport.sendto(wake.packet)
    finally:
        transport.close()
