"""A pool's class of storage, from its settings to the engine that makes the disk."""

from __future__ import annotations

from dataclasses import replace

from broker.domain.model import DesktopState
from broker.domain.settings import PoolSettings
from broker.domain.storage import StorageClass
from tests.support.world import World, make_world


async def in_class(world: World, storage: str) -> None:
    pool = await world.pools.find("library")
    changed = replace(pool, settings=PoolSettings(storage=storage))
    await world.kit.store.directory.save_pool(changed, new=False)
    world.pools.forget()


async def test_desktops_are_made_in_their_pools_class_once_a_host_has_it() -> None:
    async with make_world() as world:
        await in_class(world, "fast")
        await world.look(4)
        assert await world.desktops(DesktopState.READY) == []
        assert world.engine.known == {}
        hosts = await world.kit.store.directory.host_loads()
        names = sorted(load.host.name for load in hosts)
        full = StorageClass(name="fast", cost=1.0, capacity=100, available=1)
        roomy = replace(full, cost=9.0, available=90)
        world.engine.classes = {name: {"fast": full} for name in names}
        await world.look(4)
        assert world.engine.known == {}
        world.engine.classes[names[0]] = {"fast": roomy}
        await world.look(4)
        ready = await world.desktops(DesktopState.READY)
        assert len(ready) == 2
        there = {load.host.id for load in hosts if load.host.name == names[0]}
        assert {one.host_id for one in ready} == there
        assert set(world.engine.stored.values()) == {"fast"}


async def test_where_no_host_has_classes_nothing_is_asked_of_them() -> None:
    async with make_world() as world:
        await world.look(4)
        assert len(await world.desktops(DesktopState.READY)) == 2
        assert set(world.engine.stored.values()) == {""}
