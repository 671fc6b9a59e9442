"""The planner in a small world: whatever the start, it settles, and never passes a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.model import DesktopState as D
from broker.domain.model import HostState, Resources
from broker.domain.planning import ClearDesktop, MakeDesktop, MigrateDesktop, NoRoom, PowerHost
from broker.domain.planning.needs import assess
from broker.domain.settings import HostSettings, PoolSettings, Share, SiteSettings, Spread
from tests.support.builders import make_pool
from tests.support.planning import (
    ALL_FEATURES,
    SLEEPS,
    PlannedWorld,
    make_world,
    of,
    of_effect,
)

SMALL = Resources(cpus=1, memory_mib=1024, disk_mib=4096)


def room_holds(world: PlannedWorld) -> None:
    """No host is promised more than it may be, and nothing more is guaranteed than it has."""
    shares = {pool.id: pool.settings.guarantee for pool in world.pools}
    for load in world.view().hosts:
        host, used = load.host, load.used
        limit = host.capacity
        assert used.memory_mib <= limit.memory_mib * host.settings.overcommit_memory
        assert used.cpus <= limit.cpus * host.overcommit_cpu + 1e-6
        if limit.disk_mib:
            assert used.disk_mib <= limit.disk_mib * host.settings.overcommit_disk
        kept = sum(one.memory_mib * shares[key].memory for key, one in load.by_pool.items())
        assert kept <= limit.memory_mib + 1e-6
        kept = sum(one.cpus * shares[key].cpus for key, one in load.by_pool.items())
        assert kept <= limit.cpus + 1e-6
        assert load.starting <= host.start_limit
    for pool in world.pools:
        assert len(world.rows(pool_id=pool.id)) <= pool.size_max
    if world.site.desktops_max:
        assert len(world.desktops) <= world.site.desktops_max
    if world.site.memory_mib_max:
        running = [row for row in world.rows() if row.state not in SLEEPS]
        total = sum(row.resources.memory_mib for row in running)
        assert total <= world.site.memory_mib_max


POOLS = st.builds(
    lambda n, spares, size, asleep, batch, least, spread, apart, keep: make_pool(
        id=f"pol_{n}",
        name=f"pool-{n}",
        resources=SMALL,
        spares_min=spares,
        size_max=size,
        settings=PoolSettings(
            spares_suspended=asleep,
            refill_batch=batch,
            size_min=min(least, size),
            spread=spread,
            apart=apart,
            guarantee=Share(cpus=keep, memory=keep),
        ),
    ),
    st.integers(1, 3),
    st.integers(0, 8),
    st.integers(0, 20),
    st.integers(0, 4),
    st.integers(1, 10),
    st.integers(0, 6),
    st.sampled_from(Spread),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1.0]),
)


@st.composite
def worlds(draw: st.DrawFn) -> PlannedWorld:
    pools = draw(st.lists(POOLS, min_size=1, max_size=3, unique_by=lambda one: one.id))
    world = make_world(
        *pools,
        hosts=draw(st.integers(1, 4)),
        capacity=Resources(
            cpus=draw(st.integers(2, 12)),
            memory_mib=draw(st.integers(2, 12)) * 1024,
            disk_mib=draw(st.sampled_from([0, 40_960])),
        ),
        overcommit_cpu=draw(st.sampled_from([1.0, 4.0])),
        start_limit=draw(st.integers(1, 5)),
        settings=HostSettings(power_managed=draw(st.booleans()), idle_off_s=300),
    )
    world.features = draw(st.sampled_from([frozenset(), ALL_FEATURES]))
    world.site = SiteSettings(
        desktops_max=draw(st.sampled_from([0, 5])),
        memory_mib_max=draw(st.sampled_from([0, 6144])),
        rebalance_above=draw(st.sampled_from([0.0, 0.7])),
    )
    world.step_s = draw(st.sampled_from([1, 120]))
    for pool in pools:
        world.waiting[pool.id] = draw(st.integers(0, 6))
    for host_id in draw(st.lists(st.sampled_from(sorted(world.hosts)), max_size=2)):
        state = draw(st.sampled_from(HostState))
        world.hosts[host_id] = replace(world.hosts[host_id], state=state)
    return world


@settings(deadline=None)
@given(worlds())
def test_no_look_passes_a_limit_and_everything_settles(world: PlannedWorld) -> None:
    for _ in range(12):
        world.look()
        room_holds(world)
        world.now += world.step_s * 1000
        world.finish()
    world.step_s = 400
    world.settle(80)
    # and it stays so: nothing comes and goes
    assert of_effect(world.step()) == []
    world.now += 10 * 3600 * 1000
    assert of_effect(world.step()) == []


@settings(deadline=None)
@given(worlds())
def test_once_settled_a_pool_has_its_spares_or_it_is_told_why_not(world: PlannedWorld) -> None:
    world.step_s = 400
    world.settle(80)
    view = world.view()
    commands = world.look()
    told = {one.pool.id for one in of(NoRoom, commands)}
    for need in assess(view):
        full = need.existing >= need.pool.size_max
        assert full or need.pool.id in told or (not need.short and not need.to_make(0))


def test_the_same_view_gives_the_same_plan() -> None:
    world = make_world(make_pool(spares_min=5))
    twin = make_world(make_pool(spares_min=5))
    assert world.look() == twin.look()


def test_people_who_log_off_and_on_again_do_not_make_machines_come_and_go() -> None:
    pool = make_pool(spares_min=2, size_max=40, settings=PoolSettings(scale_in_after_s=900))
    world = make_world(pool, hosts=4)
    world.step_s = 60
    world.waiting[pool.id] = 10
    world.settle()
    assert len(world.rows(D.ASSIGNED)) == 10
    moved: list[object] = []
    for turn in range(40):
        # every ten minutes five people are away for five minutes
        if turn % 10 == 0:
            for row in world.rows(D.ASSIGNED)[:5]:
                world.put(row, state=D.READY)
        if turn % 10 == 5:
            world.waiting[pool.id] = 5
        moved += of_effect(world.step())
    assert moved == []


def test_a_surplus_goes_after_its_time_and_not_before() -> None:
    pool = make_pool(spares_min=2, size_max=40, settings=PoolSettings(scale_in_after_s=900))
    world = make_world(pool, hosts=4)
    for _ in range(6):
        world.add(state=D.READY)
    world.step_s = 60
    began = world.now
    while not of(ClearDesktop, commands := world.step()):
        assert world.now < began + 3600 * 1000
    assert len(of(ClearDesktop, commands)) == 4
    assert world.now - began == (900 + 60) * 1000
    assert world.settle() == 0
    assert len(world.rows(D.READY)) == 2


def test_migrations_end_and_never_go_back() -> None:
    world = make_world(make_pool(spares_min=0, size_max=60, resources=SMALL), hosts=3,
                       capacity=Resources(cpus=64, memory_mib=20 * 1024))  # fmt: skip
    world.site = SiteSettings(rebalance_above=0.6, rebalance_by=0.1)
    for _ in range(18):
        world.add(state=D.ASSIGNED, host_id="hst_1", resources=SMALL)
    moved: list[MigrateDesktop] = []
    for _ in range(40):
        moved += of(MigrateDesktop, world.step())
    assert len({one.desktop.id for one in moved}) == len(moved) == 8
    on_first = sum(row.host_id == "hst_1" for row in world.rows())
    assert on_first == 10
    assert world.settle() == 0


@pytest.mark.parametrize("hosts", [2, 5])
def test_hosts_go_off_at_night_and_come_back_in_the_morning(hosts: int) -> None:
    night = make_pool(spares_min=0, size_max=60, resources=SMALL)
    world = make_world(
        night,
        hosts=hosts,
        capacity=Resources(cpus=64, memory_mib=8 * 1024),
        settings=HostSettings(power_managed=True, idle_off_s=600),
    )
    world.step_s = 60
    world.settle(30)
    for _ in range(30):
        world.step()
    on = [host for host in world.hosts.values() if host.state is HostState.UP]
    assert len(on) == 1  # one stays, for the first person of the day
    world.pools = [replace(night, spares_min=8 * hosts)]
    switched: list[PowerHost] = []
    for _ in range(30):
        switched += of(PowerHost, world.step())
    assert len(switched) == hosts - 1
    assert all(one.on for one in switched)
    assert len(world.rows(D.READY)) == 8 * hosts
    assert len({one.host_id for one in world.rows(D.READY)}) == hosts


def test_making_is_spread_over_looks_by_the_batch() -> None:
    pool = make_pool(spares_min=9, size_max=20, settings=PoolSettings(refill_batch=4))
    world = make_world(pool)
    assert [len(of(MakeDesktop, world.step())) for _ in range(4)] == [4, 4, 1, 0]
