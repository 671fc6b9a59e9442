"""Hosts switched by administrators, and what becomes of desktops on hosts that are lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    RosterError,
    UnsupportedError,
)
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import (
    Desktop,
    DesktopState,
    Host,
    HostState,
    LogOff,
    PoolKind,
    Resources,
    SessionState,
)
from broker.ports import PageQuery
from broker.services.origin import Origin
from broker.services.reconciler.chores import SILENCE_S
from tests.support.builders import make_host
from tests.support.seats import read, sit_down
from tests.support.world import World, make_world

HERE = Origin(source="10.0.0.9", request_id="req_1")


async def host_of(world: World, name: str) -> Host:
    return await world.services.site.host(name)


async def pool_is(world: World, **changes: object) -> None:
    pool = await world.pools.find("library")
    await world.kit.store.directory.save_pool(replace(pool, **changes), new=False)  # type: ignore[arg-type]
    world.pools.forget()


async def declared_lost(world: World, desktop: Desktop) -> None:
    host_id = desktop.host_id or ""
    await world.services.site.set_host_lost(
        host_id, lost=True, actor="usr_alice", why="the rack burned", origin=HERE
    )
    world.clock.advance(SILENCE_S + 1)
    await world.look()


async def desktop_now(world: World, desktop: Desktop) -> Desktop:
    found = await world.kit.store.desktops.desktop(desktop.id)
    assert found is not None
    return found


async def test_sessions_on_a_lost_host_end_with_why_and_its_desktops_fail() -> None:
    async with make_world() as world:
        await world.look(3)
        begun = await sit_down(world, "pupil1", None)
        assert begun.desktop is not None
        ready = (await world.desktops(DesktopState.READY))[0]
        await declared_lost(world, begun.desktop)
        session = await read(world, begun.session.id)
        assert session.state is SessionState.FAILED
        assert "is down (the rack burned)" in session.why
        gone = {DesktopState.FAILED, DesktopState.DELETING, DesktopState.DELETED}
        for desktop in (begun.desktop, ready):
            assert (await desktop_now(world, desktop)).state in gone


async def test_a_lost_host_is_made_up_for_on_another() -> None:
    async with make_world() as world:
        await world.look(3)
        second = make_host(id="hst_second", name="server-second")
        await world.kit.store.directory.save_host(second, new=True)
        ready = (await world.desktops(DesktopState.READY))[0]
        await declared_lost(world, ready)
        await world.look(4)
        fresh = await world.desktops(DesktopState.READY)
        assert fresh
        assert {one.host_id for one in fresh} == {second.id}


async def test_what_lies_on_the_disk_of_a_lost_host_waits_for_it() -> None:
    async with make_world() as world:
        await world.look(3)
        await pool_is(world, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
        begun = await sit_down(world, "pupil1", None)
        assert begun.desktop is not None
        asleep = (await world.desktops(DesktopState.READY))[0]
        for event in (DesktopEvent.SUSPEND_ASKED, DesktopEvent.SUSPENDED):
            await world.kit.store.desktops.advance(asleep.id, event, world.clock.now())
        await declared_lost(world, begun.desktop)
        session = await read(world, begun.session.id)
        assert session.state is SessionState.ENDED
        assert "is down" in session.why
        kept = await desktop_now(world, begun.desktop)
        assert (kept.state, kept.generation) == (DesktopState.READY, begun.desktop.generation)
        assert (await desktop_now(world, asleep)).state is DesktopState.SUSPENDED


async def test_a_host_on_which_nothing_runs_is_switched_off_and_on() -> None:
    async with make_world() as world:
        empty = make_host(id="hst_empty", name="server-empty")
        await world.kit.store.directory.save_host(empty, new=True)
        power = world.services.host_power
        going = await power.ask("server-empty", on=False, actor="usr_alice", origin=HERE)
        assert going.state is HostState.POWERING_OFF
        await world.settle()
        await world.look()
        assert (await host_of(world, "server-empty")).state is HostState.OFF
        coming = await power.ask("hst_empty", on=True, actor="usr_alice")
        assert coming.state is HostState.POWERING_ON
        query = PageQuery(filters={"host_id": empty.id, "action": "host.power_off"})
        [entry] = (await world.kit.store.audit.entries(query)).items
        assert (entry.actor, entry.source, entry.request_id) == ("usr_alice", "10.0.0.9", "req_1")


async def test_a_host_with_machines_or_without_the_means_is_not_switched_off() -> None:
    async with make_world() as world:
        await world.look(3)
        host_id = (await world.desktops(DesktopState.READY))[0].host_id or ""
        power = world.services.host_power
        with pytest.raises(ConflictError, match="library-001"):
            await power.ask(host_id, on=False, actor="usr_alice")
        world.engine.can = frozenset()
        with pytest.raises(UnsupportedError):
            await power.ask(host_id, on=False, actor="usr_alice")
        with pytest.raises(NotFoundError):
            await power.ask("nowhere", on=True, actor="usr_alice")
        assert (await host_of(world, host_id)).state is HostState.UP


async def add(world: World, name: str) -> Host:
    return await world.services.directory.add_host(
        name=name,
        engine="simulated",
        profile="",
        capacity=Resources(cpus=8, memory_mib=16_384),
        overcommit_cpu=1.0,
        start_limit=4,
    )


async def test_a_name_that_is_taken_says_so_and_that_it_is_a_retired_hosts() -> None:
    async with make_world() as world:
        await world.look(4)
        with pytest.raises(AlreadyExistsError, match=r"a host 'server-1' exists$"):
            await add(world, "server-1")
        await world.services.site.set_host_lost("server-1", lost=True, actor="usr_alice")
        retire = world.services.host_retirement.retire
        await retire("server-1", give_up=False, actor="usr_alice")
        with pytest.raises(AlreadyExistsError, match="exists, retired; its name stays taken"):
            await add(world, "server-1")
        roster = "name,engine,cpus,memory_mib\nserver-1,libvirt,8,16384\n"
        with pytest.raises(RosterError, match=r"is a retired host .* its name stays taken"):
            await world.services.directory.import_roster({"hosts.csv": roster}, check_only=True)


async def test_a_group_that_is_not_there_says_how_groups_are_added() -> None:
    async with make_world() as world:
        with pytest.raises(BadRequestError, match=r"groups are added by an import \(groups.csv\)"):
            await world.services.directory.group_ids(["nix"])
