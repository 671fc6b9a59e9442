"""What administrators do with one desktop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import ConflictError, DesktopInUseError, NotFoundError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, LogOff, PoolKind
from broker.ports import FreshOrder, PageQuery
from broker.services.desktop_care import DesktopCare
from tests.support.world import World, make_world

D = DesktopState
ADMIN = "usr_operator"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as world:
        for name in ("library", "art"):
            pool = await world.pools.find(name)
            kept = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
            await world.kit.store.directory.save_pool(kept, new=False)
        world.pools.forget()
        await world.look(4)
        yield world


def care(world: World) -> DesktopCare:
    return world.services.desktop_care


async def read(world: World, desktop: Desktop) -> Desktop:
    found = await world.kit.store.desktops.desktop(desktop.id)
    assert found is not None
    return found


async def owned(world: World, username: str = "pupil0") -> Desktop:
    asked = await world.connect.connect(world.who(username), "library")
    assert asked.desktop is not None
    await world.sessions.log_off(world.who(username), asked.session.id)
    row = await read(world, asked.desktop)
    assert (row.state, row.owner_id) == (D.READY, f"usr_{username}")
    return row


async def free(world: World) -> Desktop:
    rows = await world.desktops(D.READY)
    return next(one for one in rows if one.host_id is not None and one.owner_id is None)


async def told(world: World, desktop: Desktop, action: str) -> tuple[str, object]:
    query = PageQuery(filters={"desktop_id": desktop.id, "action": action})
    (entry,) = (await world.kit.store.audit.entries(query)).items
    return entry.actor, entry.details.get("owner_id")


async def test_what_is_taken_back_is_made_fresh_before_anybody_else_has_it(world: World) -> None:
    row = await owned(world)
    taken = await care(world).unassign(row.id, actor=ADMIN)
    assert (taken.owner_id, taken.state) == (None, D.RESETTING)
    assert taken.generation == row.generation + 1
    await world.look(3)
    assert (await read(world, row)).state is D.READY
    assert ("reset", row.name) in world.engine.done
    assert await told(world, row, "desktop.unassign") == (ADMIN, "usr_pupil0")
    with pytest.raises(ConflictError):
        await care(world).unassign(row.id, actor=ADMIN)


async def test_a_reset_keeps_whose_it_is_and_nothing_else(world: World) -> None:
    row = await owned(world)
    fresh = await care(world).reset(row.id, actor=ADMIN)
    assert (fresh.owner_id, fresh.generation) == ("usr_pupil0", row.generation + 1)
    await world.look(3)
    assert (await read(world, row)).state is D.READY
    assert ("reset", row.name) in world.engine.done


async def test_a_kept_one_that_cannot_be_started_goes_when_it_is_asked(world: World) -> None:
    row = await owned(world)
    world.engine.failing.add("resume")
    await world.works.lost(row, "it crashed")
    await world.look(2)
    gone = await care(world).delete((await read(world, row)).id, actor=ADMIN)
    await world.look(3)
    assert gone.state is D.DELETING
    assert (await read(world, row)).state is D.DELETED
    assert await told(world, row, "desktop.delete") == (ADMIN, "usr_pupil0")


async def test_a_free_one_is_given_and_its_new_owner_gets_it(world: World) -> None:
    row = await free(world)
    assert (await care(world).assign(row.id, "pupil7", actor=ADMIN)).owner_id == "usr_pupil7"
    other = await world.connect.connect(world.who("pupil1"), "library")
    assert other.session.desktop_id != row.id
    own = await world.connect.connect(world.who("pupil7"), "library")
    assert own.session.desktop_id == row.id
    assert await told(world, row, "desktop.assign") == (ADMIN, "usr_pupil7")


async def test_nobody_gets_two_nor_somebody_elses_nor_one_of_a_floating_pool(world: World) -> None:
    theirs, spare = await owned(world, "pupil1"), await free(world)
    for desktop, user in ((theirs, "pupil2"), (spare, "pupil1")):
        with pytest.raises(ConflictError):
            await care(world).assign(desktop.id, user, actor=ADMIN)
    with pytest.raises(NotFoundError):
        await care(world).assign(spare.id, "nobody", actor=ADMIN)
    pool = await world.pools.find("library")
    floating = replace(pool, kind=PoolKind.FLOATING, log_off=LogOff.RESET)
    await world.kit.store.directory.save_pool(floating, new=False)
    world.pools.forget()
    with pytest.raises(ConflictError):
        await care(world).assign(spare.id, "pupil2", actor=ADMIN)


@pytest.mark.parametrize("verb", ["unassign", "reset", "delete", "assign"])
async def test_nothing_is_done_under_a_live_session(world: World, verb: str) -> None:
    asked = await world.connect.connect(world.who("pupil0"), "library")
    assert asked.desktop is not None
    more = ("pupil0",) if verb == "assign" else ()
    with pytest.raises(DesktopInUseError):
        await getattr(care(world), verb)(asked.desktop.id, *more, actor=ADMIN)
    assert (await read(world, asked.desktop)).state is D.ASSIGNED


# ----------------------------------------------------------------------- on endpoints


async def on_endpoint(world: World) -> Desktop:
    endpoint = await world.online("ART-0")
    asked = await world.connect.connect(world.who("pupil0"), "art", "ART-0")
    assert asked.desktop is not None
    await world.sessions.live(endpoint.id, asked.session.id, asked.session.generation)
    await world.sessions.log_off(world.who("pupil0"), asked.session.id)
    world.clock.advance(limits.ENDING_S + 1)
    await world.look(3)
    row = await read(world, asked.desktop)
    assert (row.state, row.owner_id) == (D.READY, "usr_pupil0")
    return row


@pytest.mark.parametrize("away", [False, True])
async def test_an_endpoints_desktop_is_taken_back_also_while_it_is_away(
    world: World, *, away: bool
) -> None:
    row = await on_endpoint(world)
    if away:
        await world.offline("ART-0")
    taken = await care(world).unassign(row.id, actor=ADMIN)
    assert (taken.owner_id, taken.generation) == (None, row.generation + 1)
    assert taken.state is (D.UNAVAILABLE if away else D.RESETTING)
    if away:
        await world.online("ART-0")
    else:
        await world.settle()
        await world.delivery.sweep()
        await world.answer_fresh(row.endpoint_id or "")
    orders = world.orders(row.endpoint_id or "", FreshOrder)
    assert orders[-1].generation == row.generation + 1
    assert (await read(world, row)).state is D.READY


async def test_an_endpoints_desktop_is_not_removed_nor_reset_over_its_owners_work(
    world: World,
) -> None:
    row = await on_endpoint(world)
    for verb in (care(world).delete, care(world).reset):
        with pytest.raises(ConflictError):
            await verb(row.id, actor=ADMIN)
    assert (await read(world, row)).state is D.READY


async def test_what_is_suspended_is_renewed_too(world: World) -> None:
    row = await owned(world)
    store, now = world.kit.store.desktops, world.clock.now()
    await store.advance(row.id, DesktopEvent.SUSPEND_ASKED, now, deadline_at=now + 9999)
    await store.advance(row.id, DesktopEvent.SUSPENDED, now)
    world.engine.asleep.add(row.id)
    await care(world).unassign(row.id, actor=ADMIN)
    await world.look(3)
    after = await read(world, row)
    assert (after.state, after.owner_id) == (D.READY, None)
