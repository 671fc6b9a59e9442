"""Which host is emptied to be switched off, what leaves it, and what stops that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.features import Feature
from broker.domain.model import DesktopState as D
from broker.domain.model import HostState, Resources
from broker.domain.planning import ClearDesktop, Memory, MigrateDesktop, Rows
from broker.domain.planning.breaker import Breaker
from broker.domain.planning.consolidate import consolidate, hosts_to_empty
from broker.domain.planning.moving import Moves
from broker.domain.planning.needs import assess
from broker.domain.planning.rooms import Rooms
from broker.domain.settings import HostSettings, PoolSettings
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import ALL_FEATURES, make_load, make_view

MIGRATES = (Feature.MIGRATE,)
OURS = HostSettings(power_managed=True, idle_off_s=60)
EACH = Resources(cpus=2, memory_mib=4096)
POOL = make_pool(spares_min=2, size_max=20)
LONG = NOW - 3_600_000


def host(number: int, spares: int = 1, **changes: Any) -> Any:
    """One that is the broker's to switch, with so many spares on it and nothing else."""
    values: dict[str, Any] = {
        "id": f"hst_{number}",
        "name": f"server-{number}",
        "settings": OURS,
        "used": Resources(cpus=2 * spares, memory_mib=4096 * spares),
        "spares_by_pool": {POOL.id: spares} if spares else {},
        "desktops_by_pool": {POOL.id: spares} if spares else {},
        "by_pool": {POOL.id: Resources(cpus=2 * spares, memory_mib=4096 * spares)},
        "running": spares,
    }
    return make_load(**(values | changes))


def spare(number: int, host_number: int = 1, **changes: Any) -> Any:
    values = {"id": f"dsk_{number}", "name": f"library-{number:03d}"}
    return make_desktop(**(values | {"host_id": f"hst_{host_number}"} | changes))


def view_of(
    *hosts: Any, rows: Iterable[Any] = (), emptying: Iterable[str] = (), **changes: Any
) -> Any:
    """The pool has all its spares, and every host has been idle for long."""
    found = tuple(rows)
    names = [one.host.id for one in hosts]
    count = sum(one.spares_by_pool.get(POOL.id, 0) for one in hosts)
    values: dict[str, Any] = {
        "pools": (POOL,),
        "hosts": hosts,
        "features": dict.fromkeys(names, ALL_FEATURES),
        "counts": {(POOL.id, D.READY.value): count},
        "rows": Rows(
            on_host={name: tuple(r for r in found if r.host_id == name) for name in names}
        ),
        "memory": Memory(emptying=frozenset(emptying), idle_since=dict.fromkeys(names, LONG)),
    }
    return make_view(**(values | changes))


def chosen(view: Any, missing: dict[str, int] | None = None) -> set[str]:
    return set(hosts_to_empty(view, assess(view), missing or {}))


# ------------------------------------------------------------------------- which host


def test_the_host_with_the_fewest_spares_is_emptied_then_the_first_by_name() -> None:
    assert chosen(view_of(host(1, 2), host(2, 1), host(3, 1))) == {"hst_2"}


@pytest.mark.parametrize(
    "changes",
    [
        {"state": HostState.DRAINING},
        {"settings": HostSettings(power_managed=False)},
        {"starting": 1},
        {"running": 2},
        {"spares_by_pool": {}},
    ],
    ids=["not up", "not ours", "starts", "used", "nobody's spare"],
)
def test_one_that_somebody_uses_or_that_is_not_the_brokers_is_passed_over(
    changes: dict[str, Any],
) -> None:
    assert chosen(view_of(host(1, **changes), host(2, 1), host(3, 1))) == {"hst_2"}


def test_not_before_it_was_idle_for_its_time() -> None:
    view = view_of(host(1), host(2))
    young = dict.fromkeys(("hst_1", "hst_2"), NOW - 59_000)
    assert chosen(replace(view, memory=Memory(idle_since=young))) == set()
    assert chosen(view) == {"hst_1"}


