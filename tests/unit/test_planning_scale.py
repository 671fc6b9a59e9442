"""Scaling in and the second level: hysteresis, what goes first, what never goes."""

from __future__ import annotations

from typing import Any

import pytest

from broker import limits
from broker.domain.model import DesktopState as D
from broker.domain.planning import (
    ClearDesktop,
    Memory,
    Rows,
    RowsNeeded,
    Surplus,
    SuspendDesktop,
    assess,
    rows_needed,
)
from broker.domain.planning.scale import lowered, observed, ripe
from broker.domain.settings import PoolSettings, ServiceState
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import (
    ALL_FEATURES,
    decide,
    make_load,
    make_view,
    make_world,
    of,
    sleepers,
)

SECOND = 1000


def need_of(pool: Any = None, **changes: Any) -> Any:
    pool = pool or make_pool()
    features = {"hst_1": ALL_FEATURES}
    (need,) = assess(make_view(**({"pools": (pool,), "features": features} | changes)))
    return need


def test_a_surplus_is_the_least_that_was_seen_since_it_began() -> None:
    first = observed(None, 5, NOW)
    assert first == Surplus(since=NOW, least=5)
    assert observed(first, 3, NOW + 1) == Surplus(since=NOW, least=3)
    assert observed(Surplus(since=NOW, least=3), 9, NOW + 1) == Surplus(since=NOW, least=3)
    assert observed(first, 0, NOW + 1) is None
    assert observed(None, 0, NOW) is None


def test_it_is_ripe_after_its_time() -> None:
    seen = Surplus(since=NOW, least=3)
    assert ripe(seen, 60, NOW + 59_999) == 0
    assert ripe(seen, 60, NOW + 60_000) == 3
    assert ripe(None, 60, NOW) == 0


def test_what_is_left_of_a_ripe_surplus_goes_at_the_next_look() -> None:
    seen = Surplus(since=NOW, least=5)
    assert lowered(seen, 2, 8, NOW + 9) == Surplus(since=NOW, least=3)
    assert lowered(seen, 5, 8, NOW + 9) == Surplus(since=NOW + 9, least=3)
    assert lowered(seen, 5, 5, NOW + 9) is None
    assert lowered(seen, 0, 8, NOW + 9) is seen
    assert lowered(None, 3, 8, NOW + 9) is None


def ready(count: int, **changes: Any) -> tuple[Any, ...]:
    return tuple(make_desktop(**({"id": f"dsk_{n}"} | changes)) for n in range(count))


def surplus_view(**changes: Any) -> Any:
    ripe_one = Surplus(since=NOW - 900 * SECOND, least=3)
    values: dict[str, Any] = {
        "counts": {("pol_1", "ready"): 5},
        "rows": Rows(ready={"pol_1": ready(5)}),
        "memory": Memory(surplus={"pol_1": ripe_one}),
    }
    return make_view(**(values | changes))


def test_a_ripe_surplus_goes_the_longest_unchanged_first() -> None:
    planned = decide(surplus_view())
    assert [one.desktop.id for one in planned.commands] == ["dsk_0", "dsk_1", "dsk_2"]
    assert {one.why for one in of(ClearDesktop, planned.commands)} == {
        "library had 3 more than it needs for 900 s"
    }
    assert planned.memory.surplus == {}


def test_a_fresh_surplus_is_remembered_and_stays() -> None:
    planned = decide(surplus_view(memory=Memory()))
    assert planned.commands == ()
    assert planned.memory.surplus == {"pol_1": Surplus(since=NOW, least=3)}
    soon = Memory(surplus={"pol_1": Surplus(since=NOW - 899_999, least=3)})
    assert decide(surplus_view(memory=soon)).commands == ()


def test_who_is_on_the_way_counts_and_what_came_later_stays() -> None:
    view = surplus_view(
        counts={("pol_1", "ready"): 9, ("pol_1", "starting"): 1},
        rows=Rows(ready={"pol_1": ready(9)}),
    )
    planned = decide(view)
    assert len(planned.commands) == 3
    assert planned.memory.surplus == {"pol_1": Surplus(since=NOW, least=5)}


