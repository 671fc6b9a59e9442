"""A change of a pool's weights and guarantee reaches its running machines by resize jobs."""

from __future__ import annotations

from dataclasses import replace

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import DesktopState, JobVerb
from broker.domain.settings import Limits, PoolSettings, Share
from broker.ports import PageQuery
from broker.services.pool_shares import EVERY_S
from tests.support.builders import make_desktop
from tests.support.world import World, make_world

HEAVY = PoolSettings(
    weights=Share(cpus=4.0, memory=1.0, disk=2.0, network=1.0), guarantee=Share(cpus=0.25)
)


async def change(world: World, settings: PoolSettings) -> None:
    pool = await world.pools.find("library")
    await world.kit.store.directory.save_pool(replace(pool, settings=settings), new=False)
    world.pools.forget()


async def asked(world: World) -> list[str]:
    query = PageQuery(limit=500, filters={"verb": JobVerb.RESIZE.value})
    jobs = (await world.kit.store.jobs.jobs(query)).items
    return sorted(job.desktop_id for job in jobs)


async def looks(world: World, count: int = 3) -> None:
    for _ in range(count):
        world.clock.advance(EVERY_S)
        await world.look()


async def test_each_running_machine_is_asked_once_for_a_change_and_no_other() -> None:
    async with make_world() as world:
        await world.look(4)
        await world.connect.connect(world.who("pupil0"), "library")
        await looks(world)
        ready = await world.desktops(DesktopState.READY)
        used = await world.desktops(DesktopState.ASSIGNED)
        running = sorted(one.id for one in (*ready, *used) if one.host_id is not None)
        assert await asked(world) == []
        await change(world, HEAVY)
        await looks(world)
        assert await asked(world) == running
        assert len(running) == 3
        await looks(world)
        assert await asked(world) == running
        await change(world, replace(HEAVY, weights=PoolSettings().weights))
        await looks(world)
        assert await asked(world) == sorted(running * 2)


async def test_new_limits_reach_running_machines_too() -> None:
    async with make_world() as world:
        await world.look(4)
        limited = PoolSettings(limits=Limits(disk_mib_s=50), share_pages=False)
        await change(world, limited)
        await looks(world)
        running = [one.id for one in await world.desktops(DesktopState.READY)]
        assert await asked(world) == sorted(running)
        assert set(world.engine.limits.values()) == {(limited.limits, False)}


async def test_the_engine_is_told_the_new_weights_and_the_same_size() -> None:
    async with make_world() as world:
        await world.look(4)
        before = dict(world.engine.sizes)
        await change(world, HEAVY)
        await looks(world)
        assert [verb for verb, _ in world.engine.done].count("resize") == 2
        assert world.engine.sizes == before
        assert set(world.engine.weights.values()) == {HEAVY.weights}


async def test_where_machines_cannot_be_changed_while_they_run_nothing_is_asked() -> None:
    async with make_world() as world:
        world.engine.can = frozenset(Feature) - {Feature.RESIZE}
        await world.look(4)
        await change(world, HEAVY)
        await looks(world)
        assert await asked(world) == []


async def test_a_big_pool_is_asked_a_few_at_a_time() -> None:
    async with make_world() as world:
        pool = await world.pools.find("library")
        count = limits.UNLIKE_PER_LOOK_MAX + 5
        made = [
            make_desktop(
                id=f"dsk_x{number:03d}",
                name=f"x-{number:03d}",
                pool_id=pool.id,
                state=DesktopState.ASSIGNED,
            )
            for number in range(count)
        ]
        for one in made:
            world.kit.store._state.put_desktop(one)  # type: ignore[attr-defined]
        await change(world, HEAVY)
        await looks(world, 1)
        assert len(await asked(world)) == limits.UNLIKE_PER_LOOK_MAX
        await looks(world, 2)
        assert {one.id for one in made} <= set(await asked(world))
