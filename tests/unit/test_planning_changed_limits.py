"""What happens when somebody changes capacity, labels or limits under what is there already."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from broker.domain.features import Feature
from broker.domain.model import DesktopState
from broker.domain.planning import ClearDesktop, MigrateDesktop, NoRoom, ResizeDesktop
from broker.domain.settings import HostSettings, PoolSettings, Share, SiteSettings, Spread
from tests.support.builders import make_pool
from tests.support.planning import ALL_FEATURES, PlannedWorld, make_world, of, of_effect

D = DesktopState
NEITHER = frozenset({Feature.SUSPEND, Feature.HOST_POWER})


def per_host(world: PlannedWorld) -> Counter[str | None]:
    return Counter(row.host_id for row in world.rows())


def labelled(world: PlannedWorld, host_id: str, *labels: str) -> None:
    host = world.hosts[host_id]
    world.hosts[host_id] = replace(host, settings=replace(host.settings, labels=labels))


# ------------------------------------------------------------------------- the site


@pytest.mark.parametrize(
    ("site", "left"),
    [(SiteSettings(desktops_max=5), 5), (SiteSettings(memory_mib_max=5 * 4096), 5)],
)
def test_spares_beyond_the_sites_new_limit_go_and_stay_away(site: SiteSettings, left: int) -> None:
    pools = [make_pool(id=f"pol_{n}", name=f"pool-{n}", spares_min=4) for n in (1, 2)]
    world = make_world(*pools)
    world.settle()
    assert len(world.rows()) == 8
    world.site = site
    world.settle()
    assert len(world.rows()) == left
    assert max(Counter(row.pool_id for row in world.rows()).values()) == 3
    assert of_effect(world.step()) == []


def test_nobody_loses_what_he_uses_to_the_sites_new_limit() -> None:
    world = make_world(make_pool(spares_min=1))
    for _ in range(4):
        world.add(state=D.ASSIGNED)
    world.settle()
    world.site = SiteSettings(desktops_max=2)
    world.settle()
    assert Counter(row.state for row in world.rows()) == {D.ASSIGNED: 4}


def test_no_more_go_than_are_too_many_while_the_first_are_being_removed() -> None:
    world = make_world(make_pool(spares_min=8))
    world.settle()
    world.site = SiteSettings(desktops_max=5)
    assert len(of(ClearDesktop, world.look())) == 3
    assert of(ClearDesktop, world.look()) == []


# ----------------------------------------------------------------------- a host


@pytest.mark.parametrize("features", [ALL_FEATURES, NEITHER])
def test_spares_leave_a_host_that_holds_more_than_it_may(features: frozenset[Feature]) -> None:
    world = make_world(make_pool(spares_min=20, size_max=30))
    world.features = features
    world.settle()
    host = world.hosts["hst_1"]
    world.hosts["hst_1"] = replace(host, capacity=replace(host.capacity, memory_mib=2 * 4096))
    world.settle()
    assert per_host(world) == {"hst_1": 2, "hst_2": 18}


def test_what_leaves_an_overfull_host_moves_if_it_runs_and_can_and_says_why() -> None:
    pool = make_pool(spares_min=0, size_max=30)
    world = make_world(pool)
    rows = [world.add(state=D.SUSPENDED), *(world.add(state=D.READY) for _ in range(4))]
    host = world.hosts["hst_1"]
    one_left = replace(host.capacity, memory_mib=4096)
    world.hosts["hst_1"] = replace(host, capacity=one_left)
    commands = world.look()
    # as many as may migrate at once, the rest is removed: it is nobody's
    moves = of(MigrateDesktop, commands)
    assert [one.desktop.id for one in moves] == [rows[1].id, rows[2].id]
    why = "server-1 holds more than it may"
    assert moves[0].to_host_id == "hst_2"
    assert moves[0].why == f"{why}; server-2 has most room (97% left)"
    assert moves[0].reasons == ("server-2 would keep 97% free",)
    cleared = of(ClearDesktop, commands)
    assert {one.desktop.id for one in cleared} == {rows[0].id, rows[3].id}
    assert {one.why for one in cleared} == {why}


def test_what_sleeps_frees_disk_and_nothing_else() -> None:
    """Its memory is on the disk already: it goes only where the disk is what is short."""
    pool = make_pool(spares_min=0, resources=replace(make_pool().resources, disk_mib=1000))
    world = make_world(pool, hosts=1)
    world.features = NEITHER
    asleep = world.add(state=D.SUSPENDED, resources=pool.resources)
    first, second = (world.add(state=D.ASSIGNED, resources=pool.resources) for _ in range(2))
    host = world.hosts["hst_1"]
    world.hosts["hst_1"] = replace(host, capacity=replace(host.capacity, disk_mib=2000))
    assert [one.desktop.id for one in of(ClearDesktop, world.look())] == [asleep.id]
    assert {first.id, second.id} <= set(world.desktops)


def test_a_raised_guarantee_removes_spares_until_it_holds() -> None:
    pool = make_pool(spares_min=40, size_max=50)
    settings = HostSettings(overcommit_memory=2.0)
    world = make_world(pool, hosts=1, overcommit_cpu=4.0, settings=settings)
    world.settle(100)
    assert len(world.rows()) == 40
    world.pools = [replace(pool, settings=PoolSettings(guarantee=Share(memory=1.0)))]
    world.settle(100)
    assert len(world.rows()) == 32


def test_what_is_being_removed_from_an_overfull_host_is_not_counted_twice() -> None:
    world = make_world(make_pool(spares_min=0), hosts=1)
    world.features = NEITHER
    for _ in range(4):
        world.add(state=D.READY)
    host = world.hosts["hst_1"]
    world.hosts["hst_1"] = replace(host, capacity=replace(host.capacity, memory_mib=3 * 4096))
    assert len(of(ClearDesktop, world.look())) == 1
    assert of(ClearDesktop, world.look()) == []


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("features", [ALL_FEATURES, NEITHER])
def test_spares_leave_hosts_that_lack_their_pools_new_label(features: frozenset[Feature]) -> None:
    pool = make_pool(spares_min=4)
    world = make_world(pool)
    world.features = features
    world.settle()
    used = world.add(state=D.ASSIGNED, host_id="hst_2")
    labelled(world, "hst_1", "gpu")
    world.pools = [replace(pool, settings=PoolSettings(labels=("gpu",)))]
    world.settle()
    assert per_host(world) == {"hst_1": 4, "hst_2": 1}
    assert used.id in world.desktops


def test_a_misplaced_spare_stays_while_no_right_host_has_room() -> None:
    pool = make_pool(spares_min=4)
    world = make_world(pool)
    world.settle()
    world.pools = [replace(pool, settings=PoolSettings(labels=("gpu",)))]
    assert of_effect(world.step()) == []


def test_misplaced_spares_go_one_at_a_time() -> None:
    pool = make_pool(spares_min=4)
    world = make_world(pool)
    world.features = NEITHER
    world.settle()
    labelled(world, "hst_1", "gpu")
    world.pools = [replace(pool, settings=PoolSettings(labels=("gpu",)))]
    (first,) = of(ClearDesktop, world.step())
    assert first.why == "server-2 has no label gpu"
    assert of(ClearDesktop, world.step()) == []


# ----------------------------------------------------------------------- size


@pytest.mark.parametrize("features", [ALL_FEATURES, frozenset()])
def test_where_the_new_size_does_not_fit_nothing_is_removed_and_it_is_said_why(
    features: frozenset[Feature],
) -> None:
    pool = make_pool(spares_min=32, size_max=32)
    world = make_world(pool, hosts=1, overcommit_cpu=10.0)
    world.features = features
    world.settle(100)
    world.pools = [replace(pool, resources=replace(pool.resources, memory_mib=8192))]
    for _ in range(5):
        commands = world.step()
        assert of_effect(commands) == []
        (told,) = of(NoRoom, commands)
        why = "d-000001 keeps its size: server-1 lacks 4096 MiB of memory"
        assert told == NoRoom(pool=world.pools[0], missing=1, why=why, reasons=(why,))
    assert len(world.rows()) == 32


def test_a_spare_is_replaced_where_another_host_takes_the_new_size() -> None:
    pool = make_pool(spares_min=1, size_max=4)
    world = make_world(pool, hosts=2)
    world.features = frozenset()
    world.settle()
    host = world.hosts["hst_1"]
    world.hosts["hst_1"] = replace(host, capacity=replace(host.capacity, memory_mib=4096))
    world.pools = [replace(pool, resources=replace(pool.resources, memory_mib=8192))]
    world.settle()
    (row,) = world.rows()
    assert (row.host_id, row.resources.memory_mib) == ("hst_2", 8192)


@pytest.mark.parametrize(
    "change",
    [
        {"cpus": 3.0},
        {"memory_mib": 5000},
        {"disk_mib": 9000},
        {"disk_iops": 100},
        {"network_mbit": 50},
    ],
)
def test_a_change_of_any_resource_reaches_every_running_desktop(change: dict[str, int]) -> None:
    pool = make_pool(spares_min=3)
    world = make_world(pool, hosts=1)
    asleep = world.add(state=D.SUSPENDED)
    world.settle()
    world.pools = [replace(pool, resources=replace(pool.resources, **change))]
    resized = [one for _ in range(6) for one in of(ResizeDesktop, world.step())]
    assert len(resized) == 3
    assert asleep.id in world.desktops
    for row in world.rows(D.READY):
        assert row.resources == world.pools[0].resources


# ----------------------------------------------------------------------- fullness


def test_machines_are_not_made_where_they_would_have_to_move_away_at_once() -> None:
    pool = make_pool(spares_min=4, size_max=60, settings=PoolSettings(spread=Spread.DEPTH))
    world = make_world(pool, hosts=3)
    world.site = SiteSettings(rebalance_above=0.7, rebalance_by=0.2)
    moved = []
    for turn in range(60):
        world.waiting[pool.id] += turn < 30
        moved += of(MigrateDesktop, world.step())
    assert moved == []
    assert per_host(world) == {"hst_1": 22, "hst_2": 12}


def test_where_every_host_is_that_full_people_are_served_all_the_same() -> None:
    world = make_world(make_pool(spares_min=15, size_max=60), hosts=1, overcommit_cpu=1.0)
    world.site = SiteSettings(rebalance_above=0.5)
    world.settle()
    assert len(world.rows()) == 15
