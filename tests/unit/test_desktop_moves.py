"""An administrator moves one desktop to a named host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import (
    BusyError,
    HostRefusedError,
    IllegalTransitionError,
    NotFoundError,
    UnsupportedError,
)
from broker.domain.features import Feature
from broker.domain.model import Desktop, DesktopState, Host, SessionState
from broker.domain.settings import ServiceState
from broker.ports import PageQuery
from tests.support.world import World, make_world

D = DesktopState
ADMIN = "usr_operator"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as world:
        await world.look(4)
        yield world


async def second(world: World) -> Host:
    """One more host of the first one's kind: server-2."""
    [load] = await world.kit.store.directory.host_loads()
    return await world.services.directory.add_host(
        name="server-2",
        engine=load.host.engine,
        profile=load.host.profile,
        capacity=load.host.capacity,
        overcommit_cpu=load.host.overcommit_cpu,
        start_limit=load.host.start_limit,
    )


async def move(world: World, desktop: Desktop, host: str = "server-2") -> Desktop:
    return await world.services.desktop_moves.move(desktop.id, host, actor=ADMIN)


async def read(world: World, desktop: Desktop) -> Desktop:
    found = await world.kit.store.desktops.desktop(desktop.id)
    assert found is not None
    return found


async def in_use(world: World) -> Desktop:
    asked = await world.connect.connect(world.who("pupil0"), "library")
    assert asked.desktop is not None
    await world.sessions.shown(asked.session, browser="tok", display="dsp_1")
    return await read(world, asked.desktop)


async def entries(world: World, desktop: Desktop) -> list[tuple[str, str]]:
    query = PageQuery(filters={"desktop_id": desktop.id, "action": "desktop.move"})
    found = (await world.kit.store.audit.entries(query)).items
    return [(one.actor, one.outcome.value) for one in found]


async def test_one_in_use_goes_to_the_named_host_and_its_session_goes_on(world: World) -> None:
    desktop, host = await in_use(world), await second(world)
    begun = await move(world, desktop)
    assert (begun.moving_to, begun.state) == (host.id, D.ASSIGNED)
    await world.look(1)
    moved = await read(world, desktop)
    assert (moved.host_id, moved.moving_to, moved.state) == (host.id, None, D.ASSIGNED)
    assert moved.generation == desktop.generation
    live = (await world.kit.store.sessions.sessions(PageQuery())).items
    assert [one.state for one in live] == [SessionState.ACTIVE]
    assert ("migrate", desktop.name) in world.engine.done
    assert await entries(world, desktop) == [(ADMIN, "done")]


async def test_the_hosts_that_could_take_it_are_told(world: World) -> None:
    desktop, host = await in_use(world), await second(world)
    ways = await world.services.desktop_moves.ways_out(desktop)
    assert [one.host.id for one in ways.open] == [host.id]
    await world.services.site.set_host_state(host.id, ServiceState.DRAINING, actor=ADMIN)
    ways = await world.services.desktop_moves.ways_out(desktop)
    assert (ways.open, [one.refusal for one in ways.hosts]) == ((), ["server-2 drains"])


# --------------------------------------------------------------------------- refused


async def test_a_closed_host_takes_nothing(world: World) -> None:
    desktop, host = await in_use(world), await second(world)
    await world.services.site.set_host_state(host.id, ServiceState.MAINTENANCE, actor=ADMIN)
    with pytest.raises(HostRefusedError, match="server-2 is under maintenance"):
        await move(world, desktop)
    assert (await read(world, desktop)).moving_to is None


async def test_a_host_is_named_that_is_there_and_another(world: World) -> None:
    desktop = await in_use(world)
    with pytest.raises(HostRefusedError, match="is on server-1 already"):
        await move(world, desktop, "server-1")
    with pytest.raises(NotFoundError, match="no host 'server-7'"):
        await move(world, desktop, "server-7")
    with pytest.raises(NotFoundError, match="no desktop"):
        await move(world, replace(desktop, id="dsk_none"))


async def test_engines_that_cannot_say_so(world: World) -> None:
    desktop = await in_use(world)
    await second(world)
    own = next(one for one in await world.desktops() if one.endpoint_id is not None)
    with pytest.raises(UnsupportedError, match="endpoint's own"):
        await move(world, own)
    world.engine.can = frozenset(Feature) - {Feature.MIGRATE}
    with pytest.raises(UnsupportedError, match="server-1 cannot move running desktops"):
        await move(world, desktop)


async def test_a_host_of_an_engine_that_is_not_here_is_none_to_go_to(world: World) -> None:
    desktop, host = await in_use(world), await second(world)
    away = replace(host, id="hst_9", name="server-9", engine="elsewhere")
    await world.kit.store.directory.save_host(away, new=True)
    with pytest.raises(UnsupportedError, match="no engine here is called 'elsewhere'"):
        await move(world, desktop, "server-9")


# ------------------------------------------------------------------------------ races


async def test_of_two_orders_at_once_one_is_done(world: World) -> None:
    desktop, _ = await in_use(world), await second(world)
    outcomes = await asyncio.gather(
        move(world, desktop), move(world, desktop), return_exceptions=True
    )
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [IllegalTransitionError]
    await world.look(1)
    assert world.engine.done.count(("migrate", desktop.name)) == 1


async def test_a_restart_waits_for_a_move_and_a_move_for_a_restart(world: World) -> None:
    desktop, host = await in_use(world), await second(world)
    await move(world, desktop)
    with pytest.raises(IllegalTransitionError, match="wait until it is there"):
        await world.services.desktop_restarts.restart(desktop.id, actor=ADMIN)
    await world.look(1)
    world.engine.silent = True
    await world.services.desktop_restarts.restart(desktop.id, actor=ADMIN)
    with pytest.raises(IllegalTransitionError, match="only a desktop that runs is moved"):
        await move(world, desktop, "server-1")
    assert (await read(world, desktop)).host_id == host.id


async def test_a_person_who_logs_off_meanwhile_leaves_a_desktop_that_is_made_fresh(
    world: World,
) -> None:
    desktop, _ = await in_use(world), await second(world)
    await move(world, desktop)
    [live] = (await world.kit.store.sessions.sessions(PageQuery())).items
    await world.sessions.log_off(world.who("pupil0"), live.id)
    await world.look(3)
    now = await read(world, desktop)
    assert (now.state, now.generation, now.moving_to) == (D.READY, desktop.generation + 1, None)


async def test_a_move_waits_for_the_planners_look_and_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOVE_TURN_S", 0.01)
    desktop, _ = await in_use(world), await second(world)
    async with world.reconciler.turn:
        with pytest.raises(BusyError):
            await move(world, desktop)
    assert (await move(world, desktop)).moving_to is not None


async def test_a_migration_that_fails_leaves_it_where_it_is(world: World) -> None:
    desktop, _ = await in_use(world), await second(world)
    world.engine.failing.add("migrate")
    await move(world, desktop)
    for _ in range(limits.JOB_ATTEMPTS_MAX):
        await world.look(1)
        world.clock.advance(60)
    stayed = await read(world, desktop)
    assert (stayed.host_id, stayed.moving_to) == (desktop.host_id, None)
    assert stayed.state is D.ASSIGNED