@pytest.mark.parametrize("state", [HostState.POWERING_ON, HostState.POWERING_OFF])
def test_none_while_another_comes_or_goes(state: HostState) -> None:
    assert chosen(view_of(host(1), host(2), host(3, 0, state=state))) == set()
    assert chosen(view_of(host(1), host(2), host(3, 0, state=HostState.OFF))) == {"hst_1"}


def test_none_while_another_is_empty_already() -> None:
    assert chosen(view_of(host(1), host(2), host(3, 0))) == set()


@pytest.mark.parametrize("state", [D.STARTING, D.RESETTING])
def test_none_while_the_pool_lacks_some_or_some_are_coming(state: D) -> None:
    view = view_of(host(1), host(2))
    assert chosen(replace(view, pools=(replace(POOL, spares_min=3),))) == set()
    assert chosen(replace(view, counts={**view.counts, (POOL.id, state.value): 1})) == set()


def test_none_whose_spares_the_others_have_no_room_for() -> None:
    for room, found in ((1, set()), (2, set()), (3, set()), (4, {"hst_1"})):
        # for one that is there, for two that the pool keeps ready, and for the one that comes
        capacity = Resources(cpus=32, memory_mib=room * 4096)
        stays = host(2, capacity=capacity, settings=HostSettings(power_managed=False))
        assert chosen(view_of(host(1), stays)) == found, room


def test_that_the_others_start_as_many_as_they_may_or_failed_once_is_no_lack_of_room() -> None:
    paused = {(POOL.id, "hst_2"): Breaker(failures=5, opened=1, until=NOW + 60_000)}
    assert chosen(view_of(host(1), host(2), breakers=paused)) == {"hst_1"}
    assert chosen(view_of(host(1), host(2, 2, starting=1, start_limit=1))) == {"hst_1"}


def test_desktops_that_are_to_be_apart_stay_apart() -> None:
    apart = replace(POOL, settings=PoolSettings(apart=True))
    assert chosen(view_of(host(1), host(2), pools=(apart,))) == set()


def test_one_that_a_pool_without_room_could_use_stays_on_and_another_goes() -> None:
    # it keeps nothing ready itself
    settings = PoolSettings(labels=("gpu",))
    other = make_pool(id="pol_2", name="art", spares_min=0, size_max=0, settings=settings)
    labelled = HostSettings(power_managed=True, idle_off_s=60, labels=("gpu",))
    view = view_of(host(1, settings=labelled), host(2), host(3), pools=(POOL, other))
    assert chosen(view, {"pol_2": 1}) == {"hst_2"}
    assert chosen(view) == {"hst_1"}
    # it counts as it will be: without its spares
    tight: dict[str, Any] = {"capacity": EACH, "overcommit_cpu": 1.0}
    view = view_of(host(1, settings=labelled, **tight), host(2), host(3), pools=(POOL, other))
    assert chosen(view, {"pol_2": 1}) == {"hst_2"}


# -------------------------------------------------------------------------- for how long


def test_it_goes_on_until_the_host_is_empty_and_then_takes_the_next() -> None:
    assert chosen(view_of(host(1), host(2), host(3), emptying=["hst_1"])) == {"hst_1"}
    empty = view_of(host(1, 0), host(2, 1), host(3, 1), emptying=["hst_1"])
    assert chosen(empty) == {"hst_1", "hst_2"}


@pytest.mark.parametrize(
    "changes",
    [
        {"state": HostState.DRAINING},
        {"settings": HostSettings(power_managed=False)},
        {"starting": 1},
    ],
    ids=["not up", "not ours", "starts"],
)
def test_it_ends_when_the_host_is_wanted_again(changes: dict[str, Any]) -> None:
    assert "hst_1" not in chosen(view_of(host(1, **changes), host(2), emptying=["hst_1"]))


