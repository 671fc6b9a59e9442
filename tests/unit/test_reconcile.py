"""The planner: spares, people who wait, bounds, failures and deadlines."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import Architecture, DesktopState, Resources
from broker.domain.placement import HostLoad
from broker.domain.reconcile import (
    ClearDesktop,
    ExpireSession,
    FreshenDesktop,
    MakeDesktop,
    NoRoom,
    ServeQueue,
    View,
    plan,
    wanted,
)
from tests.support.builders import NOW, make_desktop, make_host, make_pool, make_session


def view(**changes: Any) -> View:
    values: dict[str, Any] = {
        "now": NOW,
        "pools": (make_pool(),),
        "counts": {},
        "waiting": {},
        "hosts": (HostLoad(host=make_host(), used=Resources(cpus=0, memory_mib=0), starting=0),),
    }
    return View(**(values | changes))


def made(one: View, per_pool_max: int = 50) -> int:
    return sum(isinstance(command, MakeDesktop) for command in plan(one, per_pool_max=per_pool_max))


def test_an_empty_pool_gets_its_spares() -> None:
    assert made(view()) == 2


def test_machines_on_their_way_count_as_spares() -> None:
    counts = {("pol_1", "planned"): 1, ("pol_1", "starting"): 1}
    assert made(view(counts=counts)) == 0


def test_one_is_made_for_each_who_waits_beside_the_spares() -> None:
    assert made(view(waiting={"pol_1": 3})) == 5


def test_a_pool_never_grows_past_its_size() -> None:
    assert made(view(counts={("pol_1", "assigned"): 9}, waiting={"pol_1": 30})) == 1
    assert made(view(counts={("pol_1", "assigned"): 9, ("pol_1", "deleting"): 1})) == 0


def test_a_closed_pool_gets_nothing_new() -> None:
    assert made(view(pools=(make_pool(enabled=False),), waiting={"pol_1": 3})) == 0


def test_pools_on_endpoints_get_no_machines() -> None:
    for architecture in (Architecture.IDV, Architecture.VOI):
        pool = make_pool(architecture=architecture)
        assert made(view(pools=(pool,), waiting={"pol_1": 3})) == 0


def test_a_burst_is_spread_and_bounded_by_each_hosts_start_limit() -> None:
    hosts = tuple(
        HostLoad(
            host=make_host(id=f"hst_{n}", name=f"server-{n}", start_limit=3),
            used=Resources(cpus=0, memory_mib=0),
            starting=0,
        )
        for n in range(2)
    )
    pool = make_pool(spares_min=20, size_max=40)
    commands = plan(view(pools=(pool,), hosts=hosts), per_pool_max=50)
    places = [command.host_id for command in commands if isinstance(command, MakeDesktop)]
    assert sorted(places) == ["hst_0"] * 3 + ["hst_1"] * 3
    assert [type(command) for command in commands].count(NoRoom) == 1


def test_two_pools_share_what_room_there_is() -> None:
    pools = tuple(make_pool(id=f"pol_{n}", name=f"p{n}", spares_min=10) for n in range(2))
    host = HostLoad(host=make_host(start_limit=4), used=Resources(cpus=0, memory_mib=0), starting=0)
    commands = plan(view(pools=pools, hosts=(host,)), per_pool_max=50)
    got = [command.pool.id for command in commands if isinstance(command, MakeDesktop)]
    assert sorted(got) == ["pol_0", "pol_0", "pol_1", "pol_1"]


def test_a_queue_is_served_when_something_is_ready() -> None:
    waiting = {"pol_1": 1}
    ready = plan(view(waiting=waiting, counts={("pol_1", "ready"): 1}), per_pool_max=1)
    empty = plan(view(waiting=waiting), per_pool_max=1)
    assert any(isinstance(command, ServeQueue) for command in ready)
    assert not any(isinstance(command, ServeQueue) for command in empty)


def test_failed_machines_are_cleared_and_failed_endpoints_made_fresh() -> None:
    machine = make_desktop(state=DesktopState.FAILED, note="did not boot")
    place = make_desktop(id="dsk_2", state=DesktopState.FAILED, host_id=None, endpoint_id="ept_1")
    commands = plan(view(failed_desktops=(machine, place)), per_pool_max=0)
    assert ClearDesktop(desktop=machine, why="it failed: did not boot") in commands
    assert FreshenDesktop(desktop=place) in commands


def test_expired_sessions_come_before_refilling() -> None:
    commands = plan(view(expired_sessions=(make_session(),)), per_pool_max=5)
    assert isinstance(commands[0], ExpireSession)


@given(
    st.dictionaries(
        st.sampled_from([(p, s) for p in ("pol_1", "pol_2") for s in DesktopState]),
        st.integers(0, 12),
    ),
    st.dictionaries(st.sampled_from(["pol_1", "pol_2"]), st.integers(0, 40)),
    st.integers(0, 6),
    st.integers(1, 20),
)
def test_no_plan_breaks_a_limit(
    counts: dict[tuple[str, str], int], waiting: dict[str, int], starting: int, per_pool_max: int
) -> None:
    pools = (make_pool(), make_pool(id="pol_2", name="labs", spares_min=5, size_max=8))
    host = HostLoad(host=make_host(), used=Resources(cpus=0, memory_mib=0), starting=starting)
    commands = plan(
        view(pools=pools, counts=counts, waiting=waiting, hosts=(host,)), per_pool_max=per_pool_max
    )
    making = [command for command in commands if isinstance(command, MakeDesktop)]
    assert len(making) <= max(0, host.host.start_limit - starting)
    for pool in pools:
        new = sum(command.pool.id == pool.id for command in making)
        there = sum(
            count
            for (pool_id, state), count in counts.items()
            if pool_id == pool.id and state not in {"deleted", "unavailable"}
        )
        assert new <= per_pool_max
        assert new == 0 or there + new <= pool.size_max


def test_wanted_counts_use_queue_and_spares_up_to_the_size() -> None:
    pool = make_pool(spares_min=2, size_max=10)
    assert wanted(pool, used=0, waiting=0) == 2
    assert wanted(pool, used=3, waiting=4) == 9
    assert wanted(pool, used=9, waiting=4) == 10
