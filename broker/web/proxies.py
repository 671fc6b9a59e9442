"""Whose request it is when a proxy brings it.

X-Forwarded-For is a list that each proxy appends the address of its own client to, so only what
trusted proxies wrote can be believed: read from the right, the first address that is no trusted
proxy is the client. Whatever stands left of it the client may have made up.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from broker.config import Network

_log = logging.getLogger("trivium.web")

FORWARDED_FOR: Final = "X-Forwarded-For"
_HOP: Final = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)"
)
_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """The proxies whose word about their clients is believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._told = False

    def trusts(self, address: str) -> bool:
        """Whether this peer is one of them."""
        ip = _parsed(address) if self._networks else None
        return ip is not None and self._trusted(ip)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """The client's address; the peer's own unless that is trusted and names another.

        `peer`: of the connection. `forwarded`: the X-Forwarded-For headers, first to last. An entry
        that is no address ends the walk: its writer is the last that is known.
        """
        if not self.trusts(peer):
            if forwarded:
                self._tell_once(peer)
            return peer
        client = _parsed(peer)
        for hop in reversed(",".join(forwarded).split(",")):
            ip = _parsed(hop.strip())
            if ip is None:
                break
            client = ip
            if not self._trusted(ip):
                break
        return str(client)

    def _tell_once(self, peer: str) -> None:
        if not self._told:
            self._told = True
            _log.warning(
                "%s sends X-Forwarded-For and is no trusted proxy, so its own address counts as "
                "the client's; if it is your proxy, set TRIVIUM_TRUSTED_PROXIES",
                peer,
            )

    def _trusted(self, ip: _Ip) -> bool:
        return any(ip in network for network in self._networks)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> _Ip | None:
    found = _HOP.fullmatch(text)
    if found is None:
        return None
    try:
        ip = ipaddress.ip_address(found[1] or found[2] or found[3])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
