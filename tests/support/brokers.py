"""Several broker processes over one store, each with its own clock, and what can happen to them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from broker.domain.model import Desktop, Host, Pool
from broker.events.memory import MemoryEvents
from broker.identity.ed25519 import Ed25519Signatures
from broker.imaging.simulated import SimulatedImages
from broker.ports import PageQuery, RosterChange, Store
from broker.services.assembly import assemble
from broker.services.bundle import Services
from broker.services.images import Images
from broker.services.kit import Kit
from tests.support.builders import make_host, make_pool
from tests.support.fakes import PlainPasswords
from tests.support.prompt_engine import PromptEngine
from tests.support.stores import make_group, make_image, make_user
from tests.support.world import CountedIds, HandClock, RecordingLink, SeededChance

Hook = Callable[[str], Awaitable[None]]
"""awaited with "part.method" before and after each call of the store"""


class OwnIds(CountedIds):
    """Ids of one process: others' are different."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def new(self, prefix: str) -> str:
        return f"{super().new(prefix)}{self._process}"


def make_kit(store: Store, process: str = "a", clock: HandClock | None = None) -> Kit:
    return Kit(
        store=store,
        clock=clock or HandClock(),
        ids=OwnIds(process),
        chance=SeededChance(),
        events=MemoryEvents(),
        installation_id="tri_test",
    )


class HookedStore:
    """A store whose every call can be held up or end its caller. `fenced` False: a plant; what
    is written under a lease is not held against its fence."""

    def __init__(self, store: Store, *, fenced: bool = True) -> None:
        self.before: Hook | None = None
        self.after: Hook | None = None
        self.fenced = fenced
        for name in dir(type(store)):
            if name.startswith("_"):
                continue
            found = getattr(store, name)
            if inspect.iscoroutinefunction(found):
                setattr(self, name, self._hooked(name, found))
            elif not callable(found):
                setattr(self, name, self._part(name, found))

    def _part(self, name: str, part: object) -> object:
        hooked = type("Part", (), {})()
        for method_name, method in inspect.getmembers(part, inspect.iscoroutinefunction):
            if not method_name.startswith("_"):
                setattr(hooked, method_name, self._hooked(f"{name}.{method_name}", method))
        return hooked

    def _hooked(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.before is not None:
                await self.before(name)
            if not self.fenced:
                kwargs.pop("lease", None)
            result = await method(*args, **kwargs)
            if self.after is not None:
                await self.after(name)
            return result

        return call

    def as_store(self) -> Store:
        return cast("Store", self)


@dataclass
class Broker:
    """One process. Nothing in it runs by itself but its jobs, reports and claims."""

    kit: Kit
    clock: HandClock
    engine: PromptEngine
    services: Services
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def settle(self) -> None:
        for _ in range(300):
            await asyncio.sleep(0)

    async def look(self, times: int = 1) -> None:
        """Look, and let what it began be done."""
        for _ in range(times):
            await self.services.reconciler.look()
            self.services.engine_work.wake()
            await self.settle()

    async def die(self) -> None:
        """At once: nothing of it runs any more, and nothing is given back."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def broker_on(
    store: Store,
    *,
    process: str = "a",
    clock: HandClock | None = None,
    engine: PromptEngine | None = None,
) -> AsyncIterator[Broker]:
    """A broker process over this store; it dies at the end."""
    engine = engine or PromptEngine()
    kit = make_kit(store, process, clock)
    services = assemble(
        kit,
        link=RecordingLink(),
        engines={"simulated": engine}.__getitem__,
        hasher=PlainPasswords(),
        signatures=Ed25519Signatures(),
        images=Images(SimulatedImages(), b"key"),
    )
    broker = Broker(kit=kit, clock=cast("HandClock", kit.clock), engine=engine, services=services)
    works = (
        services.connect.run(),
        services.engine_work.run(),
        services.engine_work.take_reports(engine),
    )
    broker.tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield broker
    finally:
        await broker.die()


async def fill(
    store: Store,
    *,
    pools: tuple[Pool, ...] = (make_pool(),),
    hosts: tuple[Host, ...] = (make_host(),),
    people: int = 5,
) -> None:
    """Pools, hosts, one image, one group and people of it."""
    await store.directory.apply_roster(
        RosterChange(
            groups=(make_group(),),
            users=tuple(make_user(number + 1) for number in range(people)),
            images=(make_image(),),
            hosts=hosts,
            pools=pools,
        )
    )


async def desktops(store: Store, **filters: str) -> list[Desktop]:
    return list((await store.desktops.desktops(PageQuery(limit=500, filters=filters))).items)
