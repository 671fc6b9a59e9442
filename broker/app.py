"""The composition root: the one file that names adapters. Builds, starts and stops a broker.

Order of starting: store (migrated), events, engines, services, then the doors (HTTP, SSH).
Order of stopping: /readyz says no, the doors close, endpoints are told, tasks end, then engines,
events and the store. A second broker on one SQLite data directory is refused by a lock file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from broker.config import Address, Config
from broker.engines.registry import EngineContext, EngineSet, usable_engines
from broker.events.memory import MemoryEvents
from broker.events.nats import NatsEvents
from broker.gateway.channels import ChannelGateway
from broker.gateway.desk import Desk, end_displays
from broker.gateway.relays import Relays
from broker.gateway.shadows import ShadowGateway
from broker.gateway.ssh import SshGateway
from broker.gateway.staff import Staff
from broker.identity.ed25519 import Ed25519Signatures
from broker.identity.local import LocalPasswords
from broker.imaging.files import ImageFiles
from broker.imaging.simulated import SimulatedImages
from broker.ports import Chance, Clock, Events, Ids, PasswordHasher, Store
from broker.services.assembly import assemble
from broker.services.bundle import Services
from broker.services.conversation.link import AgentLink
from broker.services.guest_links import GuestLinks
from broker.services.images import Images
from broker.services.kit import Kit, installation_id_of
from broker.services.known_profiles import KnownProfiles
from broker.store import open_store
from broker.system import (
    AnchorFile,
    SystemChance,
    SystemClock,
    SystemIds,
    lock_data,
    write_private,
)
from broker.web.agent_link import AgentSockets
from broker.web.console import build_console
from broker.web.server import WebServer, build_web

_log = logging.getLogger("trivium")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What tests and simulation put in place of the system's own."""

    clock: Clock
    ids: Ids
    chance: Chance
    hasher: PasswordHasher | None = None


