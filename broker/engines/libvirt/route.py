"""The way to one host's daemon: the address that libvirt is given, and the tunnel where it needs
one. It is made by the broker; no part of it comes from an address."""

from __future__ import annotations

import asyncio
from pathlib import Path

from broker.domain.errors import ConfigError, EngineError, UnsupportedError
from broker.engines.libvirt.address import Transport
from broker.engines.libvirt.knobs import Place
from broker.engines.reach.commands import Command, Said
from broker.engines.reach.ssh import SshHost, SshStream, SshTunnel, broker_key
from broker.engines.reach.tls import pki_of, ssl_context
from broker.engines.reach.vencrypt import CertifiedStream, open_display

NO_PASSWORDS = "the broker keeps no passwords for hypervisors, and this one asks for one"


def ssh_host(name: str, place: Place) -> SshHost:
    """Whom to sign in at. `name`: the host's, for errors."""
    address = place.address
    return SshHost(
        name=name,
        host=address.host,
        port=address.port,
        user=address.user,
        fingerprint=place.host_key,
    )


class Route:
    """`data`: the broker's data directory, for its key, certificates and sockets; None where it
    has none: then only daemons of this machine are reached. One loop uses it."""

    def __init__(self, name: str, place: Place, data: Path | None) -> None:
        self._name = name
        self._place = place
        self._data = data
        self._tunnel: SshTunnel | None = None

    async def ready(self) -> str:
        """The address to give to libvirt, with what leads there open. Raises EngineError."""
        address = self._place.address
        if address.transport in {Transport.UNIX, Transport.TCP}:
            return address.uri
        if address.transport is Transport.DIRECT:
            raise UnsupportedError(f"{self._name}: {NO_PASSWORDS}")
        if self._data is None:
            raise EngineError(f"{self._name} is elsewhere, and there is no data directory for keys")
        if address.transport is Transport.TLS:
            pki = await asyncio.to_thread(pki_of, self._data, address.host)
            return address.with_pki(str(pki.folder))
        tunnel = self._tunnel = self._tunnel or await self._made(self._data)
        await tunnel.open()
        return address.through(str(tunnel.path))

    async def stream(self, path: str) -> SshStream:
        """To a socket at a host that is reached over SSH. Raises EngineError."""
        if self._tunnel is None:
            raise EngineError(f"{self._name} is not reached over SSH just now")
        return await self._tunnel.stream(path)

    async def run(self, command: Command) -> Said:
        """At a host that is reached over SSH; its daemon need not run. Raises EngineError."""
        await self.ready()
        if self._tunnel is None:
            raise UnsupportedError(f"{self._name} is not reached over SSH")
        return await self._tunnel.run(command)

    async def display(self, port: int) -> CertifiedStream:
        """A machine's, at that port of a host that is reached over TLS. Raises EngineError."""
        if self._data is None or self._place.vnc is None:
            raise UnsupportedError(f"{self._name} shows no displays over TLS")
        name = self._place.address.host
        pki = await asyncio.to_thread(pki_of, self._data, name)
        try:
            context = await asyncio.to_thread(ssl_context, pki.folder)
        except OSError:
            raise EngineError("the certificates for the host cannot be read") from None
        at = str(self._place.vnc)
        return await open_display(at, port, context=context, name=name, host=self._name)

    async def _made(self, data: Path) -> SshTunnel:
        try:
            key = await asyncio.to_thread(broker_key, data)
        except ConfigError as error:
            raise EngineError(error.detail) from None
        host = ssh_host(self._name, self._place)
        return SshTunnel(host, key, data=data, target=self._place.address.socket)

    async def close(self) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            await tunnel.close()
