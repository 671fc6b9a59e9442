"""Classes of storage: where a disk may be made, what it costs, and who has the same disks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.features import Feature
from broker.domain.model import DesktopState, HostState, Resources
from broker.domain.placement import Demand, HostLoad, Room, choose, shares_storage
from broker.domain.planning import ClearDesktop, Memory, MigrateDesktop, Rows
from broker.domain.planning.consolidate import consolidate
from broker.domain.planning.moving import Moves
from broker.domain.planning.needs import assess
from broker.domain.planning.rooms import Rooms
from broker.domain.settings import PoolSettings
from broker.domain.storage import OWN, SAME, StorageClass
from broker.limits import STORAGE_FULL_ABOVE
from tests.support.builders import make_desktop, make_pool
from tests.support.planning import ALL_FEATURES, decide, make_load, make_view

GIB = 1 << 30
NEED = Resources(cpus=1, memory_mib=1024, disk_mib=10 * 1024)
ONE = Demand(need=NEED, storage="fast")


def stored(name: str = "fast", **changes: Any) -> StorageClass:
    values: dict[str, Any] = {"cost": 1.0, "capacity": 100 * GIB, "available": 50 * GIB}
    return StorageClass(name=name, **(values | changes))


def load(number: int, *classes: StorageClass, **changes: Any) -> HostLoad:
    storage = {one.name: one for one in classes}
    name = f"server-{number}"
    return make_load(id=f"hst_{number}", name=name, storage=storage, **changes)


# ------------------------------------------------------------------------- where it fits


def test_a_host_without_the_class_is_not_chosen_and_says_so() -> None:
    hosts = [load(1), load(2, stored("bulk")), load(3, stored())]
    choice = choose(hosts, ONE)
    assert choice.host_id == "hst_3"
    assert "server-1 has no storage class fast" in choice.reasons
    assert "server-2 has no storage class fast" in choice.reasons
    alone = choose(hosts[:1], ONE)
    assert (alone.host_id, alone.why) == (None, "no host fits: server-1 has no storage class fast")


def test_a_class_that_is_nearly_full_takes_nothing_more() -> None:
    full = stored(available=round((1 - STORAGE_FULL_ABOVE) * 100 * GIB) - GIB)
    choice = choose([load(1, full)], ONE)
    assert choice.host_id is None
    assert choice.why == ("no host fits: server-1: storage class fast: it is 96% full (limit 95%)")
    assert choose([load(1, replace(full, available=6 * GIB))], ONE).host_id == "hst_1"


def test_a_class_that_cannot_be_used_says_why() -> None:
    choice = choose([load(1, stored(refuses="it does not answer"))], ONE)
    assert choice.why == "no host fits: server-1: storage class fast: it does not answer"


def test_a_class_that_has_not_told_its_room_is_tried() -> None:
    unknown = stored(capacity=None, available=None)
    assert unknown.used() is None
    assert choose([load(1, unknown)], ONE).host_id == "hst_1"


def test_how_full_a_class_is_counts_what_more_comes_only_where_disks_are_whole() -> None:
    one = stored(available=7 * GIB)
    assert one.used() == pytest.approx(0.93)
    assert one.used(2 * 1024) == pytest.approx(0.95)
    assert one.used(9 * 1024) == 1.0
    assert stored(available=200 * GIB).used() == 0.0
    for unknown in ({"capacity": None}, {"capacity": 0}, {"available": None}):
        assert stored(**unknown).used() is None
    assert one.refusal(50 * 1024) is None
    whole = replace(one, whole=True)
    assert whole.refusal(2 * 1024) is None
    assert whole.refusal(2 * 1024 + 1) == "it would be 95% full (limit 95%)"
    assert whole.refusal() is None
    small = stored(capacity=100 << 20, available=round(5.5 * (1 << 20)))
    assert (small.refusal(), replace(small, whole=True).refusal(1)) == (
        None, "it would be 96% full (limit 95%)",
    )  # fmt: skip


def test_disks_that_take_their_whole_size_are_counted_before_they_are_made() -> None:
    pool = make_pool(resources=NEED, settings=PoolSettings(storage="fast"))
    big = Resources(cpus=64, memory_mib=1 << 20)
    whole = load(1, stored(whole=True, available=35 * GIB), capacity=big, start_limit=50)
    rooms = Rooms(make_view(pools=(pool,), hosts=(whole,)))
    # 35 GiB free of 100: three of 10 GiB leave 5
    chosen = [rooms.choose(pool) for _ in range(4)]
    assert [one.host_id for one in chosen] == ["hst_1"] * 3 + [None]
    says = "storage class fast: it would be 100% full (limit 95%)"
    assert chosen[3].why == f"no host fits: server-1: {says}"
    thin = load(1, stored(available=35 * GIB), capacity=big, start_limit=50)
    rooms = Rooms(make_view(pools=(pool,), hosts=(thin,)))
    assert [rooms.choose(pool).host_id for _ in range(6)] == ["hst_1"] * 6


def test_asking_what_if_promises_nothing() -> None:
    room = Room(load(1, stored(whole=True)), {})
    room.copy().take(ONE)
    assert room.promised == {}
    room.take(ONE)
    assert room.promised == {"fast": NEED.disk_mib}
    room.take(replace(ONE, storage=None))
    assert room.promised == {"fast": NEED.disk_mib}


# --------------------------------------------------------------------------- what it costs


def test_the_cheaper_is_taken_though_it_is_fuller() -> None:
    cheap = load(1, stored(cost=1.0), used=Resources(cpus=4, memory_mib=32768))
    dear = load(2, stored(cost=3.0))
    choice = choose([dear, cheap], ONE)
    assert choice.host_id == "hst_1"
    assert choice.why.endswith("; fast costs 1 there")


def test_at_one_cost_the_emptier_is_taken() -> None:
    used = Resources(cpus=4, memory_mib=32768)
    assert choose([load(1, stored(), used=used), load(2, stored())], ONE).host_id == "hst_2"


def test_what_an_administrator_likes_and_what_is_to_be_apart_come_before_cost() -> None:
    cheap = load(1, stored(cost=1.0), desktops_by_pool={"pol_1": 1})
    dear = load(2, stored(cost=3.0))
    apart = replace(ONE, pool_id="pol_1", apart=True)
    assert choose([cheap, dear], apart).host_id == "hst_2"


@pytest.mark.parametrize("storage", [OWN, None])
def test_who_names_no_class_is_not_moved_by_what_others_cost(storage: str | None) -> None:
    used = Resources(cpus=4, memory_mib=32768)
    cheap, dear = load(1, stored(cost=1.0), used=used), load(2, stored(cost=9.0))
    choice = choose([cheap, dear], Demand(need=NEED, storage=storage))
    assert (choice.host_id, "costs" in choice.why) == ("hst_2", False)


def test_a_hosts_own_storage_counts_for_pools_that_name_none() -> None:
    full = StorageClass(name=OWN, cost=0.0, capacity=100 * GIB, available=GIB)
    demand = Demand(need=NEED, storage=OWN)
    assert choose([load(1, full), load(2)], demand).host_id == "hst_2"
    alone = choose([load(1, full)], demand)
    assert alone.why == "no host fits: server-1: its storage: it is 99% full (limit 95%)"
    # what is resumed has its disk there already
    assert choose([load(1, full)], replace(demand, storage=None)).host_id == "hst_1"


# --------------------------------------------------------------------- who has the same


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ({"fast": "netfs nas:/d"}, {"fast": "netfs nas:/d"}, True),
        ({"fast": "netfs nas:/d"}, {"fast": "netfs other:/d"}, False),
        ({"fast": ""}, {"fast": ""}, False),
        ({"fast": "netfs nas:/d"}, {}, False),
        ({}, {}, False),
    ],
)
def test_disks_are_the_same_where_both_hosts_name_the_same_storage(
    here: dict[str, str], there: dict[str, str], same: bool
) -> None:
    one, other = (
        Room(load(n, *(stored(name, shared=text) for name, text in found.items())), {})
        for n, found in enumerate((here, there))
    )
    assert shares_storage(one, other, "fast") is same


def test_hosts_that_tell_no_classes_are_the_same_as_ever() -> None:
    plain, told = Room(load(1), {}), Room(load(2, stored(OWN, shared=SAME)), {})
    local = Room(load(3, stored(OWN, shared="")), {})
    assert shares_storage(plain, Room(load(4), {}), OWN)
    assert shares_storage(plain, told, OWN)
    assert shares_storage(told, plain, OWN)
    assert not shares_storage(plain, local, OWN)
    assert not shares_storage(local, plain, OWN)


def emptied(shared: str, there: str, state: HostState = HostState.DRAINING) -> Any:
    """A host that gives its one spare of class fast away, if it can."""
    pool = make_pool(spares_min=0, size_max=100, settings=PoolSettings(storage="fast"))
    first = load(1, stored(shared=shared), state=state, desktops_by_pool={"pol_1": 1})
    second = load(2, stored(shared=there, available=GIB))
    view = make_view(
        pools=(pool,),
        hosts=(first, second),
        features={"hst_1": ALL_FEATURES, "hst_2": ALL_FEATURES},
        rows=Rows(on_host={"hst_1": (make_desktop(pool_id="pol_1"),)}),
    )
    return decide(view).commands


def test_a_desktop_moves_only_to_who_has_its_disk_however_full_that_is() -> None:
    (moved,) = emptied("netfs nas:/d", "netfs nas:/d")
    assert isinstance(moved, MigrateDesktop)
    assert moved.to_host_id == "hst_2"
    (gone,) = emptied("", "")
    assert isinstance(gone, ClearDesktop)
    (gone,) = emptied("netfs nas:/d", "netfs other:/d")
    assert isinstance(gone, ClearDesktop)


def test_a_spare_whose_disk_nobody_else_has_can_move_nowhere() -> None:
    pool = make_pool(settings=PoolSettings(storage="fast"))
    hosts = tuple(load(n, stored(shared="")) for n in (1, 2))
    can = {one.host.id: frozenset({Feature.MIGRATE}) for one in hosts}
    view = make_view(pools=(pool,), hosts=hosts, features=can)
    rooms = Rooms(view)
    moves, room = Moves(view, rooms, {pool.id: pool}), rooms.by_id["hst_1"]
    assert moves.possible(room)
    assert not moves.possible(room, make_desktop(pool_id=pool.id))
    assert moves.possible(room, make_desktop(pool_id="pol_of_others"))


@pytest.mark.parametrize(("shared", "verb"), [("nas:/d", MigrateDesktop), ("", ClearDesktop)])
def test_a_host_that_is_to_be_switched_off_is_emptied_either_way(shared: str, verb: type) -> None:
    settings = PoolSettings(storage="fast")
    pool = make_pool(spares_min=1, size_max=10, settings=settings)
    spare = make_desktop(pool_id=pool.id, host_id="hst_1")
    hosts = tuple(load(n, stored(shared=shared)) for n in (1, 2))
    view = make_view(
        pools=(pool,), hosts=hosts, counts={(pool.id, DesktopState.READY): 1},
        features={one.host.id: ALL_FEATURES for one in hosts},
        rows=Rows(on_host={"hst_1": (spare,)}),
        memory=Memory(emptying=frozenset({"hst_1"})),
    )  # fmt: skip
    rooms = Rooms(view)
    moves = Moves(view, rooms, {pool.id: pool})
    (command,) = consolidate(view, assess(view), rooms, moves, {"hst_1"}, frozenset())
    assert isinstance(command, verb)
