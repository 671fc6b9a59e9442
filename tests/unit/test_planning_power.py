"""Switching hosts on and off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.calendar import Window
from broker.domain.model import HostState, Resources
from broker.domain.planning import MakeDesktop, Memory, NoRoom, PowerHost, assess
from broker.domain.planning.breaker import Breaker
from broker.domain.planning.power import is_empty, reserve
from broker.domain.settings import HostSettings, PoolSettings, ScheduleEntry, SiteSettings
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import ALL_FEATURES, decide, make_load, make_view, of

MANAGED = HostSettings(power_managed=True, idle_off_s=600)
SMALL = Resources(cpus=8, memory_mib=8192)
BIG = Resources(cpus=32, memory_mib=65536)


def host(number: int, state: HostState = HostState.UP, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "id": f"hst_{number}",
        "name": f"server-{number}",
        "state": state,
        "settings": MANAGED,
    }
    return make_load(**(values | changes))


def power_view(*hosts: Any, **changes: Any) -> Any:
    features = {load.host.id: ALL_FEATURES for load in hosts}
    return make_view(**({"hosts": hosts, "features": features} | changes))


def switched(view: Any) -> list[tuple[str, bool]]:
    return [(one.host.name, one.on) for one in of(PowerHost, decide(view).commands)]


FULL = host(1, used=Resources(cpus=1, memory_mib=131072))


# ------------------------------------------------------------------------------------ on


def test_what_finds_no_room_switches_a_host_on() -> None:
    view = power_view(FULL, host(2, HostState.OFF))
    (command,) = of(PowerHost, decide(view).commands)
    assert command.on
    assert command.host.id == "hst_2"
    assert command.why == "library lacks 2 desktops and no host that is on has room"


def test_the_smallest_that_fits() -> None:
    tiny = host(2, HostState.OFF, capacity=Resources(cpus=8, memory_mib=4095))
    small = host(4, HostState.OFF, capacity=SMALL)
    view = power_view(FULL, tiny, host(3, HostState.OFF, capacity=BIG), small)
    assert switched(view) == [("server-4", True)]


def test_of_two_with_the_same_memory_the_one_with_fewer_cpus_then_the_first_by_name() -> None:
    offs = [
        host(n, HostState.OFF, capacity=Resources(cpus=cpus, memory_mib=8192))
        for n, cpus in ((4, 8), (2, 16), (3, 8))
    ]
    pool = make_pool(spares_min=5)
    assert [name for name, _ in switched(power_view(FULL, *offs, pools=(pool,)))] == [
        "server-3",
        "server-4",
        "server-2",
    ]


def test_a_pool_that_lacks_none_switches_nothing_on_for_itself() -> None:
    pools = (make_pool(id="pol_2", name="art", spares_min=0), make_pool(spares_min=1))
    each = Resources(cpus=8, memory_mib=4096)
    offs = [host(n, HostState.OFF, capacity=each) for n in (2, 3)]
    assert switched(power_view(FULL, *offs, pools=pools)) == [("server-2", True)]


def test_as_many_as_are_needed() -> None:
    offs = [host(n, HostState.OFF, capacity=SMALL) for n in range(2, 7)]
    pool = make_pool(spares_min=5)
    assert switched(power_view(FULL, *offs, pools=(pool,))) == [
        ("server-2", True),
        ("server-3", True),
        ("server-4", True),
    ]


def test_no_more_than_the_limit_in_one_look() -> None:
    offs = [host(n, HostState.OFF, capacity=SMALL) for n in range(2, 20)]
    pool = make_pool(spares_min=30, size_max=99)
    assert len(switched(power_view(FULL, *offs, pools=(pool,)))) == limits.POWER_PER_LOOK_MAX == 5


def test_a_host_that_comes_up_already_is_filled_first() -> None:
    view = power_view(FULL, host(2, HostState.POWERING_ON), host(3, HostState.OFF))
    assert switched(view) == []
    small = host(2, HostState.POWERING_ON, capacity=Resources(cpus=8, memory_mib=4096))
    assert switched(power_view(FULL, small, host(3, HostState.OFF))) == [("server-3", True)]


def test_waiting_for_a_turn_to_start_switches_nothing_on() -> None:
    busy = host(1, start_limit=1)
    view = power_view(busy, host(2, HostState.OFF), pools=(make_pool(spares_min=5),))
    assert len(of(MakeDesktop, decide(view).commands)) == 1
    assert len(of(NoRoom, decide(view).commands)) == 1
    assert switched(view) == []


def test_what_is_made_in_the_same_look_takes_room() -> None:
    tight = host(1, capacity=Resources(cpus=32, memory_mib=8192), start_limit=2)
    view = power_view(tight, host(2, HostState.OFF), pools=(make_pool(spares_min=3),))
    assert len(of(MakeDesktop, decide(view).commands)) == 2
    assert switched(view) == [("server-2", True)]


def test_a_paused_pool_switches_no_other_host_on() -> None:
    paused = Breaker(failures=5, opened=1, until=NOW + 60_000)
    view = power_view(host(1), host(2, HostState.OFF), breakers={("pol_1", "hst_1"): paused})
    assert of(NoRoom, decide(view).commands)
    assert switched(view) == []


def test_nor_does_the_sites_limit() -> None:
    view = power_view(
        FULL, host(2, HostState.OFF), site=SiteSettings(desktops_max=1),
        counts={("pol_1", "assigned"): 1},
    )  # fmt: skip
    assert of(NoRoom, decide(view).commands)
    assert switched(view) == []


@pytest.mark.parametrize("state", [HostState.DOWN, HostState.MAINTENANCE, HostState.POWERING_OFF])
def test_only_a_host_that_is_off_is_switched_on(state: HostState) -> None:
    assert switched(power_view(FULL, host(2, state))) == []


def test_only_one_that_the_broker_may_and_can() -> None:
    own = host(2, HostState.OFF, settings=HostSettings())
    assert switched(power_view(FULL, own)) == []
    view = make_view(hosts=(FULL, host(2, HostState.OFF)))
    assert switched(view) == []


def test_labels_are_kept() -> None:
    pool = make_pool(settings=PoolSettings(labels=("gpu",)))
    plain = host(2, HostState.OFF)
    labelled = HostSettings(power_managed=True, labels=("gpu",))
    gpu = host(3, HostState.OFF, settings=labelled)
    assert switched(power_view(FULL, plain, pools=(pool,))) == []
    assert switched(power_view(FULL, plain, gpu, pools=(pool,))) == [("server-3", True)]


def test_one_that_is_switched_on_for_somebodys_desktop_is_not_switched_twice() -> None:
    parked = make_desktop(host_id="hst_2", state="parked")
    view = power_view(FULL, host(2, HostState.OFF), awaited=(parked,))
    assert switched(view) == [("server-2", True)]


def test_each_pool_that_lacks_some_is_served() -> None:
    pools = tuple(make_pool(id=f"pol_{n}", name=f"p{n}", spares_min=1) for n in range(2))
    offs = [host(n, HostState.OFF, capacity=Resources(cpus=8, memory_mib=4096)) for n in (2, 3)]
    assert len(switched(power_view(FULL, *offs, pools=pools))) == 2


# ------------------------------------------------------------------------------------ off


def idle(*numbers: int, since: int = NOW - 600_000) -> Memory:
    return Memory(idle_since={f"hst_{n}": since for n in numbers})


FILLED = {("pol_1", "ready"): 2}


def test_a_host_that_was_empty_for_long_goes_off() -> None:
    view = power_view(host(1), host(2), counts=FILLED, memory=idle(2))
    (command,) = of(PowerHost, decide(view).commands)
    assert not command.on
    assert command.host.id == "hst_2"
    assert command.why == "nobody used it for 600 s, and the others have room"


def test_not_before_its_time() -> None:
    late = idle(2, since=NOW - 599_999)
    planned = decide(power_view(host(1), host(2), counts=FILLED, memory=late))
    assert planned.commands == ()
    assert planned.memory.idle_since == {"hst_1": NOW, "hst_2": NOW - 599_999}


@pytest.mark.parametrize(
    "load",
    [
        host(2, used=Resources(cpus=0, memory_mib=1)),
        host(2, used=Resources(cpus=0.5, memory_mib=0)),
        host(2, starting=1),
        host(2, moving=1),
        host(2, HostState.DRAINING),
        host(2, settings=HostSettings(idle_off_s=600)),
    ],
)
def test_not_what_runs_something_or_is_not_the_brokers(load: Any) -> None:
    view = power_view(host(1, settings=HostSettings()), load, counts=FILLED, memory=idle(2))
    planned = decide(view)
    assert planned.commands == ()
    assert planned.memory.idle_since == {}


def test_suspended_desktops_do_not_keep_a_host_on() -> None:
    asleep = host(2, used=Resources(cpus=0, memory_mib=0, disk_mib=5000), desktops_by_pool={"p": 3})
    assert is_empty(asleep)
    view = power_view(host(1), asleep, counts=FILLED, memory=idle(2))
    assert switched(view) == [("server-2", False)]


def test_what_the_pools_keep_ready_must_fit_on_the_others() -> None:
    room_for_one = host(1, used=Resources(cpus=1, memory_mib=131072 - 8191))
    view = power_view(room_for_one, host(2), counts=FILLED, memory=idle(2))
    assert switched(view) == []
    room_for_two = host(1, used=Resources(cpus=1, memory_mib=131072 - 8192))
    view = power_view(room_for_two, host(2), counts=FILLED, memory=idle(2))
    assert switched(view) == [("server-2", False)]


def test_the_reserve_need_not_start_at_once_nor_where_no_pool_is_paused() -> None:
    others = host(1, start_limit=1, starting=1)
    paused = Breaker(failures=5, opened=1, until=NOW + 60_000)
    view = power_view(
        others,
        host(2),
        counts=FILLED,
        memory=idle(2),
        breakers={("pol_1", "hst_1"): paused},
    )
    assert switched(view) == [("server-2", False)]


def test_one_that_must_stay_does_not_keep_others_on() -> None:
    gpu = make_pool(settings=PoolSettings(labels=("gpu",)), spares_min=0)
    labelled = HostSettings(power_managed=True, idle_off_s=600, labels=("gpu",))
    hosts = (host(1, settings=labelled, capacity=BIG), host(2, capacity=SMALL))
    assert switched(power_view(*hosts, pools=(gpu,), memory=idle(1, 2))) == [("server-2", False)]


def test_one_host_stays_for_the_first_person() -> None:
    pool = make_pool(spares_min=0)
    view = power_view(host(1), host(2), pools=(pool,), memory=idle(1, 2))
    assert switched(view) == [("server-1", False)]


def test_the_biggest_goes_first() -> None:
    hosts = (host(1), host(2, capacity=SMALL), host(3, capacity=BIG))
    view = power_view(*hosts, counts=FILLED, memory=idle(2, 3))
    assert switched(view) == [("server-3", False), ("server-2", False)]


def test_of_two_with_the_same_memory_the_one_with_more_cpus_goes_first() -> None:
    hosts = [
        host(n, capacity=Resources(cpus=cpus, memory_mib=8192))
        for n, cpus in ((1, 64), (3, 8), (4, 16), (2, 8))
    ]
    view = power_view(*hosts, counts=FILLED, memory=idle(2, 3, 4))
    assert [name for name, _ in switched(view)] == ["server-4", "server-2", "server-3"]


def test_at_night_all_go() -> None:
    night = ScheduleEntry(name="night", window=Window(), power=False)
    pool = make_pool(settings=PoolSettings(schedule=(night,)))
    view = power_view(host(1), host(2), pools=(pool,), memory=idle(1, 2))
    assert switched(view) == [("server-1", False), ("server-2", False)]


def test_no_more_go_in_one_look_than_the_limit() -> None:
    hosts = [host(n) for n in range(1, 10)]
    view = power_view(*hosts, counts=FILLED, memory=idle(*range(2, 10)))
    assert len(switched(view)) == limits.POWER_PER_LOOK_MAX


def test_nothing_goes_off_in_a_look_that_lacks_room_or_puts_something_there() -> None:
    busy: dict[str, Any] = {"starting": 10, "used": Resources(cpus=1, memory_mib=4096)}
    view = power_view(host(1, **busy), host(2, start_limit=0), memory=idle(2))
    assert of(NoRoom, decide(view).commands)
    assert switched(view) == []
    filling = power_view(
        host(1, used=Resources(cpus=1, memory_mib=100_000)), host(2), memory=idle(2)
    )
    assert {one.host_id for one in of(MakeDesktop, decide(filling).commands)} == {"hst_2"}
    assert switched(filling) == []


@pytest.mark.parametrize("spares", [0, 1])
def test_a_pool_that_no_host_can_serve_keeps_none_on(spares: int) -> None:
    other = make_pool(id="pol_2", name="b", spares_min=spares, settings=PoolSettings(labels=("x",)))
    view = power_view(host(1), host(2), pools=(make_pool(), other), counts=FILLED, memory=idle(2))
    assert switched(view) == [("server-2", False)]
    labelled = host(2, settings=replace(MANAGED, labels=("x",)))
    view = power_view(host(1), labelled, pools=(make_pool(), other), counts=FILLED, memory=idle(2))
    assert switched(view) == []


def test_nothing_goes_off_while_another_is_switched_on() -> None:
    parked = make_desktop(host_id="hst_3", state="parked")
    view = power_view(
        host(1), host(2), host(3, HostState.OFF), counts=FILLED, memory=idle(2), awaited=(parked,)
    )
    assert switched(view) == [("server-3", True)]


@pytest.mark.parametrize(
    ("spares", "there", "expected"), [(0, 0, 1), (3, 0, 3), (30, 0, 10), (3, 9, 1), (3, 10, 0)]
)
def test_the_reserve_is_the_spares_at_least_one_and_bounded(
    spares: int, there: int, expected: int
) -> None:
    pool = make_pool(spares_min=spares, size_max=10 if spares < 30 else 100)
    (need,) = assess(make_view(pools=(pool,), counts={("pol_1", "assigned"): there}))
    assert reserve(need) == expected
    (closed,) = assess(make_view(pools=(make_pool(enabled=False),)))
    assert reserve(closed) == 0
