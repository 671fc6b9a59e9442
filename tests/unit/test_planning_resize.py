"""Desktops whose size is not their pool's any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import Architecture, HostState, Resources
from broker.domain.model import DesktopState as D
from broker.domain.placement import Demand
from broker.domain.planning import (
    ClearDesktop,
    MakeDesktop,
    NoRoom,
    ResizeDesktop,
    Rows,
    rows_needed,
)
from broker.domain.planning.resize import growth, unlike
from broker.domain.settings import PoolSettings, ServiceState, Share, SiteSettings
from tests.support.builders import make_desktop, make_pool
from tests.support.planning import ALL_FEATURES, decide, make_load, make_view, make_world, of

OLD = Resources(cpus=2, memory_mib=4096)
NEW = Resources(cpus=4, memory_mib=8192)
POOL = make_pool(spares_min=0, resources=NEW)
BOTH = {"hst_1": ALL_FEATURES, "hst_2": ALL_FEATURES}


def old_rows(count: int, **changes: Any) -> tuple[Any, ...]:
    return tuple(
        make_desktop(**({"id": f"dsk_{n}", "resources": OLD} | changes)) for n in range(count)
    )


def old_view(*rows: Any, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "pools": (POOL,),
        "counts": {("pol_1", "ready"): len(rows)},
        "features": BOTH,
        "rows": Rows(unlike={"pol_1": rows}),
    }
    return make_view(**(values | changes))


def test_a_running_desktop_gets_its_pools_size() -> None:
    rows = old_rows(1, state=D.ASSIGNED)
    assert of(ResizeDesktop, decide(old_view(*rows)).commands) == [
        ResizeDesktop(
            desktop=rows[0], to=NEW, why="library has desktops of 4 CPUs and 8192 MiB now"
        )
    ]


def test_one_at_a_time_on_a_host() -> None:
    hosts = (make_load(), make_load(id="hst_2", name="server-2"))
    rows = (*old_rows(2), *old_rows(1, id="dsk_8", host_id="hst_2"))
    resized = of(ResizeDesktop, decide(old_view(*rows, hosts=hosts)).commands)
    assert [one.desktop.id for one in resized] == ["dsk_0", "dsk_8"]
    busy = old_view(*rows, hosts=hosts, resizing={"hst_1": ()})
    assert [one.desktop.id for one in of(ResizeDesktop, decide(busy).commands)] == ["dsk_8"]


def test_what_a_resize_under_way_may_take_is_given_to_nobody_else() -> None:
    host = make_load(used=Resources(cpus=0, memory_mib=131072 - 8192))
    view = make_view(pools=(make_pool(spares_min=2),), hosts=(host,))
    assert len(of(MakeDesktop, decide(view).commands)) == 2
    growing = Demand(need=Resources(cpus=0, memory_mib=4096), starts=False)
    view = replace(view, resizing={"hst_1": (growing,)})
    assert len(of(MakeDesktop, decide(view).commands)) == 1


@pytest.mark.parametrize(
    "used",
    [Resources(cpus=0, memory_mib=131072 - 4095), Resources(cpus=126.5, memory_mib=0)],
)
def test_only_where_there_is_room_for_what_is_more(used: Resources) -> None:
    full = (make_load(used=used),)
    (told,) = decide(old_view(*old_rows(1), hosts=full)).commands
    assert isinstance(told, NoRoom)
    assert told.why.startswith("library-001 keeps its size: server-1 lacks")


def test_less_is_always_possible() -> None:
    full = (make_load(used=Resources(cpus=128, memory_mib=131072)),)
    rows = old_rows(1, resources=Resources(cpus=8, memory_mib=16384))
    assert len(of(ResizeDesktop, decide(old_view(*rows, hosts=full)).commands)) == 1


def test_growth_is_what_is_more_of_each() -> None:
    one = Resources(cpus=1, memory_mib=10, disk_mib=20, disk_iops=30, network_mbit=40)
    two = Resources(cpus=3, memory_mib=15, disk_mib=26, disk_iops=37, network_mbit=48)
    assert growth(one, two) == Resources(
        cpus=2, memory_mib=5, disk_mib=6, disk_iops=7, network_mbit=8
    )
    assert growth(two, one) == Resources(cpus=0, memory_mib=0)


def test_the_guarantee_and_the_sites_memory_hold() -> None:
    keen = make_pool(spares_min=0, resources=NEW, settings=PoolSettings(guarantee=Share(cpus=1.0)))
    load = make_load(by_pool={"pol_1": Resources(cpus=31, memory_mib=0)})
    held = decide(old_view(*old_rows(1), pools=(keen,), hosts=(load,))).commands
    assert [type(one) for one in held] == [NoRoom]
    site = SiteSettings(memory_mib_max=4095)
    assert [type(one) for one in decide(old_view(*old_rows(1), site=site)).commands] == [NoRoom]
    hosts = (make_load(), make_load(id="hst_2", name="server-2"))
    rows = (*old_rows(1), *old_rows(1, id="dsk_8", host_id="hst_2"))
    site = SiteSettings(memory_mib_max=8191)
    commands = decide(old_view(*rows, hosts=hosts, site=site)).commands
    assert [type(one) for one in commands] == [ResizeDesktop, NoRoom]


@pytest.mark.parametrize("changes", [{"moving_to": "hst_2"}, {"host_id": "hst_9"}])
def test_what_moves_or_is_lost_is_left_alone(changes: dict[str, Any]) -> None:
    assert decide(old_view(*old_rows(1, **changes))).commands == ()
    assert decide(old_view(*old_rows(1, **changes), features={})).commands == ()
    rows = (*old_rows(1, **changes), *old_rows(1, id="dsk_8"))
    assert len(decide(old_view(*rows)).commands) == 1


def test_nothing_changes_on_a_host_that_is_not_up() -> None:
    down = (make_load(state=HostState.DOWN),)
    assert decide(old_view(*old_rows(1), hosts=down)).commands == ()


def test_elsewhere_one_spare_is_replaced_at_a_time() -> None:
    rows = (
        *old_rows(1, id="dsk_a", state=D.ASSIGNED),
        *old_rows(1, id="dsk_b", owner_id="usr_1"),
        *old_rows(2),
    )
    (command,) = decide(old_view(*rows, features={})).commands
    assert command == ClearDesktop(
        desktop=rows[2], why="library has desktops of 4 CPUs and 8192 MiB now"
    )


def test_not_while_the_pool_lacks_any_or_gives_none() -> None:
    rows = old_rows(2)
    coming = {("pol_1", "ready"): 2, ("pol_1", "starting"): 1}
    assert of(ClearDesktop, decide(old_view(*rows, features={}, counts=coming)).commands) == []
    short = make_pool(spares_min=3, resources=NEW)
    assert of(ClearDesktop, decide(old_view(*rows, features={}, pools=(short,))).commands) == []
    resting = make_pool(
        spares_min=0, resources=NEW, settings=PoolSettings(state=ServiceState.DRAINING)
    )
    assert decide(old_view(*rows, features={}, pools=(resting,))).commands == ()


def test_sums_alone_tell_which_pools_have_some() -> None:
    def load(cpus: float, memory_mib: int, **changes: Any) -> Any:
        return make_load(by_pool={"pol_1": Resources(cpus=cpus, memory_mib=memory_mib)}, **changes)

    counts = {("pol_1", "ready"): 1, ("pol_1", "assigned"): 1, ("pol_1", "parked"): 5}
    alike = make_view(pools=(POOL,), counts=counts, hosts=(load(8, 16384),))
    assert unlike(alike) == ()
    assert rows_needed(alike).unlike == {}
    spread = (load(4, 8192), load(4, 8192, id="hst_2", name="server-2"))
    assert unlike(replace(alike, hosts=spread)) == ()
    other = replace(alike, hosts=(load(6, 12288),))
    assert unlike(other) == ("pol_1",)
    assert rows_needed(other).unlike == {"pol_1": limits.UNLIKE_PER_LOOK_MAX}
    assert unlike(replace(alike, hosts=(load(7, 16384),))) == ("pol_1",)
    assert unlike(replace(alike, hosts=(load(12, 24576),))) == ("pol_1",)
    moving = load(12, 24576, moving=1)
    assert unlike(replace(alike, hosts=(moving,))) == ()
    assert unlike(replace(alike, hosts=(replace(moving, moving=0),))) == ("pol_1",)
    idv = replace(POOL, architecture=Architecture.IDV)
    assert unlike(replace(other, pools=(idv,))) == ()
    assert unlike(replace(alike, counts={}, hosts=(make_load(),))) == ()


def test_what_neither_runs_nor_takes_memory_is_not_counted() -> None:
    for state in ("failed", "deleted", "suspended", "parked", "unavailable"):
        assert unlike(make_view(pools=(POOL,), counts={("pol_1", state): 3})) == ()
    assert unlike(make_view(pools=(POOL,), counts={("pol_1", "deleting"): 3})) == ("pol_1",)


def test_a_pool_of_no_memory_is_told_by_its_cpus() -> None:
    pool = make_pool(resources=Resources(cpus=2, memory_mib=0))
    load = make_load(by_pool={"pol_1": Resources(cpus=4, memory_mib=0)})
    view = make_view(pools=(pool,), counts={("pol_1", "ready"): 2}, hosts=(load,))
    assert unlike(view) == ()
    assert unlike(replace(view, counts={("pol_1", "ready"): 3})) == ("pol_1",)


@pytest.mark.parametrize("features", [frozenset(), frozenset({Feature.RESIZE})])
def test_in_the_world_every_spare_gets_the_new_size(features: frozenset[Feature]) -> None:
    world = make_world(make_pool(spares_min=4, resources=OLD))
    world.features = features
    world.settle()
    user = world.add(state=D.ASSIGNED, resources=OLD, owner_id="usr_1")
    world.pools = [replace(world.pools[0], resources=NEW)]
    world.settle()
    assert [row.resources for row in world.rows(D.READY)] == [NEW] * 4
    assert world.desktops[user.id].resources == (NEW if features else OLD)