def test_never_below_the_size_at_least_nor_what_is_owned_or_busy() -> None:
    pool = make_pool(settings=PoolSettings(size_min=4))
    assert len(decide(surplus_view(pools=(pool,))).commands) == 1
    owned = surplus_view(owned={("pol_1", "ready"): 3})
    assert decide(owned).commands == ()
    moving = surplus_view(rows=Rows(ready={"pol_1": ready(5, moving_to="hst_2")}))
    assert decide(moving).commands == ()
    off = surplus_view(rows=Rows(ready={"pol_1": ready(5, host_id="hst_9")}))
    assert decide(off).commands == ()


def test_one_look_removes_no_more_than_its_limit() -> None:
    pool = make_pool(size_max=500)
    view = surplus_view(
        pools=(pool,),
        counts={("pol_1", "ready"): 100},
        rows=Rows(ready={"pol_1": ready(98)}),
        memory=Memory(surplus={"pol_1": Surplus(since=NOW - 900_000, least=98)}),
    )
    planned = decide(view)
    assert len(planned.commands) == limits.REMOVED_PER_LOOK_MAX == 50
    assert planned.memory.surplus == {"pol_1": Surplus(since=NOW - 900_000, least=48)}
    assert rows_needed(view).ready == {"pol_1": 100}


def test_suspended_ones_go_when_only_they_are_too_many() -> None:
    pool = make_pool(settings=PoolSettings(spares_suspended=1))
    view = surplus_view(
        pools=(pool,),
        features={"hst_1": ALL_FEATURES},
        counts={("pol_1", "ready"): 2, ("pol_1", "suspended"): 4},
        rows=Rows(suspended={"pol_1": sleepers(4)}),
    )
    assert [one.desktop.id for one in of(ClearDesktop, decide(view).commands)] == [
        "dsk_0",
        "dsk_1",
        "dsk_2",
    ]
    assert rows_needed(view).suspended == {"pol_1": 6}
    assert rows_needed(view).ready == {}


@pytest.mark.parametrize(
    ("size_max", "spares", "asleep", "running_gone", "asleep_gone"),
    [(6, 3, 2, 3, 1), (8, 3, 2, 2, 0), (6, 2, 2, 3, 1), (5, 3, 1, 3, 2), (8, 3, 1, 1, 1)],
)
def test_a_pool_made_smaller_loses_surplus_then_running_spares_then_suspended_ones(
    size_max: int, spares: int, asleep: int, running_gone: int, asleep_gone: int
) -> None:
    settings = PoolSettings(spares_suspended=asleep)
    pool = make_pool(size_max=size_max, spares_min=spares, settings=settings)
    ripe_one = Surplus(since=NOW - 900_000, least=10 - size_max)
    view = surplus_view(
        pools=(pool,),
        features={"hst_1": ALL_FEATURES},
        counts={("pol_1", "assigned"): 5, ("pol_1", "ready"): 3, ("pol_1", "suspended"): 2},
        rows=Rows(ready={"pol_1": ready(3)}, suspended={"pol_1": sleepers(2, name="asleep")}),
        memory=Memory(surplus={"pol_1": ripe_one}),
    )
    planned = decide(view)
    cleared = of(ClearDesktop, planned.commands)
    gone = [D.READY] * running_gone + [D.SUSPENDED] * asleep_gone
    assert [one.desktop.state for one in cleared] == gone
    assert {one.why for one in cleared} == {f"library may have {size_max} desktops and has 10"}
    assert planned.memory.surplus == {}


def test_what_goes_of_a_pool_made_smaller_is_not_suspended_instead() -> None:
    """Two running ones are surplus and two suspended ones are missing, but the pool is two too
    big: the two that are wanted stay as they are."""
    pool = make_pool(size_max=6, spares_min=2, settings=PoolSettings(spares_suspended=2))
    view = surplus_view(
        pools=(pool,),
        features={"hst_1": ALL_FEATURES},
        counts={("pol_1", "assigned"): 4, ("pol_1", "ready"): 4},
        rows=Rows(ready={"pol_1": ready(4)}),
        memory=Memory(
            running={"pol_1": Surplus(since=NOW - 60_000, least=2)},
            surplus={"pol_1": Surplus(since=NOW - 900_000, least=2)},
        ),
    )
    commands = decide(view).commands
    assert [one.desktop.id for one in of(ClearDesktop, commands)] == ["dsk_0", "dsk_1"]
    assert of(SuspendDesktop, commands) == []


