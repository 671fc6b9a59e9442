"""Spares on hosts that are not up, turns for resets, hosts that are emptied, and who is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.calendar import OnHolidays, Window
from broker.domain.features import Feature
from broker.domain.model import DesktopState, HostState
from broker.domain.planning import (
    ClearDesktop,
    MakeDesktop,
    MigrateDesktop,
    PowerHost,
    ResetDesktop,
    ServeQueue,
    assess,
    rows_needed,
)
from broker.domain.settings import HostSettings, PoolSettings, ScheduleEntry
from tests.support.builders import make_pool
from tests.support.planning import PlannedWorld, make_world, of, of_effect

D = DesktopState
NEITHER = frozenset({Feature.HOST_POWER})


def set_state(world: PlannedWorld, host_id: str, state: HostState) -> None:
    world.hosts[host_id] = replace(world.hosts[host_id], state=state)


# ------------------------------------------------------------------ hosts that are lost


def test_spares_of_a_lost_host_are_made_anew_elsewhere() -> None:
    world = make_world(make_pool(spares_min=4, size_max=10))
    world.settle()
    set_state(world, "hst_1", HostState.DOWN)
    world.settle()
    up = [row for row in world.rows(D.READY) if row.host_id == "hst_2"]
    assert len(up) == 4


def test_they_still_count_against_the_pools_maximum() -> None:
    world = make_world(make_pool(spares_min=4, size_max=5))
    world.settle()
    set_state(world, "hst_1", HostState.DOWN)
    world.settle()
    assert len(world.rows()) == 5


def test_when_the_host_is_back_the_surplus_goes() -> None:
    world = make_world(make_pool(spares_min=4, size_max=10))
    world.settle()
    set_state(world, "hst_1", HostState.DOWN)
    world.settle()
    set_state(world, "hst_1", HostState.UP)
    world.step_s = 400
    world.settle()
    assert len(world.rows()) == 4


def test_the_lost_hosts_spares_do_not_hide_a_surplus_elsewhere() -> None:
    world = make_world(make_pool(spares_min=1, size_max=30))
    for number in range(12):
        world.add(state=D.READY, host_id="hst_1", changed_at=number)
    set_state(world, "hst_1", HostState.DOWN)
    for _ in range(3):
        world.add(state=D.READY, host_id="hst_2")
    world.step_s = 400
    world.settle()
    assert Counter(row.host_id for row in world.rows()) == {"hst_1": 12, "hst_2": 1}


@pytest.mark.parametrize("state", [HostState.DOWN, HostState.DRAINING, HostState.MAINTENANCE])
def test_who_waits_is_not_promised_what_nobody_is_given(state: HostState) -> None:
    pool = make_pool(spares_min=2, size_max=10)
    world = make_world(pool)
    world.serving = False
    for _ in range(2):
        world.add(state=D.READY, host_id="hst_1")
    set_state(world, "hst_1", state)
    world.waiting[pool.id] = 2
    commands = world.look()
    assert of(ServeQueue, commands) == []
    assert len(of(MakeDesktop, commands)) >= 2


def test_spares_that_move_from_a_draining_host_are_not_made_twice() -> None:
    world = make_world(make_pool(spares_min=4, size_max=10))
    world.settle()
    set_state(world, "hst_1", HostState.DRAINING)
    made = [one for _ in range(8) for one in of(MakeDesktop, world.step())]
    assert made == []
    assert Counter(row.host_id for row in world.rows()) == {"hst_2": 4}


# ------------------------------------------------------------------------------- resets


def waiting(world: PlannedWorld, count: int, **changes: Any) -> None:
    for _ in range(count):
        world.add(state=D.RESETTING, deadline_at=None, **changes)


def test_no_more_are_made_fresh_at_once_than_a_host_may_start() -> None:
    world = make_world(make_pool(spares_min=0, size_max=40), hosts=2, start_limit=4)
    waiting(world, 20)
    began = []
    for _ in range(5):
        began.append(len(of(ResetDesktop, world.look())))
        assert of(ResetDesktop, world.look()) == []
        world.finish()
    assert began == [4, 4, 4, 4, 4]
    assert len(world.rows(D.READY)) == 20


def test_a_host_whose_turn_is_taken_keeps_no_other_host_waiting() -> None:
    world = make_world(make_pool(spares_min=0, size_max=40), hosts=2, start_limit=4)
    waiting(world, 10, host_id="hst_1")
    waiting(world, 2, host_id="hst_2")
    hosts = Counter(one.desktop.host_id for one in of(ResetDesktop, world.look()))
    assert hosts == {"hst_1": 4, "hst_2": 2}


def test_nothing_is_made_where_resets_take_all_the_turns() -> None:
    world = make_world(make_pool(spares_min=12, size_max=40), hosts=2, start_limit=4)
    waiting(world, 8, host_id="hst_1")
    made = Counter(one.host_id for one in of(MakeDesktop, world.look()))
    assert made == {"hst_2": 4}


def test_on_a_host_that_does_not_run_their_deadlines_decide() -> None:
    world = make_world(make_pool(spares_min=0, size_max=40), hosts=1, start_limit=4)
    waiting(world, 6)
    set_state(world, "hst_1", HostState.DOWN)
    assert len(of(ResetDesktop, world.look())) == 6


# ---------------------------------------------------------------- hosts that are emptied


MANAGED = HostSettings(power_managed=True, idle_off_s=600)


@pytest.mark.parametrize("features", [frozenset(Feature), NEITHER])
def test_after_a_peak_spares_come_together_and_hosts_go_off(features: frozenset[Feature]) -> None:
    pool = make_pool(spares_min=4, size_max=60)
    world = make_world(pool, hosts=4, settings=MANAGED)
    world.features = features
    world.step_s = 60
    world.waiting[pool.id] = 40
    for _ in range(12):
        world.step()
    assert len({row.host_id for row in world.rows(D.ASSIGNED)}) == 4
    for row in world.rows(D.ASSIGNED):
        world.put(row, state=D.READY)
    for _ in range(150):
        world.step()
        assert len(world.rows(D.READY)) >= 3
    assert len({row.host_id for row in world.rows()}) == 1
    assert Counter(one.state for one in world.hosts.values()) == {
        HostState.OFF: 3,
        HostState.UP: 1,
    }
    assert of_effect(world.step()) == []


def test_no_host_is_emptied_before_its_time_or_while_somebody_uses_it() -> None:
    pool = make_pool(spares_min=2, size_max=10)
    world = make_world(pool, settings=MANAGED)
    world.settle()
    assert len({row.host_id for row in world.rows()}) == 2
    world.add(state=D.ASSIGNED, host_id="hst_1")
    world.add(state=D.ASSIGNED, host_id="hst_2")
    world.step_s = 100
    for _ in range(30):
        commands = world.step()
        assert not of(MigrateDesktop, commands)
        assert not of(PowerHost, commands)


def test_pools_whose_desktops_are_to_be_apart_are_left_apart() -> None:
    pool = make_pool(spares_min=2, size_max=10, settings=PoolSettings(apart=True))
    world = make_world(pool, settings=MANAGED)
    world.step_s = 100
    for _ in range(30):
        world.step()
    assert len({row.host_id for row in world.rows()}) == 2


def test_a_host_is_not_emptied_when_the_others_have_no_room_for_what_is_kept_ready() -> None:
    pool = make_pool(spares_min=2, size_max=10)
    capacity = replace(make_world().hosts["hst_1"].capacity, memory_mib=2 * 4096)
    world = make_world(pool, capacity=capacity, settings=MANAGED)
    world.step_s = 100
    for _ in range(30):
        world.step()
    assert Counter(row.host_id for row in world.rows()) == {"hst_1": 1, "hst_2": 1}


def test_at_night_what_cannot_be_suspended_goes_and_its_hosts_go_off() -> None:
    night = ScheduleEntry(name="night", window=Window(on_holidays=OnHolidays.ALSO), power=False)
    settings = PoolSettings(size_min=3, scale_in_after_s=10, schedule=(night,))
    world = make_world(make_pool(spares_min=2, size_max=6, settings=settings), settings=MANAGED)
    world.features = NEITHER
    for _ in range(3):
        world.add(state=D.READY)
    world.step_s = 60
    for _ in range(40):
        world.step()
    assert world.rows() == []
    assert {one.state for one in world.hosts.values()} == {HostState.OFF}


# ------------------------------------------------------------------------ who is read


def test_no_host_that_is_to_be_emptied_is_kept_waiting_by_others() -> None:
    pool = make_pool(spares_min=0, size_max=100)
    world = make_world(pool, hosts=25)
    world.features = NEITHER
    for number in range(1, 25):
        set_state(world, f"hst_{number}", HostState.MAINTENANCE)
        world.add(state=D.ASSIGNED, host_id=f"hst_{number}")
        # owned ones are not removed, and look as if they could be
        world.add(state=D.SUSPENDED, host_id=f"hst_{number}", owner_id="usr_1")
    late = world.add(state=D.READY, host_id="hst_9", name="z-last")
    for _ in range(3):
        world.step()
    assert late.id not in world.desktops


def test_what_leaves_a_full_host_is_read_past_what_stays() -> None:
    world = make_world(make_pool(spares_min=0, size_max=1000), hosts=1)
    set_state(world, "hst_1", HostState.MAINTENANCE)
    for _ in range(limits.RECONCILE_BATCH_MAX + 10):
        world.add(state=D.ASSIGNED)
    world.add(state=D.READY)
    assert rows_needed(world.view()).on_host == {"hst_1": limits.RECONCILE_BATCH_MAX + 11}
    assert len(of(ClearDesktop, world.step())) == 1


def test_needs_name_what_leaves() -> None:
    world = make_world(make_pool(spares_min=4))
    world.add(state=D.READY, host_id="hst_1")
    world.add(state=D.READY, host_id="hst_2")
    set_state(world, "hst_1", HostState.DRAINING)
    (need,) = assess(world.view())
    assert (need.ready, need.leaving, need.short) == (1, 1, 2)
