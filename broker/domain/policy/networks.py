"""Networks as rules name them: CIDR blocks of IPv4 and IPv6 addresses.

An IPv4 address within IPv6 (::ffff:10.0.0.1, as a socket that listens on both gives it) is the
IPv4 address, and a block of such addresses is the IPv4 block.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@lru_cache(maxsize=4096)
def parse_network(text: str) -> Network:
    """A block such as 10.2.0.0/16 or 2001:db8::/32; one address is a block of one.

    Raises:
        ValueError: it is none, or has bits set beyond its prefix.
    """
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network(
            (int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen)
        )
    return network


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """The address; None for a text that is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # the interface that a link-local address was seen on is no part of it
        plain = IPv6Address(int(address))
        return plain.ipv4_mapped or plain
    return address


def within(address: Address, networks: Iterable[str]) -> bool:
    """Whether one of these blocks holds the address. Raises ValueError for a block that is none."""
    return any(address in parse_network(one) for one in networks)
