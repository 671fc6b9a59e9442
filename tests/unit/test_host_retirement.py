"""A host that does not come back gives up its machines, once, and only what may be given up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.domain.errors import ConflictError, HostHoldsWorkError, IllegalTransitionError
from broker.domain.lifecycle import HostEvent
from broker.domain.model import (
    DesktopState,
    HostState,
    LogOff,
    PoolKind,
    SessionState,
)
from broker.domain.settings import ServiceState
from broker.ports import PageQuery, RosterChange
from tests.support.builders import make_host
from tests.support.world import World, make_world

D = DesktopState
ADMIN = "usr_operator"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as world:
        await world.look(4)
        yield world


async def lost(world: World) -> None:
    await world.services.site.set_host_lost("hst_1", lost=True, actor=ADMIN)
    world.engine.off.add("hst_1")


async def on_host(world: World, host_id: str = "hst_1") -> list[DesktopState]:
    return [one.state for one in await world.desktops() if one.host_id == host_id]


async def test_a_lost_hosts_machines_end_and_its_session_is_told(world: World) -> None:
    asked = await world.connect.connect(world.who("pupil0"), "library")
    await lost(world)
    retired = await world.services.host_retirement.retire("server-1", give_up=False, actor=ADMIN)
    assert retired.state is HostState.RETIRED
    assert await on_host(world) == []
    session = await world.kit.store.sessions.session(asked.session.id)
    assert session is not None
    assert session.state is SessionState.FAILED
    assert "retired" in session.why
    await world.look(3)
    assert await on_host(world) == []
    query = PageQuery(filters={"action": "host.retire"})
    (entry,) = (await world.kit.store.audit.entries(query)).items
    assert (entry.actor, entry.host_id) == (ADMIN, "hst_1")


async def test_peoples_work_is_given_up_only_on_purpose(world: World) -> None:
    pool = await world.pools.find("library")
    kept = replace(pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
    await world.kit.store.directory.save_pool(kept, new=False)
    world.pools.forget()
    asked = await world.connect.connect(world.who("pupil0"), "library")
    await world.sessions.log_off(world.who("pupil0"), asked.session.id)
    await lost(world)
    with pytest.raises(HostHoldsWorkError) as refused:
        await world.services.host_retirement.retire("hst_1", give_up=False, actor=ADMIN)
    assert refused.value.fields["desktops"] == 1
    assert (await world.services.site.host("hst_1")).state is HostState.DOWN
    await world.services.host_retirement.retire("hst_1", give_up=True, actor=ADMIN)
    assert await on_host(world) == []


async def test_a_host_that_serves_or_is_not_empty_is_not_retired(world: World) -> None:
    retire = world.services.host_retirement.retire
    with pytest.raises(IllegalTransitionError, match="lost, or put it under maintenance"):
        await retire("hst_1", give_up=True, actor=ADMIN)
    await world.services.site.set_host_state("hst_1", ServiceState.MAINTENANCE, actor=ADMIN)
    with pytest.raises(ConflictError):
        await retire("hst_1", give_up=True, actor=ADMIN)
    await world.look(4)
    assert (await retire("hst_1", give_up=False, actor=ADMIN)).state is HostState.RETIRED
    with pytest.raises(IllegalTransitionError, match="server-1 is retired already"):
        await retire("hst_1", give_up=False, actor=ADMIN)


async def test_what_a_restart_left_there_is_given_up_later(world: World) -> None:
    await lost(world)
    now = world.clock.now()
    await world.kit.store.directory.move_host("hst_1", HostEvent.RETIRED, now)
    assert await on_host(world)
    world.clock.advance(11)
    await world.look(2)
    assert await on_host(world) == []


async def test_one_that_is_put_back_begins_empty(world: World) -> None:
    await lost(world)
    await world.services.host_retirement.retire("hst_1", give_up=False, actor=ADMIN)
    world.engine.off.clear()
    await world.services.site.set_host_state("hst_1", ServiceState.OPEN, actor=ADMIN)
    left = set(world.engine.known)
    for _ in range(3):
        world.clock.advance(31)
        await world.reconciler._strays.look([world.engine])
        await world.look(2)
    assert not left & set(world.engine.known)
    assert await on_host(world) == [D.READY, D.READY]


async def test_removals_that_cannot_be_done_block_no_replacement_and_the_size_holds(
    world: World,
) -> None:
    pool = await world.pools.find("library")
    full = replace(pool, spares_min=2, size_max=2)
    await world.kit.store.directory.save_pool(full, new=False)
    world.pools.forget()
    await world.kit.store.directory.apply_roster(
        RosterChange(hosts=(make_host(id="hst_2", name="server-2"),))
    )
    gone = [one for one in await world.desktops() if one.host_id == "hst_1"]
    await lost(world)
    for _ in range(4):
        world.clock.advance(31)
        await world.look(2)
    assert await on_host(world, "hst_2") == [D.READY, D.READY]
    assert await on_host(world) == [D.DELETING] * len(gone)
    world.engine.off.clear()
    await world.services.site.set_host_lost("hst_1", lost=False, actor=ADMIN)
    for _ in range(10):
        world.clock.advance(31)
        await world.look(2)
        alive = [one for one in await world.desktops(D.READY) if one.host_id is not None]
        assert len(alive) <= full.size_max
    assert await on_host(world) == []
    assert await on_host(world, "hst_2") == [D.READY, D.READY]
