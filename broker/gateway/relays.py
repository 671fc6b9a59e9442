"""Every port for viewers outside the browser that the settings ask for."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from broker.config import Address, Config
from broker.domain.errors import ConfigError
from broker.domain.viewers import ViewerKind
from broker.gateway.channels import ChannelGateway
from broker.gateway.rdp import RdpGreet
from broker.gateway.relay import Greet, Relay
from broker.gateway.rfb import VncGreet
from broker.gateway.spice import SpiceGreet, SpiceRelay
from broker.services.bundle import Services


def viewer_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What the relays show to viewers; None without a certificate. Raises ConfigError."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("viewer_cert, viewer_key: one is nothing without the other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A pass is for one connection, so none is resumed. And TigerVNC's viewer before 1.13 waits for
    # ever where TLS 1.3's tickets and the record after them come at once: it reads the tickets and
    # then looks at the socket, not at what it has read.
    context.num_tickets = 0
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("viewer_cert, viewer_key: they cannot be read, or do not fit") from error
    return context


class Relays:
    """Built from the settings; listen from `open` to `shut`."""

    def __init__(self, config: Config, services: Services, displays: ChannelGateway) -> None:
        kit, viewers = services.kit, services.viewers
        tls = viewer_tls(config.viewer_cert, config.viewer_key)
        doors: tuple[tuple[ViewerKind, Address | None, Greet], ...] = (
            (ViewerKind.VNC, config.vnc_listen, VncGreet(viewers, kit.ids, tls)),
            (ViewerKind.RDP, config.rdp_listen, RdpGreet(viewers)),
        )
        self._relays = [
            Relay(
                kind=kind,
                address=address,
                greet=greet,
                displays=displays,
                viewers=viewers,
                clock=kit.clock,
            )
            for kind, address, greet in doors
            if address is not None
        ]
        if config.spice_listen is not None:
            self._relays.append(
                SpiceRelay(
                    kind=ViewerKind.SPICE,
                    address=config.spice_listen,
                    greet=SpiceGreet(viewers),
                    displays=displays,
                    viewers=viewers,
                    clock=kit.clock,
                    tls=tls,
                )
            )

    async def open(self) -> None:
        """Raises ConfigError for an address that cannot be listened on."""
        for relay in self._relays:
            await relay.open()

    async def shut(self) -> None:
        """Nobody new comes in; whoever is inside stays."""
        for relay in self._relays:
            await relay.shut()

    async def close(self) -> None:
        for relay in self._relays:
            await relay.close()

    async def run(self) -> None:
        """Look after those inside, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for relay in self._relays:
                tasks.create_task(relay.run(), name=f"{relay.kind} viewers")
