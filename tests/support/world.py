"""A broker's services over the memory store, with a clock, ids and chance of the test's own.

Nothing runs by itself: a test calls `settle`, which lets waiting tasks go on, `look`, which is
the reconciler's one look, and `clock.advance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from broker.domain.lifecycle import EndpointEvent
from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    Endpoint,
    EndpointKind,
    EndpointState,
    Group,
    Identity,
    Image,
    Instant,
    Pool,
    Role,
    User,
)
from broker.events.memory import MemoryEvents
from broker.identity.ed25519 import Ed25519Signatures
from broker.imaging.simulated import SimulatedImages
from broker.ports import (
    ConsentOrder,
    FreshOrder,
    NoticeOrder,
    PageQuery,
    RosterChange,
    StartOrder,
    StopOrder,
)
from broker.ports import Order as AnyOrder
from broker.services.assembly import assemble
from broker.services.bundle import Services
from broker.services.connect import Connect
from broker.services.delivery import Delivery
from broker.services.endpoints import Endpoints
from broker.services.engine_work import EngineWork
from broker.services.images import Images
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.reconciler import Reconciler
from broker.services.sessions import Sessions
from broker.services.tally import Tally
from broker.services.watch import SessionWatch
from broker.store.memory import MemoryStore
from tests.support.builders import NOW, make_desktop, make_endpoint, make_host, make_pool
from tests.support.fakes import PlainPasswords
from tests.support.prompt_engine import PromptEngine


class HandClock:
    """Time that moves when the test says so. `sleep` ends when time has moved far enough."""

    def __init__(self) -> None:
        self.ms: Instant = NOW
        self._sleepers: list[tuple[Instant, asyncio.Future[None]]] = []

    def now(self) -> Instant:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.ms + int(seconds * 1000), future))
        await future

    def advance(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)
        due = [one for one in self._sleepers if one[0] <= self.ms]
        self._sleepers = [one for one in self._sleepers if one[0] > self.ms]
        for _, future in due:
            if not future.done():
                future.set_result(None)


class CountedIds:
    """ses_000001, ses_000002, …: readable, in order, the same every time."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count:06d}"

    def secret(self) -> str:
        self._count += 1
        return f"secret-{self._count:06d}".ljust(43, "-")


class SeededChance:
    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class RecordingLink:
    """The EndpointLink port: endpoints that the test connects, orders that it can read."""

    def __init__(self) -> None:
        self.orders: dict[str, list[AnyOrder]] = {}

    def connected(self, endpoint_id: str) -> bool:
        return endpoint_id in self.orders

    def connected_ids(self) -> Sequence[str]:
        return tuple(self.orders)

    def drop(self, endpoint_id: str) -> None:
        self.orders.pop(endpoint_id, None)

    def send(self, endpoint_id: str, order: AnyOrder) -> bool:
        if endpoint_id not in self.orders:
            return False
        self.orders[endpoint_id].append(order)
        return True


Order = TypeVar("Order", StartOrder, StopOrder, FreshOrder, NoticeOrder, ConsentOrder)


