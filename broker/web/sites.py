"""By which names this broker may be addressed, and from which pages it may be called.

A request with another Host is refused (a page of a stranger whose name was pointed at this
machine sends its own), and so is one that changes something or opens a socket from another
Origin. What proxies say of the host and the scheme is not looked at.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from broker.config import Config

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Sites:
    """The allow-lists of hosts and origins, made from the configuration."""

    def __init__(self, config: Config) -> None:
        public = urlsplit(config.public_url)
        self._https = public.scheme == "https"
        self._public_host = public.netloc.lower()
        self._hosts: set[str] = set()
        self._local_hosts: set[str] = set()
        self._origins: set[str] = set()
        for url in (config.public_url, *config.origins):
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}".lower()
            self._origins.add(origin)
            self._hosts.update(_spellings(parts.scheme, parts.netloc.lower()))
        guest = urlsplit(config.guest_url)
        self._hosts |= _spellings(guest.scheme, guest.netloc.lower())
        self._listen_host = config.listen.host.lower()
        self.listens_on(config.listen.port)

    @property
    def https(self) -> bool:
        """Whether browsers reach this site by https only."""
        return self._https

    def listens_on(self, port: int) -> None:
        """The broker listens on this port (the system may have chosen it)."""
        host = f"[{self._listen_host}]" if ":" in self._listen_host else self._listen_host
        for name in (*_LOOPBACK_NAMES, host):
            spellings = _spellings("http", f"{name}:{port}")
            self._hosts |= spellings
            if name in _LOOPBACK_NAMES:
                self._local_hosts |= spellings

    def host_allowed(self, host: str, own_address: str) -> bool:
        """Whether `host`, as the Host header gave it, names this broker.

        `own_address`: the local IP address of the connection. It is a good name too, for no
        stranger's name can be pointed at it and arrive as an address.
        """
        return host in self._hosts or host.lower() in self._hosts or _is(host, own_address)

    def is_local(self, host: str, peer_address: str) -> bool:
        """Whether a program on this machine asks, and not through a proxy on this machine."""
        try:
            loopback = ipaddress.ip_address(peer_address).is_loopback
        except ValueError:
            return False
        return loopback and host.lower() in self._local_hosts

    def origin_allowed(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may change things; `host` has passed `host_allowed`."""
        origin, host = origin.lower(), host.lower()
        if origin in self._origins:
            return True
        # the page came from the address that it calls; https is never taken back to http
        plain = not (self._https and host == self._public_host)
        return plain and origin == f"http://{host}"


def _spellings(scheme: str, netloc: str) -> set[str]:
    """The Host headers that clients send for this: the default port may be left out."""
    default = f":{_DEFAULT_PORTS.get(scheme, 0)}"
    if netloc.endswith(default):
        return {netloc, netloc.removesuffix(default)}
    has_port = netloc.rpartition(":")[2].isdigit() and not netloc.endswith("]")
    return {netloc} if has_port else {netloc, netloc + default}


@lru_cache(maxsize=1024)
def _is(host: str, address: str) -> bool:
    """Whether the host is this address, with or without a port."""
    found = _ADDRESS.fullmatch(host)
    if found is None:
        return False
    try:
        return ipaddress.ip_address(found[1] or found[2]) == ipaddress.ip_address(address)
    except ValueError:
        return False
