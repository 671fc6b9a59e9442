"""The composition root: the one file that names adapters. Builds, starts and stops a broker.

Order of starting: store (migrated), events, engines, services, then the doors (HTTP, SSH).
Order of stopping: /readyz says no, the doors close, endpoints are told, tasks end, then engines,
events and the store. A second broker on one SQLite data directory is refused by a lock file.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from broker.config import Address, Config
from broker.domain.errors import ConfigError
from broker.engines.registry import EngineContext, EngineSet, known_engines
from broker.events.memory import MemoryEvents
from broker.events.nats import NatsEvents
from broker.gateway.desk import Desk, end_displays
from broker.gateway.display import DisplayGateway
from broker.gateway.ssh import SshGateway
from broker.gateway.staff import Staff
from broker.identity.ed25519 import Ed25519Signatures
from broker.identity.local import LocalPasswords
from broker.imaging.simulated import SimulatedImages
from broker.ports import Chance, Clock, Events, Ids, PasswordHasher, Store
from broker.services.accounts import Accounts
from broker.services.bundle import Services
from broker.services.connect import Connect
from broker.services.delivery import Delivery
from broker.services.directory import Directory
from broker.services.endpoints import Endpoints
from broker.services.engine_work import EngineWork
from broker.services.images import Images
from broker.services.kit import Kit
from broker.services.overview import Overviews
from broker.services.pools import Pools
from broker.services.reconciler import Reconciler
from broker.services.sessions import Sessions
from broker.services.tally import Tally
from broker.services.watch import SessionWatch
from broker.store import open_store
from broker.system import SystemChance, SystemClock, SystemIds
from broker.web.agent_link import AgentLink
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
    displays: DisplayGateway
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
    """(installation id, key for image tokens), made at the first start."""
    identity = await store.credentials.installation_secret("installation", ids.secret().encode())
    key = await store.credentials.installation_secret("image-key", ids.secret().encode())
    return "tri_" + hashlib.sha256(identity).hexdigest()[:24], key


def _events(config: Config, installation_id: str, seams: Seams) -> Events:
    if not config.nats_url:
        return MemoryEvents()
    return NatsEvents(
        url=config.nats_url,
        installation_id=installation_id,
        clock=seams.clock,
        chance=seams.chance,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    services: Services
    link: AgentLink


def _services(
    kit: Kit, engines: EngineSet, hasher: PasswordHasher, image_key: bytes, config: Config
) -> _Parts:
    link, tally = AgentLink(), Tally()
    pools, watch = Pools(kit), SessionWatch(kit)
    images = Images(SimulatedImages(bytes_scale=config.bytes_scale), image_key)
    delivery = Delivery(kit, pools, link)
    accounts = Accounts(kit, hasher)
    connect = Connect(kit, pools, delivery, tally)
    sessions = Sessions(kit, pools, delivery, images, tally, watch)
    endpoints = Endpoints(kit, Ed25519Signatures(), sessions, delivery, tally)
    works = EngineWork(kit, pools, engines.__getitem__, sessions, tally)
    services = Services(
        kit=kit,
        accounts=accounts,
        connect=connect,
        delivery=delivery,
        directory=Directory(kit, pools, accounts),
        endpoints=endpoints,
        engine_work=works,
        images=images,
        overviews=Overviews(kit, tally),
        pools=pools,
        reconciler=Reconciler(kit, pools, works, connect, sessions, delivery, endpoints, tally),
        sessions=sessions,
        tally=tally,
        watch=watch,
    )
    link.attach(services)
    return _Parts(services=services, link=link)


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
            stack.callback(_lock(config.data).close)
        store = open_store(config.database_url)
        await store.open()
        stack.push_async_callback(store.close)
        installation_id, image_key = await _installation(store, seams.ids)
        events = _events(config, installation_id, seams)
        await events.open()
        stack.push_async_callback(events.close)
        engines = EngineSet.named(
            known_engines(),
            EngineContext(
                clock=seams.clock,
                chance=seams.chance,
                installation_id=installation_id,
                speed=config.speed,
            ),
        )
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
        parts = _services(kit, engines, hasher, image_key, config)
        desk = Desk(kit, parts.services.sessions, engines.__getitem__)
        displays = DisplayGateway(desk=desk, clock=seams.clock)
        console = build_console()
        server = build_web(
            services=parts.services,
            config=config,
            link=parts.link,
            displays=displays,
            profiles={name: engine.profiles for name, engine in engines.items()},
            extra_routes=console.routes,
            error_page=console.error_page,
        )
        yield Broker(
            config=config,
            services=parts.services,
            store=store,
            events=events,
            engines=engines,
            link=parts.link,
            displays=displays,
            web=server,
        )


def _lock(data: Path) -> IO[str]:
    """Held while a broker uses this data directory with SQLite. Raises ConfigError."""
    path = data / "broker.lock"
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise ConfigError(
            f"another broker (process {owner}) uses the data directory; stop it, or set "
            "TRIVIUM_DATA to another one"
        ) from error
    handle.seek(0)
    handle.truncate()
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all at once."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


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
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(work, name=name) for name, work in _background(broker).items()
            ]
            try:
                await _serve_doors(broker, stop, ready)
            finally:
                for task in background:
                    task.cancel()
        await broker.displays.flush()
        await broker.services.endpoints.flush()


def _background(broker: Broker) -> dict[str, Coroutine[Any, Any, None]]:
    services = broker.services
    bus = {"bus": broker.events.run()} if isinstance(broker.events, NatsEvents) else {}
    return bus | {
        "claims": services.connect.run(),
        "delivery": services.delivery.run(),
        "watch": services.watch.run(),
        "overview": services.overviews.run(),
        "link": broker.link.run(),
        "displays": broker.displays.run(),
        "display ends": end_displays(services.kit, broker.displays),
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
        token = await services.accounts.local_token()
        _write_private(config.local_token_file, token + "\n")
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
        broker.displays.kill_all("the broker stops")
        await broker.link.close()