def system_seams(config: Config) -> Seams:
    """The real clock, ids and chance; the simulated engine's chance follows the seed."""
    return Seams(clock=SystemClock(), ids=SystemIds(), chance=SystemChance(config.seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A broker that is built and whose store is open; `run` starts its tasks."""

    config: Config
    services: Services
    store: Store
    events: Events
    engines: EngineSet
    link: AgentLink
    guests: GuestLinks
    displays: ChannelGateway
    shadows: ShadowGateway
    relays: Relays
    web: WebServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the one who started it may want to know. `setup_url`: while nobody administers it."""

    broker: Broker
    address: Address
    url: str
    setup_url: str | None
    ssh_address: Address | None


async def _installation(store: Store, ids: Ids) -> tuple[str, bytes]:
    """(installation id, key for image tokens and guests' tickets), made at the first start."""
    identity = await store.credentials.installation_secret("installation", ids.secret().encode())
    key = await store.credentials.installation_secret("image-key", ids.secret().encode())
    return installation_id_of(identity), key


def _events(config: Config, installation_id: str, seams: Seams) -> Events:
    if not config.nats_url:
        return MemoryEvents()
    return NatsEvents(
        url=config.nats_url,
        installation_id=installation_id,
        clock=seams.clock,
        chance=seams.chance,
    )


def _engines(config: Config, installation_id: str, seams: Seams, guests: GuestLinks) -> EngineSet:
    context = EngineContext(
        clock=seams.clock,
        chance=seams.chance,
        ids=seams.ids,
        installation_id=installation_id,
        speed=config.speed,
        shared=not config.database_url.startswith("sqlite"),
        data=config.data,
        guests=guests,
    )
    return EngineSet.named(usable_engines(), context)


def _guest_links(config: Config, store: Store, installation_id: str, key: bytes) -> GuestLinks:
    return GuestLinks(
        store=store, installation_id=installation_id, key=key, address=config.guest_url
    )


def _image_files(config: Config, seams: Seams) -> ImageFiles:
    files = ImageFiles(config.images, seams.ids)
    files.clear()
    return files


def _desk(services: Services, engines: EngineSet) -> Desk:
    sessions, showing, measures = services.sessions, services.showing, services.measures
    return Desk(services.kit, sessions, engines.__getitem__, showing, measures)


@contextlib.asynccontextmanager
async def build(config: Config, seams: Seams | None = None) -> AsyncIterator[Broker]:
    """A broker with its store open and migrated, nothing running yet; closed at the end.

    Raises:
        ConfigError: a setting or the database does not fit. UnavailableError: no database.
    """
    seams = seams or system_seams(config)
    async with contextlib.AsyncExitStack() as stack:
        config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if config.database_url.startswith("sqlite"):
            stack.callback(lock_data(config.data).close)
        store = open_store(config.database_url)
        await store.open()
        stack.push_async_callback(store.close)
        installation_id, image_key = await _installation(store, seams.ids)
        events = _events(config, installation_id, seams)
        await events.open()
        stack.push_async_callback(events.close)
        guests = _guest_links(config, store, installation_id, image_key)
        engines = _engines(config, installation_id, seams, guests)
        await engines.open()
        stack.push_async_callback(engines.close)
        hasher = seams.hasher or stack.enter_context(contextlib.closing(LocalPasswords()))
        kit = Kit(
            store=store,
            clock=seams.clock,
            ids=seams.ids,
            chance=seams.chance,
            events=events,
            installation_id=installation_id,
        )
        link = AgentLink()
        services = assemble(
            kit,
            link=link,
            engines=engines.__getitem__,
            hasher=hasher,
            signatures=Ed25519Signatures(),
            images=Images(SimulatedImages(bytes_scale=config.bytes_scale), image_key),
            anchors=AnchorFile(config.anchor_file),
            image_store=_image_files(config, seams),
        )
        link.attach(services)
        displays = ChannelGateway(desk=_desk(services, engines), clock=seams.clock)
        shadows = ShadowGateway(kit, services.shadows, engines.__getitem__)
        console = build_console()
        server = build_web(
            services=services,
            config=config,
            link=AgentSockets(link),
            guests=guests,
            displays=displays,
            shadows=shadows,
            profiles=KnownProfiles(engines),
            extra_routes=console.routes,
            error_page=console.error_page,
        )
        yield Broker(
            config=config,
            services=services,
            store=store,
            events=events,
            engines=engines,
            link=link,
            guests=guests,
            displays=displays,
            shadows=shadows,
            relays=Relays(config, services, displays),
            web=server,
        )


async def serve(
    config: Config,
    stop: asyncio.Event,
    *,
    ready: Callable[[Running], None] = lambda _: None,
    seams: Seams | None = None,
) -> None:
    """Run a broker until `stop` is set; then drain and close everything.

    `ready` is called once the doors are open. Raises ConfigError or UnavailableError when it
    cannot start (also when the port is taken).
    """
    async with build(config, seams) as broker:
        if config.database_url.startswith("sqlite"):
            # the data directory is locked: whoever held a lease is gone
            await broker.services.shared.inherit()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(work, name=name) for name, work in background_work(broker).items()
            ]
            try:
                await _serve_doors(broker, stop, ready)
            finally:
                for task in background:
                    task.cancel()
        await broker.displays.flush()
        await broker.services.endpoints.flush()
        await broker.services.showing.stop()
        await broker.services.shared.stop()


def background_work(broker: Broker) -> dict[str, Coroutine[Any, Any, None]]:
    """What runs beside the requests, by name. The simulation runs the same."""
    services = broker.services
    bus = {"bus": broker.events.run()} if isinstance(broker.events, NatsEvents) else {}
    return bus | {
        "claims": services.connect.run(),
        "copies": services.copies.run(),
        "profiles": services.host_profiles.run(),
        "sealer": services.audit.run(),
        "delivery": services.delivery.run(),
        "watch": services.watch.run(),
        "overview": services.overviews.run(),
        "link": broker.link.run(),
        "displays": broker.displays.run(),
        "measures": services.measures.run(),
        "viewers": broker.relays.run(),
        "display ends": end_displays(services.kit, broker.displays),
        "shadows": broker.shadows.run(),
        "guests": services.guest_care.run(tuple(broker.engines.values())),
        "reconciler": services.reconciler.run(tuple(broker.engines.values())),
    }


async def _serve_doors(
    broker: Broker, stop: asyncio.Event, ready: Callable[[Running], None]
) -> None:
    config, services = broker.config, broker.services
    async with contextlib.AsyncExitStack() as doors:
        address = await broker.web.start(config.listen)
        doors.push_async_callback(broker.web.stop, config.drain_s)
        ssh_address = None
        if config.ssh_listen is not None:
            staff = Staff(services)
            ssh = SshGateway(
                host=config.ssh_listen.host,
                port=config.ssh_listen.port,
                host_key_path=config.data / "ssh_host_key",
                authenticate=staff.authenticate,
                support=staff,
                clock=services.kit.clock,
            )
            await ssh.open()
            doors.push_async_callback(ssh.close)
            ssh_address = Address(config.ssh_listen.host, ssh.port)
        await broker.relays.open()
        doors.push_async_callback(broker.relays.close)
        token = await services.accounts.local_token()
        write_private(config.local_token_file, token + "\n")
        doors.callback(config.local_token_file.unlink, missing_ok=True)
        url = config.public_url
        if config.listen.port == 0:
            url = url.replace(":0", f":{address.port}")
        secret = await services.accounts.setup_secret()
        ready(
            Running(
                broker=broker,
                address=address,
                url=url,
                setup_url=f"{url}/setup#secret={secret}" if secret else None,
                ssh_address=ssh_address,
            )
        )
        await stop.wait()
        broker.web.drain()
        await broker.relays.shut()
        broker.shadows.stop()
        await broker.displays.drain(config.drain_s)
        broker.guests.close()
        await broker.link.close()
