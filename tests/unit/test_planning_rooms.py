"""Many choices in one plan: the same as one by one over all hosts, each counting for the next."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.model import HostState, Resources
from broker.domain.placement import Choice, HostLoad, choose
from broker.domain.planning.breaker import Breaker
from broker.domain.planning.rooms import Rooms, demand_of
from broker.domain.settings import PoolSettings, Share, Spread
from tests.support.builders import NOW, make_pool
from tests.support.planning import make_load, make_view


def hosts(count: int = 2, **changes: object) -> tuple[HostLoad, ...]:
    return tuple(make_load(id=f"hst_{n}", name=f"server-{n}", **changes) for n in range(count))


def test_a_demand_is_what_the_pool_asks() -> None:
    settings = PoolSettings(
        guarantee=Share(cpus=0.5), labels=("a",), prefer_labels=("b",), apart=True,
        spread=Spread.DEPTH,
    )  # fmt: skip
    demand = demand_of(pool := make_pool(settings=settings))
    assert demand.need == pool.resources
    assert demand.pool_id == pool.id
    assert demand.guarantee == Share(cpus=0.5)
    assert (demand.labels, demand.prefer_labels) == (("a",), ("b",))
    assert demand.apart
    assert demand.spread is Spread.DEPTH
    assert demand.starts


def test_a_burst_does_not_land_on_one_host() -> None:
    rooms = Rooms(make_view(hosts=hosts(4)))
    chosen = [rooms.choose(make_pool()).host_id for _ in range(8)]
    assert sorted(filter(None, chosen)) == sorted(f"hst_{n}" for n in range(4) for _ in range(2))


def test_starts_may_be_left_out() -> None:
    view = make_view(hosts=hosts(1, start_limit=2, capacity=Resources(cpus=32, memory_mib=16384)))
    rooms, sooner = Rooms(view), Rooms(view, starts=False)
    pool = make_pool()
    assert [rooms.fit(pool) for _ in range(3)] == ["hst_0", "hst_0", None]
    assert [sooner.fit(pool) for _ in range(5)] == ["hst_0"] * 4 + [None]


def test_only_some_hosts_may_be_looked_at() -> None:
    loads = hosts(3)
    rooms = Rooms(make_view(hosts=loads), loads=loads[2:])
    assert rooms.fit(make_pool()) == "hst_2"
    assert list(rooms.by_id) == ["hst_2"]


def test_a_host_that_changed_is_weighed_anew() -> None:
    loads = hosts(2, capacity=Resources(cpus=32, memory_mib=4096))
    rooms, pool = Rooms(make_view(hosts=loads)), make_pool()
    assert [rooms.fit(pool) for _ in range(3)] == ["hst_0", "hst_1", None]
    rooms.by_id["hst_1"].release(pool.resources, Share())
    assert rooms.fit(pool) is None
    rooms.touch("hst_1")
    assert rooms.fit(pool) == "hst_1"


def test_a_pause_of_the_pool_on_a_host_is_kept_and_told() -> None:
    failing = Breaker(failures=5, opened=1, until=NOW + 60_000, error="no answer")
    view = make_view(hosts=hosts(2), breakers={("pol_1", "hst_0"): failing})
    rooms = Rooms(view)
    choice = rooms.choose(make_pool())
    assert choice.host_id == "hst_1"
    assert choice.reasons == (
        "server-1 would keep 97% free",
        "server-0 is paused until 14:14 after 5 failures: no answer",
    )
    assert Rooms(view).choose(make_pool(id="pol_2")).host_id == "hst_0"


def test_a_pause_is_told_in_the_pools_own_time() -> None:
    failing = Breaker(failures=5, opened=1, until=NOW + 60_000)
    view = make_view(hosts=hosts(1), breakers={("pol_1", "hst_0"): failing})
    far = make_pool(settings=PoolSettings(time_zone="Asia/Shanghai"))
    assert Rooms(view).choose(far).reasons == ("server-0 is paused until 22:14 after 5 failures",)


def test_after_its_pause_a_host_gets_one_to_try() -> None:
    failing = Breaker(failures=5, opened=1, until=NOW, error="no answer")
    one = hosts(1)
    rooms = Rooms(make_view(hosts=one, breakers={("pol_1", "hst_0"): failing}))
    pool = make_pool()
    assert rooms.choose(pool).host_id == "hst_0"
    assert rooms.choose(pool) == Choice(
        host_id=None,
        why="no host fits: server-0 tries one desktop after 5 failures: no answer",
        reasons=("server-0 tries one desktop after 5 failures: no answer",),
    )
    trying = replace(failing, trial_until=NOW + 1)
    rooms = Rooms(make_view(hosts=one, breakers={("pol_1", "hst_0"): trying}))
    assert rooms.fit(pool) is None
    closed = Breaker(failures=4)
    rooms = Rooms(make_view(hosts=one, breakers={("pol_1", "hst_0"): closed}))
    assert [rooms.fit(pool) for _ in range(2)] == ["hst_0", "hst_0"]


def test_few_of_many_hosts_are_named() -> None:
    choice = Rooms(make_view(hosts=hosts(60))).choose(make_pool())
    assert len(choice.reasons) == 11
    assert choice.reasons[-1] == "and 50 more hosts"
    none = Rooms(make_view(hosts=hosts(60, state=HostState.OFF))).choose(make_pool())
    assert len(none.reasons) == 11
    assert none.why.startswith("no host fits: server-0 is off; ")


LOADS = st.lists(
    st.builds(
        lambda n, mib, cpus, starting, state, here: make_load(
            id=f"hst_{n}",
            name=f"server-{n}",
            state=state,
            start_limit=4,
            capacity=Resources(cpus=8, memory_mib=24576),
            used=Resources(cpus=cpus, memory_mib=mib),
            starting=starting,
            desktops_by_pool={"pol_1": here},
        ),
        st.integers(0, 9),
        st.integers(0, 20).map(lambda one: one * 1024),
        st.integers(0, 20),
        st.integers(0, 3),
        st.sampled_from([HostState.UP, HostState.UP, HostState.UP, HostState.DOWN]),
        st.integers(0, 2),
    ),
    unique_by=lambda one: one.host.id,
    max_size=6,
)
WISHES = st.builds(
    PoolSettings,
    apart=st.booleans(),
    spread=st.sampled_from(Spread),
    guarantee=st.sampled_from([Share(), Share(cpus=0.5, memory=0.5)]),
)


@given(LOADS, st.tuples(WISHES, WISHES), st.lists(st.integers(0, 1), max_size=20))
def test_every_choice_is_the_one_that_a_look_at_all_hosts_would_make(
    loads: list[HostLoad], wishes: tuple[PoolSettings, PoolSettings], turns: list[int]
) -> None:
    pools = [make_pool(id=f"pol_{n}", settings=one) for n, one in enumerate(wishes, start=1)]
    view = make_view(pools=tuple(pools), hosts=tuple(loads))
    rooms = Rooms(view)
    guarantees = {pool.id: pool.settings.guarantee for pool in pools}
    here = {one.host.id: one for one in loads}
    for turn in turns:
        pool = pools[turn]
        expected = choose(tuple(here.values()), demand_of(pool), guarantees)
        assert rooms.choose(pool) == expected
        if expected.host_id is not None:
            here[expected.host_id] = _one_more(here[expected.host_id], pool.id, pool.resources)


def _one_more(load: HostLoad, pool_id: str, need: Resources) -> HostLoad:
    def added(one: Resources) -> Resources:
        return Resources(cpus=one.cpus + need.cpus, memory_mib=one.memory_mib + need.memory_mib)

    nothing = Resources(cpus=0, memory_mib=0)
    return replace(
        load,
        used=added(load.used),
        starting=load.starting + 1,
        by_pool={**load.by_pool, pool_id: added(load.by_pool.get(pool_id, nothing))},
        desktops_by_pool={
            **load.desktops_by_pool, pool_id: load.desktops_by_pool.get(pool_id, 0) + 1
        },
    )  # fmt: skip
