"""Placement: a table of cases, and what must hold for any hosts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import HostState, Resources
from broker.domain.placement import (
    Choice,
    Demand,
    HostLoad,
    Room,
    choose,
    guaranteed,
    no_host,
    reason,
    refusal,
    score,
    some_reasons,
)
from broker.domain.settings import HostSettings, Share, Spread
from broker.domain.storage import StorageClass
from tests.support.builders import make_host

NEED = Resources(cpus=2, memory_mib=4096)
MEDIUM = Resources(cpus=8, memory_mib=16384)
ONE = Demand(need=NEED)
WIDE = Resources(cpus=1, memory_mib=1024, disk_mib=1000, disk_iops=100, network_mbit=10)
FULL = Share(cpus=1, memory=1, disk=1, network=1)


def load(
    name: str,
    *,
    used_mib: int = 0,
    used_cpus: float = 0,
    used: Resources | None = None,
    starting: int = 0,
    state: HostState = HostState.UP,
    capacity: Resources = MEDIUM,
    by_pool: dict[str, Resources] | None = None,
    desktops: dict[str, int] | None = None,
    **settings: Any,
) -> HostLoad:
    host = make_host(
        id=f"hst_{name}",
        name=name,
        state=state,
        capacity=capacity,
        overcommit_cpu=2.0,
        start_limit=4,
        settings=HostSettings(**settings),
    )
    return HostLoad(
        host=host,
        used=used or Resources(cpus=used_cpus, memory_mib=used_mib),
        starting=starting,
        by_pool=by_pool or {},
        desktops_by_pool=desktops or {},
    )


def test_the_host_with_most_room_is_chosen_and_says_so() -> None:
    choice = choose([load("a", used_mib=8192), load("b")], ONE)
    assert choice.host_id == "hst_b"
    assert choice.why == "b has most room (75% left)"
    assert choice.reasons == ("b would keep 75% free", "a would keep 25% free")


def test_depth_first_takes_the_fullest_that_fits() -> None:
    hosts = [load("a", used_mib=8192), load("b"), load("c", used_mib=15000)]
    choice = choose(hosts, replace(ONE, spread=Spread.DEPTH))
    assert choice.host_id == "hst_a"
    assert choice.why == "a has least room (25% left)"


def test_a_tie_goes_to_the_lower_name_in_any_order() -> None:
    assert choose([load("b"), load("a")], ONE).host_id == "hst_a"
    assert choose([load("a"), load("b")], ONE).host_id == "hst_a"
    deep = replace(ONE, spread=Spread.DEPTH)
    assert choose([load("b"), load("a")], deep).host_id == "hst_a"


def test_each_host_that_does_not_fit_says_why() -> None:
    choice = choose(
        [
            load("a", used_mib=14336),
            load("b", used_cpus=15),
            load("c", state=HostState.DRAINING),
            load("d", starting=4),
        ],
        ONE,
    )
    assert choice.host_id is None
    assert choice.reasons == (
        "a lacks 2048 MiB of memory",
        "b lacks 1 CPUs",
        "c drains",
        "d starts 4 desktops already (limit 4)",
    )
    assert choice.why == "no host fits: " + "; ".join(choice.reasons)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (HostState.DRAINING, "a drains"),
        (HostState.MAINTENANCE, "a is under maintenance"),
        (HostState.DOWN, "a is down"),
        (HostState.OFF, "a is off"),
        (HostState.POWERING_ON, "a is switched on just now"),
        (HostState.POWERING_OFF, "a is switched off just now"),
    ],
)
def test_only_a_host_that_is_up_takes_desktops(state: HostState, words: str) -> None:
    assert choose([load("a", state=state)], ONE) == Choice(
        host_id=None, why=f"no host fits: {words}", reasons=(words,)
    )


@pytest.mark.parametrize(
    ("lacking", "figure"),
    [(0.126, "0.13"), (2, "2"), (999.5, "999.5"), (1000, "1000"), (1234567.6, "1234568")],
)
def test_a_figure_is_short_and_never_in_powers_of_ten(lacking: float, figure: str) -> None:
    need = Demand(need=Resources(cpus=lacking, memory_mib=0))
    (reason,) = choose([load("a", used_cpus=16)], need).reasons
    assert reason == f"a lacks {figure} CPUs"


def test_without_hosts_it_says_that_there_are_none() -> None:
    assert choose([], ONE) == Choice(host_id=None, why="no host is known", reasons=())


def test_what_just_fits_fits() -> None:
    assert refusal(Room(load("a", used_mib=12288, used_cpus=14), {}), ONE) is None
    assert refusal(Room(load("a", starting=3), {}), ONE) is None
    tenths = Room(load("a", used_cpus=sum([0.1] * 140)), {})  # 14.000000000000021
    assert refusal(tenths, ONE) is None


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (Resources(cpus=15.5, memory_mib=0), "a lacks 0.5 CPUs"),
        (Resources(cpus=0, memory_mib=16000), "a lacks 640 MiB of memory"),
        (Resources(cpus=0, memory_mib=0, disk_mib=9500), "a lacks 500 MiB of disk"),
        (Resources(cpus=0, memory_mib=0, disk_iops=920), "a lacks 20 disk operations a second"),
        (Resources(cpus=0, memory_mib=0, network_mbit=99), "a lacks 9 Mbit/s"),
        (Resources(cpus=0, memory_mib=90_000), "a lacks 1024 MiB of memory"),
    ],
)
def test_each_resource_that_a_host_counts_limits_it(used: Resources, words: str) -> None:
    capacity = Resources(
        cpus=8, memory_mib=16384, disk_mib=10_000, disk_iops=1000, network_mbit=100
    )
    full = load("a", used=used, capacity=capacity)
    assert refusal(Room(full, {}), Demand(need=WIDE)) == words


def test_disk_and_network_that_a_host_does_not_state_are_not_counted() -> None:
    taken = Resources(cpus=0, memory_mib=0, disk_mib=10**9, disk_iops=10**6, network_mbit=10**6)
    assert refusal(Room(load("a", used=taken), {}), Demand(need=WIDE, guarantee=FULL)) is None


@pytest.mark.parametrize("name", ["memory", "disk", "network"])
def test_each_resource_is_promised_as_often_as_the_host_says(name: str) -> None:
    capacity = Resources(cpus=8, memory_mib=1024, disk_mib=1000, disk_iops=100, network_mbit=10)
    taken = {
        "memory": Resources(cpus=0, memory_mib=1024),
        "disk": Resources(cpus=0, memory_mib=0, disk_mib=1000, disk_iops=100),
        "network": Resources(cpus=0, memory_mib=0, network_mbit=10),
    }[name]
    once = load("a", used=taken, capacity=capacity)
    doubled: dict[str, Any] = {f"overcommit_{name}": 2.0}
    twice = load("a", used=taken, capacity=capacity, **doubled)
    assert refusal(Room(once, {}), Demand(need=WIDE)) is not None
    assert refusal(Room(twice, {}), Demand(need=WIDE)) is None


def test_what_is_guaranteed_is_never_promised_twice() -> None:
    there = {"pol_1": Resources(cpus=8, memory_mib=8192), "pol_2": Resources(cpus=8, memory_mib=0)}
    used = Resources(cpus=16, memory_mib=8192)
    host = load("a", used=used, by_pool=there, capacity=Resources(cpus=16, memory_mib=16384))
    shares = {"pol_1": Share(cpus=1.0), "pol_2": Share(cpus=0.5), "pol_3": Share(cpus=1.0)}
    room = Room(host, shares)
    assert list(room.reserved) == [12.0, 0.0, 0.0, 0.0, 0.0]
    keen = Demand(need=Resources(cpus=5, memory_mib=1), guarantee=Share(cpus=1.0))
    assert refusal(room, keen) == "a cannot guarantee 1 CPUs more"
    assert refusal(room, replace(keen, guarantee=Share(cpus=0.8))) is None


def test_the_guarantees_of_other_pools_are_kept_when_a_host_is_chosen() -> None:
    here = load("a", by_pool={"pol_2": Resources(cpus=4, memory_mib=8192)})
    demand = Demand(need=Resources(cpus=5, memory_mib=1), guarantee=FULL)
    assert choose([here], demand).host_id == "hst_a"
    refused = choose([here], demand, {"pol_2": Share(cpus=1.0)})
    assert refused.reasons == ("a cannot guarantee 1 CPUs more",)


def test_a_guarantee_is_a_part_of_each_resource() -> None:
    need = Resources(cpus=4, memory_mib=1000, disk_mib=100, disk_iops=50, network_mbit=8)
    share = Share(cpus=0.5, memory=0.25, disk=0.1, network=0.75)
    assert guaranteed(need, share) == (2.0, 250.0, 10.0, 5.0, 6.0)


def test_labels_are_needed_and_liked() -> None:
    plain, gpu = load("a"), load("b", labels=("gpu", "ssd"), used_mib=8192)
    both = load("c", labels=("gpu", "ssd", "new"), used_mib=9000)
    needs = replace(ONE, labels=("gpu", "ssd"))
    assert choose([plain, gpu], needs).host_id == "hst_b"
    assert refusal(Room(plain, {}), needs) == "a has no label gpu"
    likes = replace(ONE, prefer_labels=("ssd", "new"))
    assert choose([plain, gpu, both], likes).host_id == "hst_c"
    assert choose([plain], likes).host_id == "hst_a"


def test_apart_keeps_a_pool_off_hosts_that_have_one_of_it_while_another_fits() -> None:
    demand = replace(ONE, pool_id="pol_1", apart=True)
    first, second = load("a", desktops={"pol_1": 1}), load("b", used_mib=8192)
    choice = choose([first, second], demand)
    assert choice.host_id == "hst_b"
    assert choice.why == "b has no desktop of this pool yet (25% left)"
    full = load("b", used_mib=16384)
    choice = choose([first, full], demand)
    assert choice.host_id == "hst_a"
    assert choice.why == "a has most room (75% left)"
    together = replace(demand, apart=False)
    assert choose([first, second], together).host_id == "hst_a"


def test_a_room_counts_what_it_took() -> None:
    room = Room(load("a", starting=1), {})
    demand = Demand(need=WIDE, pool_id="pol_1", guarantee=Share(memory=0.5))
    room.take(demand)
    room.take(replace(demand, starts=False))
    assert list(room.used) == [2.0, 2048, 2000, 200, 20]
    assert list(room.reserved) == [0.0, 1024.0, 0.0, 0.0, 0.0]
    assert room.starting == 2
    assert room.desktops == {"pol_1": 2}
    twin = room.copy()
    twin.release(WIDE, Share(memory=0.5))
    twin.take(replace(demand, pool_id="pol_2"))
    twin.release(WIDE, Share(memory=0.5))
    assert list(twin.used) == [1.0, 1024, 1000, 100, 10]
    assert list(twin.reserved) == [0.0, 512.0, 0.0, 0.0, 0.0]
    assert list(room.used) == [2.0, 2048, 2000, 200, 20]
    assert room.desktops == {"pol_1": 2}


def test_what_runs_already_is_not_held_by_the_limit_of_starts() -> None:
    room = Room(load("a", starting=4), {})
    assert refusal(room, ONE) == "a starts 4 desktops already (limit 4)"
    assert refusal(room, replace(ONE, starts=False)) is None
    ever = Room(load("a", starting=4), {})
    ever.starting = None
    assert refusal(ever, ONE) is None
    ever.take(ONE)
    assert ever.starting is None


def test_fullness_is_that_of_the_scarcest_resource() -> None:
    capacity = Resources(cpus=8, memory_mib=16384, disk_mib=1000)
    used = Resources(cpus=4, memory_mib=8192, disk_mib=900)
    room = Room(load("a", used=used, capacity=capacity), {})
    assert room.fullness() == pytest.approx(0.9)
    assert room.fullness((12.0, 0.0, 0.0, 0.0, 0.0)) == pytest.approx(1.0)
    empty = Room(load("b", capacity=Resources(cpus=0, memory_mib=0)), {})
    assert empty.fullness() == 0.0
    assert empty.fullness((1.0, 0.0, 0.0, 0.0, 0.0)) == 1.0
    twice = Room(load("c", used_mib=16384, overcommit_memory=2.0), {})
    assert twice.fullness() == pytest.approx(0.5)


def test_the_score_orders_by_company_then_wishes_then_cost_then_room_then_name() -> None:
    room = Room(load("a", used_mib=4096, desktops={"pol_1": 2}, labels=("x",)), {})
    demand = Demand(need=NEED, pool_id="pol_1", prefer_labels=("x", "y", "z"))
    assert score(room, demand) == (0, 2, 0.0, 0.5, "a")
    assert score(room, replace(demand, apart=True)) == (2, 2, 0.0, 0.5, "a")
    assert score(room, replace(demand, spread=Spread.DEPTH)) == (0, 2, 0.0, -0.5, "a")
    room.storage = {"fast": StorageClass(name="fast", cost=2.5)}
    assert score(room, replace(demand, storage="fast")) == (0, 2, 2.5, 0.5, "a")
    assert score(room, replace(demand, pool_id="pol_2", apart=True))[0] == 0


def test_reasons_name_the_room_or_what_blocks_the_pool() -> None:
    room = Room(load("a"), {})
    assert reason(room, ONE) == "a would keep 75% free"
    assert reason(room, ONE, "a is paused") == "a is paused"
    assert reason(Room(load("a", starting=4), {}), ONE, "a is paused").startswith("a starts 4")


def test_past_a_limit_hosts_are_counted_instead_of_named() -> None:
    hosts = [load(f"h{n:03d}") for n in range(50)]
    choice = choose(hosts, ONE)
    assert len(choice.reasons) == 11
    assert choice.reasons[0].startswith("h000")
    assert choice.reasons[-1] == "and 40 more hosts"
    assert some_reasons(["a"] * 10, 10) == ("a",) * 10
    assert some_reasons([], 0) == ()
    assert no_host([]) == "no host is known"


LOADS = st.lists(
    st.builds(
        load,
        st.sampled_from("abcdefgh"),
        used_mib=st.integers(0, 20000),
        used_cpus=st.floats(0, 20),
        starting=st.integers(0, 6),
        state=st.sampled_from([HostState.UP, HostState.UP, *HostState]),
        labels=st.sampled_from([(), ("x",)]),
        desktops=st.fixed_dictionaries({"pol_1": st.integers(0, 2)}),
    ),
    unique_by=lambda one: one.host.id,
    max_size=6,
)
DEMANDS = st.builds(
    Demand,
    need=st.just(NEED),
    pool_id=st.just("pol_1"),
    guarantee=st.builds(Share, cpus=st.sampled_from([0.0, 0.5]), memory=st.just(1.0)),
    labels=st.sampled_from([(), ("x",)]),
    prefer_labels=st.sampled_from([(), ("x",)]),
    apart=st.booleans(),
    spread=st.sampled_from(Spread),
)


@given(LOADS, DEMANDS)
def test_a_chosen_host_always_has_room_is_up_and_may_start_one_more(
    loads: list[HostLoad], demand: Demand
) -> None:
    choice = choose(loads, demand)
    if choice.host_id is None:
        return
    chosen = next(one for one in loads if one.host.id == choice.host_id)
    assert chosen.host.state is HostState.UP
    assert chosen.used.memory_mib + NEED.memory_mib <= chosen.host.capacity.memory_mib
    most = chosen.host.capacity.cpus * chosen.host.overcommit_cpu
    assert chosen.used.cpus + NEED.cpus <= most + 1e-6
    assert chosen.starting < chosen.host.start_limit
    assert set(demand.labels) <= set(chosen.host.settings.labels)


@given(LOADS, DEMANDS)
def test_the_order_of_hosts_does_not_matter(loads: list[HostLoad], demand: Demand) -> None:
    assert choose(loads, demand) == choose(loads[::-1], demand)


@given(LOADS, DEMANDS)
def test_taking_away_a_host_that_was_not_chosen_changes_nothing(
    loads: list[HostLoad], demand: Demand
) -> None:
    choice = choose(loads, demand)
    for left_out in loads:
        if left_out.host.id != choice.host_id:
            rest = [one for one in loads if one is not left_out]
            assert choose(rest, demand).host_id == choice.host_id
