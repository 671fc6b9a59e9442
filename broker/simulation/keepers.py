"""What administrators do with snapshots: of any desktop that is somebody's for good."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Protocol, TypeVar

from broker.domain.errors import NotFoundError
from broker.domain.keeping import keeps_work
from broker.domain.model import Architecture, Desktop, Pool
from broker.domain.snapshots import Snapshot
from broker.ports import PageQuery
from broker.services.bundle import Services

Item = TypeVar("Item")
Work = Callable[[Services], Awaitable[object]]


class Do(Protocol):
    """Ask for it until there is an answer; whether it was done."""

    async def __call__(self, action: str, work: Work) -> bool: ...


class Keeper:
    """`pools`: all of them, as they are. `name`: another one at each call."""

    def __init__(
        self,
        do: Do,
        actor: str,
        chance: Random,
        pools: Callable[[], Sequence[Pool]],
        name: Callable[[str], str],
    ) -> None:
        self._do = do
        self._actor = actor
        self._chance = chance
        self._pools = pools
        self._name = name

    async def take(self) -> None:
        name, draw = self._name("snapshot"), self._chance.random()

        async def work(services: Services) -> None:
            desktop = await self._desktop(services, draw)
            await services.snapshots.take(desktop.id, name, "", actor=self._actor)

        await self._do("desktop.snapshot", work)

    async def revert(self) -> None:
        draw = self._chance.random()

        async def work(services: Services) -> None:
            desktop, snapshot = await self._kept(services, draw)
            await services.snapshots.revert(desktop.id, snapshot.id, actor=self._actor)

        await self._do("desktop.revert", work)

    async def drop(self) -> None:
        draw = self._chance.random()

        async def work(services: Services) -> None:
            desktop, snapshot = await self._kept(services, draw)
            await services.snapshots.drop(desktop.id, snapshot.id, actor=self._actor)

        await self._do("desktop.drop_snapshot", work)

    async def _desktops(self, services: Services) -> list[Desktop]:
        found: list[Desktop] = []
        for pool in self._pools():
            if pool.architecture is Architecture.VDI:
                query = PageQuery(limit=100, filters={"pool_id": pool.id})
                page = await services.kit.store.desktops.desktops(query)
                found += [one for one in page.items if keeps_work(pool, one.owner_id)]
        return found

    async def _desktop(self, services: Services, draw: float) -> Desktop:
        return _chosen(await self._desktops(services), draw)

    async def _kept(self, services: Services, draw: float) -> tuple[Desktop, Snapshot]:
        kept = [
            (desktop, snapshot)
            for desktop in await self._desktops(services)
            for snapshot in (await services.snapshots.album(desktop.id)).snapshots
        ]
        return _chosen(kept, draw)


def _chosen(items: Sequence[Item], draw: float) -> Item:
    if not items:
        raise NotFoundError
    return items[int(draw * len(items))]