def test_wanted_spares_do_not_go_in_place_of_surplus_that_is_suspended_just_now() -> None:
    view = surplus_view(
        features={"hst_1": ALL_FEATURES},
        counts={("pol_1", "ready"): 2, ("pol_1", "suspended"): 2, ("pol_1", "suspending"): 3},
        rows=Rows(ready={"pol_1": ready(2)}, suspended={"pol_1": sleepers(2)}),
        memory=Memory(surplus={"pol_1": Surplus(since=NOW - 900_000, least=4)}),
    )
    planned = decide(view)
    cleared = of(ClearDesktop, planned.commands)
    assert [one.desktop.state for one in cleared] == [D.SUSPENDED] * 2
    assert planned.memory.surplus == {"pol_1": Surplus(since=NOW - 900_000, least=2)}


def test_a_pool_without_surplus_does_not_keep_the_next_from_losing_its_own() -> None:
    other = make_pool(id="pol_0", name="art")
    planned = decide(surplus_view(pools=(other, make_pool())))
    assert len(of(ClearDesktop, planned.commands)) == 3


def test_a_pool_that_is_just_full_has_more_than_it_needs_and_not_more_than_it_may() -> None:
    planned = decide(surplus_view(pools=(make_pool(size_max=5),)))
    assert planned.commands[0].why == "library had 3 more than it needs for 900 s"


def test_a_draining_pool_keeps_what_it_has_and_maintenance_does_not() -> None:
    draining = make_pool(settings=PoolSettings(state=ServiceState.DRAINING))
    assert decide(surplus_view(pools=(draining,))).commands == ()
    maintained = make_pool(settings=PoolSettings(state=ServiceState.MAINTENANCE))
    gone = Memory(surplus={"pol_1": Surplus(since=NOW - 900_000, least=5)})
    assert len(decide(surplus_view(pools=(maintained,), memory=gone)).commands) == 5


def sleepy_view(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "pools": (make_pool(settings=PoolSettings(spares_suspended=2)),),
        "features": {"hst_1": ALL_FEATURES},
        "counts": {("pol_1", "ready"): 4},
        "rows": Rows(ready={"pol_1": ready(4)}),
        "memory": Memory(running={"pol_1": Surplus(since=NOW - 60_000, least=2)}),
    }
    return make_view(**(values | changes))


def test_a_surplus_of_running_ones_fills_the_second_level_after_a_minute() -> None:
    planned = decide(sleepy_view())
    assert [one.desktop.id for one in of(SuspendDesktop, planned.commands)] == ["dsk_0", "dsk_1"]
    assert planned.commands[0].why == "library keeps 2 suspended spares"
    assert planned.memory.running == {}
    assert rows_needed(sleepy_view()).ready == {"pol_1": 4}
    soon = Memory(running={"pol_1": Surplus(since=NOW - 59_999, least=2)})
    planned = decide(sleepy_view(memory=soon))
    assert planned.commands == ()
    assert planned.memory == soon
    assert rows_needed(sleepy_view(memory=soon)).ready == {}


def test_what_came_later_waits_for_its_own_minute() -> None:
    pool = make_pool(settings=PoolSettings(spares_suspended=9))
    view = sleepy_view(
        pools=(pool,), counts={("pol_1", "ready"): 7}, rows=Rows(ready={"pol_1": ready(7)})
    )
    planned = decide(view)
    assert len(of(SuspendDesktop, planned.commands)) == 2
    assert planned.memory.running == {"pol_1": Surplus(since=NOW, least=3)}


def test_one_look_suspends_no_more_than_its_limit() -> None:
    pool = make_pool(size_max=500, settings=PoolSettings(spares_suspended=98))
    view = sleepy_view(
        pools=(pool,),
        counts={("pol_1", "ready"): 100},
        rows=Rows(ready={"pol_1": ready(100)}),
        memory=Memory(running={"pol_1": Surplus(since=NOW - 60_000, least=98)}),
    )
    assert len(of(SuspendDesktop, decide(view).commands)) == limits.REMOVED_PER_LOOK_MAX == 50


