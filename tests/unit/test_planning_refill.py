"""Refilling: both levels of spares, people who wait, limits, fairness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.calendar import Window
from broker.domain.model import Architecture, Resources
from broker.domain.model import DesktopState as D
from broker.domain.planning import (
    MakeDesktop,
    NoRoom,
    ResumeDesktop,
    Rows,
)
from broker.domain.planning.breaker import Breaker
from broker.domain.settings import PoolSettings, ScheduleEntry, ServiceState, SiteSettings
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import ALL_FEATURES, decide, make_load, make_view, of, sleepers


def made(**changes: Any) -> int:
    return len(of(MakeDesktop, decide(make_view(**changes)).commands))


# ------------------------------------------------------------------------------- how many


def test_an_empty_pool_gets_its_spares() -> None:
    commands = of(MakeDesktop, decide(make_view()).commands)
    assert len(commands) == 2
    assert commands[0].host_id == "hst_1"
    assert commands[0].why == "it keeps spares; server-1 has most room (97% left)"
    assert commands[0].reasons == ("server-1 would keep 97% free",)
    assert commands[1].reasons == ("server-1 would keep 94% free",)


@pytest.mark.parametrize("state", ["planned", "creating", "starting", "resetting", "resuming"])
def test_machines_on_their_way_count_as_spares(state: str) -> None:
    assert made(counts={("pol_1", state): 2}) == 0
    assert made(counts={("pol_1", state): 1}) == 1


@pytest.mark.parametrize("state", ["assigned", "parked", "failed", "deleting", "suspending"])
def test_others_do_not(state: str) -> None:
    assert made(counts={("pol_1", state): 2}) == 2


def test_one_is_made_for_each_who_waits_beside_the_spares() -> None:
    commands = of(MakeDesktop, decide(make_view(waiting={"pol_1": 3})).commands)
    assert len(commands) == 5
    assert [one.why.split(";")[0] for one in commands] == ["3 wait for one"] * 3 + [
        "it keeps spares"
    ] * 2


def test_a_pool_never_grows_past_its_size() -> None:
    assert made(counts={("pol_1", "assigned"): 9}, waiting={"pol_1": 30}) == 1
    assert made(counts={("pol_1", "assigned"): 9, ("pol_1", "deleting"): 1}) == 0
    assert made(counts={("pol_1", "assigned"): 9, ("pol_1", "failed"): 1}) == 0
    assert made(counts={("pol_1", "assigned"): 9, ("pol_1", "suspended"): 1}) == 0


def test_machines_that_somebody_owns_are_no_spares() -> None:
    counts = {("pol_1", "ready"): 5, ("pol_1", "resetting"): 1}
    owned = {("pol_1", "ready"): 4, ("pol_1", "resetting"): 1}
    assert made(counts=counts) == 0
    assert made(counts=counts, owned=owned) == 1


def test_an_owner_who_waits_for_his_own_needs_no_other() -> None:
    asleep = make_desktop(state=D.SUSPENDED, owner_id="usr_1")
    counts = {("pol_1", "suspended"): 1, ("pol_1", "ready"): 2}
    owned = {("pol_1", "suspended"): 1}
    waiting = {"pol_1": 1}
    assert made(counts=counts, owned=owned, waiting=waiting, awaited=(asleep,)) == 0
    assert made(counts=counts, owned=owned, waiting=waiting) == 1
    resuming = {("pol_1", "resuming"): 1}
    assert made(counts=counts | resuming, owned=owned | resuming, waiting=waiting) == 0
    parked = replace(asleep, state=D.PARKED)
    assert made(counts=counts, owned=owned, waiting=waiting, awaited=(parked,)) == 1


def test_the_size_at_least_is_made_at_once() -> None:
    pool = make_pool(spares_min=0, settings=PoolSettings(size_min=6))
    assert made(pools=(pool,)) == 6
    assert made(pools=(pool,), counts={("pol_1", "assigned"): 4, ("pol_1", "suspended"): 1}) == 1
    assert made(pools=(pool,), counts={("pol_1", "assigned"): 4, ("pol_1", "deleting"): 2}) == 2


def test_second_level_spares_are_made_where_a_host_can_suspend() -> None:
    pool = make_pool(settings=PoolSettings(spares_suspended=3))
    assert made(pools=(pool,)) == 2
    features = {"hst_1": ALL_FEATURES}
    assert made(pools=(pool,), features=features) == 5
    asleep = {("pol_1", "suspended"): 2, ("pol_1", "suspending"): 1}
    assert made(pools=(pool,), features=features, counts=asleep | {("pol_1", "ready"): 2}) == 0


def test_pools_on_endpoints_get_no_machines() -> None:
    for architecture in (Architecture.IDV, Architecture.VOI):
        pool = make_pool(architecture=architecture)
        assert made(pools=(pool,), waiting={"pol_1": 3}) == 0


@pytest.mark.parametrize(
    "pool",
    [
        make_pool(enabled=False),
        make_pool(settings=PoolSettings(state=ServiceState.DRAINING)),
        make_pool(settings=PoolSettings(state=ServiceState.MAINTENANCE)),
    ],
    ids=["disabled", "draining", "maintenance"],
)
def test_a_pool_that_gives_nothing_gets_nothing_new(pool: Any) -> None:
    resting = make_desktop(state=D.SUSPENDED)
    assert (
        decide(
            make_view(
                pools=(pool,),
                waiting={"pol_1": 3},
                counts={("pol_1", "suspended"): 1},
                rows=Rows(suspended={"pol_1": (resting,)}),
            )
        ).commands
        == ()
    )


def test_a_closed_pool_keeps_its_spares_and_makes_none_for_people() -> None:
    closed = ScheduleEntry(name="night", window=Window(), open=False)
    pool = make_pool(settings=PoolSettings(schedule=(closed,)))
    assert made(pools=(pool,), waiting={"pol_1": 3}) == 2


def test_the_schedule_changes_how_many() -> None:
    morning = ScheduleEntry(name="morning", window=Window(), spares_min=7)
    assert made(pools=(make_pool(settings=PoolSettings(schedule=(morning,))),)) == 7


def test_no_look_begins_more_of_a_pool_than_a_batch() -> None:
    pool = make_pool(spares_min=9, settings=PoolSettings(refill_batch=4))
    assert made(pools=(pool,)) == 4
    rows = tuple(make_desktop(id=f"dsk_{n}", state=D.SUSPENDED) for n in range(3))
    view = make_view(
        pools=(pool,), counts={("pol_1", "suspended"): 3}, rows=Rows(suspended={"pol_1": rows})
    )
    commands = decide(view).commands
    assert len(of(ResumeDesktop, commands)) == 3
    assert len(of(MakeDesktop, commands)) == 1


# ------------------------------------------------------------------------------- where


def test_a_burst_is_spread_and_bounded_by_each_hosts_start_limit() -> None:
    hosts = tuple(make_load(id=f"hst_{n}", name=f"server-{n}", start_limit=3) for n in range(2))
    pool = make_pool(spares_min=20, size_max=40)
    commands = decide(make_view(pools=(pool,), hosts=hosts)).commands
    places = [one.host_id for one in of(MakeDesktop, commands)]
    assert sorted(places) == ["hst_0"] * 3 + ["hst_1"] * 3
    (none,) = of(NoRoom, commands)
    assert none.missing == 14
    assert none.why == "no host fits: " + "; ".join(none.reasons)
    assert none.reasons == (
        "server-0 starts 3 desktops already (limit 3)",
        "server-1 starts 3 desktops already (limit 3)",
    )


def test_pools_share_what_room_there_is() -> None:
    pools = tuple(make_pool(id=f"pol_{n}", name=f"p{n}", spares_min=10) for n in range(2))
    hosts = (make_load(start_limit=4),)
    commands = of(MakeDesktop, decide(make_view(pools=pools, hosts=hosts)).commands)
    assert [one.pool.id for one in commands] == ["pol_0", "pol_1", "pol_0", "pol_1"]


def test_the_pool_with_fewer_on_their_way_is_next() -> None:
    pools = tuple(make_pool(id=f"pol_{n}", name=f"p{n}", spares_min=10) for n in range(2))
    hosts = (make_load(start_limit=4),)
    view = make_view(pools=pools, hosts=hosts, counts={("pol_0", "starting"): 2})
    commands = of(MakeDesktop, decide(view).commands)
    assert [one.pool.id for one in commands] == ["pol_1", "pol_1", "pol_0", "pol_1"]


def test_people_come_before_spares() -> None:
    pools = (
        make_pool(id="pol_0", name="a", spares_min=10),
        make_pool(id="pol_1", name="b", spares_min=10),
    )
    hosts = (make_load(start_limit=3),)
    view = make_view(pools=pools, hosts=hosts, waiting={"pol_1": 3})
    commands = of(MakeDesktop, decide(view).commands)
    assert [one.pool.id for one in commands] == ["pol_1"] * 3
    (one, other) = of(NoRoom, decide(view).commands)
    assert {one.pool.id: one.missing, other.pool.id: other.missing} == {"pol_0": 10, "pol_1": 7}


def test_a_pool_without_room_is_told_once() -> None:
    hosts = (make_load(start_limit=1),)
    view = make_view(hosts=hosts, waiting={"pol_1": 3})
    (none,) = of(NoRoom, decide(view).commands)
    assert none.missing == 2


def test_the_sites_limit_of_desktops_holds_over_all_pools() -> None:
    pools = tuple(make_pool(id=f"pol_{n}", name=f"p{n}", spares_min=4) for n in range(2))
    idv = make_pool(id="pol_9", name="idv", architecture=Architecture.IDV)
    counts = {("pol_0", "assigned"): 2, ("pol_9", "ready"): 50, ("pol_1", "deleted"): 50}
    view = make_view(pools=(*pools, idv), counts=counts, site=SiteSettings(desktops_max=7))
    commands = decide(view).commands
    assert len(of(MakeDesktop, commands)) == 5
    assert {one.why for one in of(NoRoom, commands)} == {
        "the site's limit of 7 desktops is reached"
    }
    assert sum(one.missing for one in of(NoRoom, commands)) == 3


def test_the_sites_limit_of_memory_holds() -> None:
    hosts = (make_load(used=Resources(cpus=2, memory_mib=4096)),)
    view = make_view(hosts=hosts, site=SiteSettings(memory_mib_max=8192 + 4095))
    commands = decide(view).commands
    assert len(of(MakeDesktop, commands)) == 1
    (none,) = of(NoRoom, commands)
    assert none.why == "the site's limit of 12287 MiB of memory is reached"
    assert none.reasons == (none.why,)


def test_one_look_begins_no_more_than_its_limit() -> None:
    pools = tuple(
        make_pool(id=f"pol_{n}", name=f"p{n:02d}", spares_min=50, size_max=50) for n in range(11)
    )
    big = make_load(start_limit=9999, capacity=Resources(cpus=9999, memory_mib=10**8))
    commands = decide(make_view(pools=pools, hosts=(big,))).commands
    assert len(of(MakeDesktop, commands)) == limits.BEGUN_PER_LOOK_MAX == 500
    assert {one.why for one in of(NoRoom, commands)} == {
        "500 desktops are begun at once; the rest follows"
    }


def test_a_pool_paused_on_its_only_host_is_told_until_when() -> None:
    paused = Breaker(failures=5, opened=1, until=NOW + 60_000, error="no answer")
    commands = decide(make_view(breakers={("pol_1", "hst_1"): paused})).commands
    assert of(MakeDesktop, commands) == []
    (none,) = of(NoRoom, commands)
    assert none.why == ("no host fits: server-1 is paused until 14:14 after 5 failures: no answer")


# ------------------------------------------------------------------------------- second level


def test_second_level_spares_are_resumed_before_new_ones_are_made() -> None:
    view = make_view(
        counts={("pol_1", "suspended"): 1},
        waiting={"pol_1": 1},
        rows=Rows(suspended={"pol_1": sleepers(1)}),
    )
    commands = decide(view).commands
    (resumed,) = of(ResumeDesktop, commands)
    assert resumed.why == "library needs 3 more that run"
    assert len(of(MakeDesktop, commands)) == 2


def test_no_more_are_resumed_than_are_missing() -> None:
    view = make_view(
        counts={("pol_1", "suspended"): 5, ("pol_1", "ready"): 1},
        rows=Rows(suspended={"pol_1": sleepers(5)}),
    )
    commands = decide(view).commands
    assert [one.desktop.id for one in of(ResumeDesktop, commands)] == ["dsk_0"]
    assert of(MakeDesktop, commands) == []


def test_one_that_cannot_run_on_its_host_is_passed_over_and_another_made() -> None:
    full = make_load(used=Resources(cpus=1, memory_mib=131072))
    free = make_load(id="hst_2", name="server-2")
    rows = (*sleepers(1), *sleepers(1, host_id="hst_9"))
    view = make_view(
        hosts=(full, free),
        counts={("pol_1", "suspended"): 2},
        rows=Rows(suspended={"pol_1": rows}),
    )
    commands = decide(view).commands
    assert of(ResumeDesktop, commands) == []
    assert [one.host_id for one in of(MakeDesktop, commands)] == ["hst_2", "hst_2"]


def test_one_that_can_run_is_found_behind_one_that_cannot() -> None:
    rows = (*sleepers(1, id="dsk_9", host_id="hst_9"), *sleepers(1))
    view = make_view(counts={("pol_1", "suspended"): 2}, rows=Rows(suspended={"pol_1": rows}))
    assert [one.desktop.id for one in of(ResumeDesktop, decide(view).commands)] == ["dsk_0"]


def test_each_pools_sleepers_are_resumed_and_count_as_on_their_way() -> None:
    pools = tuple(make_pool(id=f"pol_{n}", name=f"p{n}", spares_min=3) for n in range(2))
    rows = {"pol_0": sleepers(2, pool_id="pol_0"), "pol_1": sleepers(1, id="s", pool_id="pol_1")}
    view = make_view(
        pools=pools,
        hosts=(make_load(start_limit=5),),
        counts={("pol_0", "suspended"): 2, ("pol_1", "suspended"): 1},
        rows=Rows(suspended=rows),
    )
    commands = decide(view).commands
    assert [one.desktop.id for one in of(ResumeDesktop, commands)] == ["dsk_0", "dsk_1", "s"]
    assert [one.pool.id for one in of(MakeDesktop, commands)] == ["pol_1", "pol_0"]


def test_people_who_get_a_resumed_one_need_no_new_one_first() -> None:
    pools = (
        make_pool(id="pol_0", name="a", spares_min=0),
        make_pool(id="pol_1", name="b", spares_min=1),
    )
    view = make_view(
        pools=pools,
        hosts=(make_load(start_limit=3),),
        counts={("pol_1", "suspended"): 1},
        waiting={"pol_0": 2, "pol_1": 1},
        rows=Rows(suspended={"pol_1": sleepers(1, pool_id="pol_1")}),
    )
    commands = decide(view).commands
    assert len(of(ResumeDesktop, commands)) == 1
    assert [one.pool.id for one in of(MakeDesktop, commands)] == ["pol_0", "pol_0"]


def test_a_resumed_one_is_no_new_desktop_of_the_site() -> None:
    view = make_view(
        counts={("pol_1", "suspended"): 1},
        rows=Rows(suspended={"pol_1": sleepers(1)}),
        site=SiteSettings(desktops_max=2),
    )
    commands = decide(view).commands
    assert len(of(ResumeDesktop, commands)) == 1
    assert len(of(MakeDesktop, commands)) == 1


def test_resuming_counts_as_starting_and_takes_room() -> None:
    pool = make_pool(spares_min=4)
    one = make_load(start_limit=2)
    view = make_view(
        pools=(pool,),
        hosts=(one,),
        counts={("pol_1", "suspended"): 1},
        rows=Rows(suspended={"pol_1": sleepers(1)}),
    )
    commands = decide(view).commands
    assert len(of(ResumeDesktop, commands)) == 1
    assert len(of(MakeDesktop, commands)) == 1


def test_resuming_needs_memory_and_no_more_disk() -> None:
    big = Resources(cpus=2, memory_mib=4096, disk_mib=1000)
    host = make_load(
        capacity=Resources(cpus=8, memory_mib=8192, disk_mib=1000),
        used=Resources(cpus=0, memory_mib=0, disk_mib=1000),
    )
    view = make_view(
        pools=(make_pool(spares_min=1, resources=big),),
        hosts=(host,),
        counts={("pol_1", "suspended"): 1},
        rows=Rows(suspended={"pol_1": sleepers(1, resources=big)}),
    )
    assert len(of(ResumeDesktop, decide(view).commands)) == 1


def test_the_site_limit_of_memory_holds_for_resuming_and_that_of_desktops_does_not() -> None:
    values: dict[str, Any] = {
        "counts": {("pol_1", "suspended"): 2},
        "rows": Rows(suspended={"pol_1": sleepers(2)}),
    }
    view = make_view(site=SiteSettings(memory_mib_max=4096), **values)
    assert len(of(ResumeDesktop, decide(view).commands)) == 1
    view = make_view(site=SiteSettings(desktops_max=1), **values)
    assert len(of(ResumeDesktop, decide(view).commands)) == 2
