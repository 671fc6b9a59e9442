"""What every handler of one broker process shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web
from multidict import CIMultiDict

from broker.config import Config
from broker.ports import Displays, ShadowDisplays, Subscription
from broker.services.bundle import Services
from broker.services.guest_links import GuestLinks
from broker.services.known_profiles import KnownProfiles
from broker.web.headers import headers_of
from broker.web.names import Names
from broker.web.poolcounts import PoolCounts
from broker.web.proxies import Proxies
from broker.web.routes import Surface
from broker.web.sites import Sites


class AgentSocket(Protocol):
    """The endpoints' link, as far as the web needs it."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One endpoint's WebSocket, until it closes."""


@dataclass(slots=True)
class Running:
    """What changes while the process runs."""

    draining: bool = False
    """it is being stopped: not ready, and nothing new that lasts is begun"""
    streams: dict[Subscription, str] = field(default_factory=dict)
    """what each open event stream listens to -> whose stream it is (user id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """The services, the configuration and the web's own parts, in one hand."""

    services: Services
    config: Config
    sites: Sites
    proxies: Proxies
    names: Names
    pool_counts: PoolCounts
    link: AgentSocket
    guests: GuestLinks
    displays: Displays
    shadows: ShadowDisplays
    profiles: KnownProfiles | None
    """None when they are not checked here"""
    running: Running = field(default_factory=Running)
    surface_headers: Mapping[Surface, CIMultiDict[str]]

    @property
    def https(self) -> bool:
        return self.sites.https

    @classmethod
    def of(
        cls,
        *,
        services: Services,
        config: Config,
        link: AgentSocket,
        guests: GuestLinks,
        displays: Displays,
        shadows: ShadowDisplays,
        profiles: KnownProfiles | None,
    ) -> Web:
        sites = Sites(config)
        return cls(
            services=services,
            config=config,
            sites=sites,
            proxies=Proxies(config.trusted_proxies),
            names=Names(services.kit.store.directory),
            pool_counts=PoolCounts(services.kit),
            link=link,
            guests=guests,
            displays=displays,
            shadows=shadows,
            profiles=profiles,
            surface_headers={
                surface: headers_of(surface, https=sites.https) for surface in Surface
            },
        )