def test_sooner_where_the_pool_scales_in_sooner() -> None:
    settings = PoolSettings(spares_suspended=2, scale_in_after_s=10)
    soon = Memory(running={"pol_1": Surplus(since=NOW - 10_000, least=2)})
    assert (
        len(decide(sleepy_view(pools=(make_pool(settings=settings),), memory=soon)).commands) == 2
    )


def test_what_is_suspended_just_now_counts() -> None:
    view = sleepy_view(counts={("pol_1", "ready"): 4, ("pol_1", "suspending"): 1})
    assert len(of(SuspendDesktop, decide(view).commands)) == 1
    view = sleepy_view(counts={("pol_1", "ready"): 4, ("pol_1", "suspending"): 2})
    assert of(SuspendDesktop, decide(view).commands) == []


def test_only_what_stands_on_a_host_that_can_is_suspended() -> None:
    rows = (*ready(2, host_id="hst_2"), *ready(1, host_id="hst_1", name="here"))
    hosts = (make_load(), make_load(id="hst_2", name="server-2"))
    view = sleepy_view(hosts=hosts, rows=Rows(ready={"pol_1": rows}))
    assert [one.desktop.name for one in of(SuspendDesktop, decide(view).commands)] == ["here"]


def test_a_surplus_beyond_the_second_level_is_removed_and_not_what_is_suspended_now() -> None:
    view = sleepy_view(
        counts={("pol_1", "ready"): 7},
        rows=Rows(ready={"pol_1": ready(7)}),
        memory=Memory(
            running={"pol_1": Surplus(since=NOW - 60_000, least=2)},
            surplus={"pol_1": Surplus(since=NOW - 900_000, least=3)},
        ),
    )
    commands = decide(view).commands
    assert [one.desktop.id for one in of(SuspendDesktop, commands)] == ["dsk_0", "dsk_1"]
    assert [one.desktop.id for one in of(ClearDesktop, commands)] == ["dsk_2", "dsk_3", "dsk_4"]
    assert rows_needed(view).ready == {"pol_1": 10}


def test_rows_are_asked_for_only_where_something_may_be_done() -> None:
    assert rows_needed(make_view()) == RowsNeeded()
    lacking = make_view(counts={("pol_1", "suspended"): 9})
    assert rows_needed(lacking).suspended == {"pol_1": 4}
    assert rows_needed(surplus_view()).ready == {"pol_1": 6}


def test_figures_of_a_need() -> None:
    need = need_of(
        make_pool(settings=PoolSettings(spares_suspended=3, size_min=1)),
        counts={
            ("pol_1", "ready"): 3,
            ("pol_1", "starting"): 1,
            ("pol_1", "suspended"): 2,
            ("pol_1", "suspending"): 1,
            ("pol_1", "assigned"): 1,
            ("pol_1", "failed"): 1,
            ("pol_1", "deleting"): 1,
            ("pol_1", "unavailable"): 1,
        },
        waiting={"pol_1": 1},
    )
    assert (need.ready, need.coming, need.asleep, need.resumable) == (3, 1, 3, 2)
    assert (need.existing, need.lasting) == (10, 8)
    assert (need.wanted_running, need.wanted_asleep) == (3, 3)
    assert (need.short, need.surplus_running, need.surplus, need.to_suspend) == (0, 1, 1, 0)


def test_a_world_with_two_levels_settles_where_it_should() -> None:
    pool = make_pool(
        spares_min=3, size_max=40, settings=PoolSettings(spares_suspended=4, scale_in_after_s=300)
    )
    world = make_world(pool)
    world.step_s = 60
    world.settle()
    assert len(world.rows(D.READY)) == 3
    assert len(world.rows(D.SUSPENDED)) == 4
    world.waiting[pool.id] = 5
    world.settle()
    assert len(world.rows(D.ASSIGNED)) == 5
    assert len(world.rows(D.READY)) == 3
    assert len(world.rows(D.SUSPENDED)) == 4
    for row in world.rows(D.ASSIGNED):
        world.put(row, state=D.RESETTING)
    world.settle()
    assert len(world.rows(D.READY)) == 3
    assert len(world.rows(D.SUSPENDED)) == 4
    assert len(world.desktops) == 7