def test_it_ends_when_somebody_was_given_a_desktop_there() -> None:
    used = spare(1, state=D.ASSIGNED)
    views = {
        "here": view_of(host(1), host(2), rows=[used], emptying=["hst_1"], counts={}),
        "on its way here": view_of(host(1), host(2), emptying=["hst_1"], counts={}),
        "a spare": view_of(host(1), host(2), rows=[spare(1)], emptying=["hst_1"], counts={}),
    }
    coming = replace(used, host_id="hst_2", moving_to="hst_1")
    views["on its way here"] = replace(
        views["on its way here"], rows=Rows(on_host={"hst_1": (coming,)})
    )
    found = {name: "hst_1" in chosen(view) for name, view in views.items()}
    assert found == {"here": False, "on its way here": True, "a spare": True}


def test_a_host_that_is_not_known_any_more_is_forgotten() -> None:
    assert chosen(view_of(host(2), host(3), emptying=["hst_1"])) == {"hst_2"}


# ---------------------------------------------------------------------------- what leaves


def leaves(view: Any, *emptying: str, busy: Iterable[str] = ()) -> list[Any]:
    rooms = Rooms(view)
    moves = Moves(view, rooms, {pool.id: pool for pool in view.pools})
    return list(consolidate(view, assess(view), rooms, moves, set(emptying), set(busy)))


def test_spares_move_and_say_where_and_why() -> None:
    (moved,) = leaves(view_of(host(1), host(2), rows=[spare(1)], emptying=["hst_1"]), "hst_1")
    assert moved == MigrateDesktop(
        desktop=spare(1),
        to_host_id="hst_2",
        why="server-1 is being emptied, to be switched off; server-2 has most room (94% left)",
        reasons=("server-2 would keep 94% free",),
    )


def test_what_is_used_owned_moving_or_elsewhere_does_not_keep_the_next_from_leaving() -> None:
    rows = (
        spare(1, state=D.ASSIGNED), spare(2, owner_id="usr_1"), spare(3, moving_to="hst_2"),
        spare(4), spare(5),
    )  # fmt: skip
    coming = spare(6, 2, moving_to="hst_1")
    view = view_of(host(1), host(2), rows=rows, emptying=["hst_1"])
    view = replace(view, rows=Rows(on_host={"hst_1": (coming, *view.rows.on_host["hst_1"])}))
    assert [one.desktop.id for one in leaves(view, "hst_1", busy=["dsk_4"])] == ["dsk_5"]


def test_nothing_leaves_before_the_desktops_were_read_nor_once_it_is_over() -> None:
    view = view_of(host(1), host(2), rows=[spare(1), spare(2, 2)], emptying=["hst_2"])
    assert leaves(view, "hst_1") == []
    assert leaves(view) == []
    assert leaves(replace(view, rows=Rows()), "hst_2") == []


def test_as_many_as_may_migrate_at_once_and_the_rest_waits() -> None:
    rows = [spare(number) for number in range(4)]
    commands = leaves(view_of(host(1, 4), host(2, 0), rows=rows, emptying=["hst_1"]), "hst_1")
    assert [type(one) for one in commands] == [MigrateDesktop] * 2


def test_where_nothing_can_move_one_of_each_pool_goes_and_is_made_anew_elsewhere() -> None:
    rows = [spare(1), spare(2), spare(3, pool_id="pol_2")]
    art = make_pool(id="pol_2", name="art", spares_min=0)
    view = view_of(host(1, 2), host(2), rows=rows, emptying=["hst_1"], pools=(POOL, art))
    still = replace(
        view, features=dict.fromkeys(view.features, ALL_FEATURES - {*MIGRATES}), counts=view.counts
    )
    why = "server-1 is being emptied, to be switched off"
    assert leaves(still, "hst_1") == [
        ClearDesktop(desktop=rows[0], why=why), ClearDesktop(desktop=rows[2], why=why),
    ]  # fmt: skip
    # not while the pool lacks some, or waits for some
    for state, count in ((D.STARTING, 1), (D.READY, 1)):
        uneasy = replace(still, counts={**still.counts, (POOL.id, state.value): count})
        assert [one.desktop.id for one in leaves(uneasy, "hst_1")] == ["dsk_3"]
