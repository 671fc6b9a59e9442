"""The services together: turns to be made fresh, lost hosts, failures of absent endpoints."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from broker import limits
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Architecture, DesktopState, EndpointKind, EndpointState
from broker.ports import RosterChange
from tests.support.builders import make_desktop, make_endpoint, make_host
from tests.support.world import World, make_world

D = DesktopState


async def library(world: World, spares: int) -> None:
    pool = await world.pools.find("library")
    await world.kit.store.directory.save_pool(
        replace(pool, spares_min=spares, size_max=40), new=False
    )
    world.pools.forget()


async def states(world: World) -> Counter[DesktopState]:
    return Counter(one.state for one in await world.desktops() if one.host_id is not None)


async def test_a_class_that_logs_off_at_once_does_not_start_all_its_machines_at_once() -> None:
    async with make_world() as world:
        directory = world.kit.store.directory
        await directory.apply_roster(RosterChange(hosts=(make_host(start_limit=4),)))
        await library(world, 20)
        for _ in range(12):
            await world.look(2)
        people = [world.who(f"pupil{number}") for number in range(20)]
        live = [(await world.connect.connect(who, "library")).session for who in people]
        await library(world, 0)
        world.engine.silent = True
        for who, session in zip(people, live, strict=True):
            await world.sessions.log_off(who, session.id)
        await world.look(3)
        (load,) = await directory.host_loads()
        assert (load.starting, load.resets_waiting) == (4, 16)
        assert Counter(verb for verb, _ in world.engine.done)["reset"] == 4
        # those that wait are not late: their time begins with their turn
        world.clock.advance(limits.RESET_S - 1)
        await world.look(2)
        assert (await states(world))[D.FAILED] == 0
        world.engine.silent = False
        for _ in range(12):
            world.clock.advance(limits.RESET_S)
            await world.look(3)
        assert Counter(verb for verb, _ in world.engine.done)["reset"] == 20


async def test_what_is_removed_does_not_wait_for_resets() -> None:
    async with make_world() as world:
        directory = world.kit.store.directory
        await directory.apply_roster(RosterChange(hosts=(make_host(start_limit=1),)))
        await library(world, 3)
        for _ in range(6):
            await world.look(2)
        ready = await world.desktops(D.READY)
        world.engine.silent = True
        for number in (0, 1):
            outcome = await world.connect.connect(world.who(f"pupil{number}"), "library")
            await world.sessions.log_off(world.who(f"pupil{number}"), outcome.session.id)
        spare = next(one for one in ready if one.name.endswith("3"))
        await world.works.lost(spare, "crashed")
        await world.look(3)
        gone = await world.kit.store.desktops.desktop(spare.id)
        assert gone is not None
        assert gone.state is D.DELETED


async def test_spares_of_a_host_that_is_lost_are_made_elsewhere() -> None:
    async with make_world() as world:
        directory = world.kit.store.directory
        await directory.apply_roster(RosterChange(hosts=(make_host(id="hst_2", name="server-2"),)))
        await world.look(4)
        spare = next(one for one in await world.desktops(D.READY) if one.host_id is not None)
        assert spare.host_id is not None
        await world.services.site.set_host_lost(spare.host_id, lost=True, actor="adm")
        await world.look(4)
        ready = [one for one in await world.desktops(D.READY) if one.host_id is not None]
        assert sum(one.host_id != spare.host_id for one in ready) == 2


async def test_a_room_of_endpoints_that_failed_keeps_no_machine_from_being_cleared() -> None:
    async with make_world() as world:
        store, count = world.kit.store, limits.RECONCILE_BATCH_MAX + 10
        endpoints = [
            make_endpoint(
                id=f"ept_x{number:03d}",
                name=f"X-{number:03d}",
                kind=EndpointKind.FAT,
                pool_ids=("pol_voi",),
                state=EndpointState.ENROLLED,
            )
            for number in range(count)
        ]
        places = [
            make_desktop(
                id=f"dsk_x{number:03d}",
                name=f"X-{number:03d}",
                pool_id="pol_voi",
                architecture=Architecture.VOI,
                host_id=None,
                endpoint_id=endpoints[number].id,
                state=D.UNAVAILABLE,
            )
            for number in range(count)
        ]
        await store.directory.apply_roster(
            RosterChange(endpoints=tuple(endpoints), desktops=tuple(places))
        )
        now = world.clock.now()
        for one in places:
            for event in (DesktopEvent.ENDPOINT_BACK, DesktopEvent.DEADLINE_PASSED):
                await store.desktops.advance(one.id, event, now)
        await world.look(4)
        world.clock.advance(5)
        for one in await world.desktops(D.READY):
            if one.host_id is not None:
                await world.works.lost(one, "crashed")
        await world.look(4)
        assert (await states(world))[D.FAILED] == 0