@dataclass
class World:
    kit: Kit
    clock: HandClock
    link: RecordingLink
    engine: PromptEngine
    services: Services
    users: dict[str, User] = field(default_factory=dict)

    @property
    def pools(self) -> Pools:
        return self.services.pools

    @property
    def delivery(self) -> Delivery:
        return self.services.delivery

    @property
    def connect(self) -> Connect:
        return self.services.connect

    @property
    def sessions(self) -> Sessions:
        return self.services.sessions

    @property
    def endpoints(self) -> Endpoints:
        return self.services.endpoints

    @property
    def works(self) -> EngineWork:
        return self.services.engine_work

    @property
    def reconciler(self) -> Reconciler:
        return self.services.reconciler

    @property
    def watch(self) -> SessionWatch:
        return self.services.watch

    @property
    def tally(self) -> Tally:
        return self.services.tally

    def who(self, username: str, sign_in: str = "tok") -> Identity:
        """Somebody signed in; each `sign_in` is a browser of its own."""
        user = self.users[username]
        return Identity(
            user_id=user.id,
            username=user.username,
            role=user.role,
            token_id=sign_in,
            group_ids=user.group_ids,
        )

    async def settle(self) -> None:
        """Let every task that can go on do so (bounded)."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def look(self, times: int = 1) -> None:
        """The reconciler looks, and what it began is done."""
        for _ in range(times):
            await self.reconciler.look()
            self.works.wake()
            await self.settle()

    async def desktops(self, state: DesktopState | None = None) -> list[Desktop]:
        filters = {"state": state.value} if state else {}
        query = PageQuery(limit=500, filters=filters)
        return list((await self.kit.store.desktops.desktops(query)).items)

    async def online(self, name: str) -> Endpoint:
        """Connect the endpoint of that name, and let it report its desktops fresh."""
        endpoint = await self.kit.store.endpoints.endpoint_by_name(name)
        assert endpoint is not None
        self.link.orders[endpoint.id] = []
        now = self.clock.now()
        endpoint = await self.kit.store.endpoints.presence(
            endpoint.id, EndpointEvent.CONNECTED, now, fresh_deadline_at=now + 60_000
        )
        self.delivery.forget(endpoint.id)
        await self.sessions.endpoint_back(endpoint.id)
        await self.delivery.refresh([endpoint.id])
        await self.answer_fresh(endpoint.id)
        return endpoint

    async def answer_fresh(self, endpoint_id: str) -> None:
        for order in self.orders(endpoint_id, FreshOrder):
            await self.works.endpoint_fresh(endpoint_id, order.desktop_id, order.generation)

    def orders(self, endpoint_id: str, kind: type[Order]) -> list[Order]:
        return [one for one in self.link.orders[endpoint_id] if isinstance(one, kind)]

    async def offline(self, name: str) -> None:
        endpoint = await self.kit.store.endpoints.endpoint_by_name(name)
        assert endpoint is not None
        del self.link.orders[endpoint.id]
        await self.endpoints.gone(endpoint.id)


POOLS: tuple[Pool, ...] = (
    make_pool(id="pol_vdi", name="library", architecture=Architecture.VDI, spares_min=2),
    make_pool(id="pol_idv", name="art", architecture=Architecture.IDV),
    make_pool(id="pol_voi", name="lab", architecture=Architecture.VOI),
)


def _roster(people: int) -> RosterChange:
    endpoints = [
        make_endpoint(
            id=f"ept_{pool.name}{n}",
            name=f"{pool.name.upper()}-{n}",
            kind=EndpointKind.FAT,
            pool_ids=(pool.id,),
            state=EndpointState.ENROLLED,
        )
        for pool in POOLS[1:]
        for n in range(2)
    ]
    thin = make_endpoint(
        id="ept_thin0",
        name="THIN-0",
        kind=EndpointKind.THIN,
        pool_ids=(),
        state=EndpointState.ENROLLED,
    )
    places = [
        make_desktop(
            id=f"dsk_{endpoint.name}",
            name=endpoint.name,
            pool_id=endpoint.pool_ids[0],
            architecture=next(p for p in POOLS if p.id == endpoint.pool_ids[0]).architecture,
            host_id=None,
            endpoint_id=endpoint.id,
            state=DesktopState.UNAVAILABLE,
        )
        for endpoint in endpoints
    ]
    groups = (
        Group(id="grp_1", name="pupils", title="Pupils", created_at=NOW),
        Group(id="grp_2", name="strangers", title="Strangers", created_at=NOW),
    )
    users = [
        User(
            id=f"usr_{name}",
            username=name,
            display_name=name,
            role=role,
            enabled=True,
            group_ids=groups_of,
            created_at=NOW,
        )
        for name, role, groups_of in (
            *((f"pupil{n}", Role.USER, ("grp_1",)) for n in range(people)),
            ("stranger", Role.USER, ("grp_2",)),
            ("operator", Role.OPERATOR, ()),
            ("auditor", Role.AUDITOR, ()),
        )
    ]
    image = Image(
        id="img_1",
        name="win",
        version=1,
        size_bytes=8 * 2**20,
        boot_bytes=2 * 2**20,
        created_at=NOW,
    )
    return RosterChange(
        groups=groups,
        users=tuple(users),
        images=(image,),
        hosts=(make_host(),),
        pools=POOLS,
        endpoints=(*endpoints, thin),
        desktops=tuple(places),
    )


@contextlib.asynccontextmanager
async def make_world(people: int = 20) -> AsyncIterator[World]:
    """A broker with three pools, four fat endpoints and a thin one; loops run, time stands."""
    store = MemoryStore()
    await store.open()
    clock, events, engine = HandClock(), MemoryEvents(), PromptEngine()
    change = _roster(people)
    await store.directory.apply_roster(change)
    kit = Kit(
        store=store,
        clock=clock,
        ids=CountedIds(),
        chance=SeededChance(),
        events=events,
        installation_id="tri_test",
    )
    link = RecordingLink()
    services = assemble(
        kit,
        link=link,
        engines={"simulated": engine}.__getitem__,
        hasher=PlainPasswords(),
        signatures=Ed25519Signatures(),
        images=Images(SimulatedImages(), b"key"),
    )
    world = World(
        kit=kit,
        clock=clock,
        link=link,
        engine=engine,
        services=services,
        users={user.username: user for user in change.users},
    )
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(work)
            for work in (
                services.connect.run(),
                services.delivery.run(),
                services.watch.run(),
                services.engine_work.run(),
                services.engine_work.take_reports(engine),
            )
        ]
        try:
            yield world
        finally:
            for task in running:
                task.cancel()
    await store.close()
