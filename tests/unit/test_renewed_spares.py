"""The services together: a pool gets a new image, and its spares are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from broker.domain.errors import BadRequestError, IllegalTransitionError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, Image
from broker.domain.planning import RenewDesktop
from broker.ports import Operation, PageQuery, RosterChange
from broker.services.decisions import decision
from broker.services.reconciler.machines import Machines
from tests.support.world import World, make_world

D = DesktopState


async def spares(world: World, count: int) -> None:
    pool = await world.pools.find("library")
    changed = replace(pool, spares_min=count, size_max=20)
    await world.kit.store.directory.save_pool(changed, new=False)
    world.pools.forget()
    await world.look(8)


async def next_version(world: World) -> tuple[str, str]:
    """The pool's image gets one more version: ids of the one before, and of the new one."""
    old = await world.pools.image((await world.pools.find("library")).image_id)
    new = replace(old, id=world.kit.ids.new("img"), version=old.version + 1)
    await world.kit.store.directory.apply_roster(RosterChange(images=(new,)))
    world.pools.forget()
    return old.id, new.id


async def looks(world: World, times: int = 12) -> None:
    for _ in range(times):
        world.clock.advance(5)
        await world.look(2)


async def library(world: World) -> list[Desktop]:
    pool = await world.pools.find("library")
    return [one for one in await world.desktops() if one.pool_id == pool.id]


def acts(world: World) -> Machines:
    """What carries the planner's commands out."""
    services = world.services
    return Machines(
        world.kit, services.engine_work, services.delivery, services.breakers, services.tally
    )


async def forgotten(world: World, one: Desktop) -> None:
    """It is replaced by one of which nobody wrote down what it was made from."""
    desktops, now = world.kit.store.desktops, world.clock.now()
    for event in (DesktopEvent.DELETE_ASKED, DesktopEvent.DELETED):
        await desktops.advance(one.id, event, now)
    made = replace(one, id=world.kit.ids.new("dsk"), image_id=None, state=D.PLANNED)
    await desktops.add([made], [])
    for event in (DesktopEvent.CREATE_BEGUN, DesktopEvent.CREATED, DesktopEvent.REPORTED_READY):
        await desktops.advance(made.id, event, now)


async def whys(world: World, action: str) -> list[str]:
    entries = await world.kit.store.audit.entries(PageQuery(limit=99, filters={"action": action}))
    return [entry.why for entry in entries.items]


async def test_new_machines_know_what_they_were_made_from() -> None:
    async with make_world() as world:
        await spares(world, 2)
        pool = await world.pools.find("library")
        assert {one.image_id for one in await library(world)} == {pool.image_id}


async def test_spares_are_renewed_and_a_person_in_a_session_is_not_disturbed() -> None:
    async with make_world() as world:
        await spares(world, 3)
        session = (await world.connect.connect(world.who("pupil1"), "library")).session
        await looks(world, 4)
        old, new = await next_version(world)
        await world.services.directory.change_pool("library", image="win")
        await looks(world)
        mine = await world.kit.store.desktops.desktop(session.desktop_id or "")
        assert mine is not None
        assert (mine.state, mine.image_id, mine.generation) == (D.ASSIGNED, old, 1)
        others = [one for one in await library(world) if one.id != mine.id]
        assert len(others) >= 3
        assert {(one.state, one.image_id) for one in others} == {(D.READY, new)}
        assert max(one.generation for one in others) == 2
        told = await whys(world, "desktop.renew")
        assert set(told) == {"it is not of the image that library has now"}
        # and at its end it gets the image as every reset does
        await world.sessions.log_off(world.who("pupil1"), session.id)
        await looks(world)
        mine = await world.kit.store.desktops.desktop(mine.id)
        assert mine is None or mine.image_id == new


async def test_an_engine_is_asked_for_the_image_that_the_machine_is_of() -> None:
    async with make_world() as world:
        await spares(world, 1)
        asked = _watch(world)
        old, new = await next_version(world)
        await world.services.directory.change_pool("library", image="win")
        (one,) = await library(world)
        now = await world.pools.image_of(one, await world.pools.find("library"))
        assert (now.id, one.image_id) == (old, old)
        await looks(world)
        assert asked
        assert {image.id for image in asked} == {new}


def _watch(world: World) -> Sequence[Image]:
    """The images that the engine makes machines from."""
    found: list[Image] = []
    create, reset = world.engine.create, world.engine.reset

    async def created(operation: Operation) -> None:
        found.append(operation.image)
        await create(operation)

    async def was_reset(operation: Operation) -> None:
        found.append(operation.image)
        await reset(operation)

    world.engine.create = created  # type: ignore[method-assign]
    world.engine.reset = was_reset  # type: ignore[method-assign]
    return found


async def test_one_that_became_somebodys_since_the_look_is_not_renewed() -> None:
    async with make_world() as world:
        await spares(world, 1)
        (one,) = await library(world)
        # the row has an owner by now; the look saw it without
        owner_id = world.users["pupil1"].id
        entry = decision(world.kit, "desktop.assign", "asked for", about={})
        await world.kit.store.desktops.assign(one.id, owner_id, one.generation, entry)
        with pytest.raises(IllegalTransitionError, match="somebody's by now"):
            await acts(world).renew(RenewDesktop(desktop=one, why="old"))


async def test_what_was_there_before_images_were_kept_is_renewed_once_the_pool_changes() -> None:
    async with make_world() as world:
        await spares(world, 2)
        for one in await library(world):
            await forgotten(world, one)
        await looks(world, 3)
        assert {one.image_id for one in await library(world)} == {None}
        _, new = await next_version(world)
        await world.services.directory.change_pool("library", image="win")
        await looks(world)
        assert {one.image_id for one in await library(world)} == {new}


async def test_an_image_that_does_not_exist_leaves_the_pool_as_it_was() -> None:
    async with make_world() as world:
        before = await world.pools.find("library")
        with pytest.raises(BadRequestError):
            await world.services.directory.change_pool("library", image="win@77", title="New")
        world.pools.forget()
        assert await world.pools.find("library") == before


async def test_a_roster_that_names_another_version_renews_spares_too() -> None:
    async with make_world() as world:
        await spares(world, 1)
        old, new = await next_version(world)
        pool, image = await world.pools.find("library"), await world.pools.image(old)
        row = (
            "name,title,architecture,kind,image,cpus,memory_mib,spares,max,log_off\n"
            f"library,Library,vdi,floating,{image.name}@{image.version + 1},2,4096,1,9,reset\n"
        )
        assert pool.image_since is None
        await world.services.directory.import_roster({"pools.csv": row}, check_only=False)
        assert (await world.pools.find("library")).image_since == world.clock.now()
        await looks(world)
        ready = [one for one in await library(world) if one.state is D.READY]
        assert {one.image_id for one in ready} == {new}


async def test_a_renewal_waits_for_its_hosts_turn_as_any_reset() -> None:
    async with make_world() as world:
        await spares(world, 1)
        (one,) = await library(world)
        await acts(world).renew(RenewDesktop(desktop=one, why="old"))
        now = await world.kit.store.desktops.desktop(one.id)
        assert now is not None
        assert (now.state, now.generation, now.deadline_at) == (D.RESETTING, 2, None)
