"""Emptying hosts, and relieving those that are too full, by live migration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import limits
from broker.domain.features import Feature
from broker.domain.model import DesktopState as D
from broker.domain.model import HostState, Resources
from broker.domain.placement import Choice
from broker.domain.planning import ClearDesktop, Memory, MigrateDesktop, Rows, rows_needed
from broker.domain.planning.moving import Moves, asked
from broker.domain.planning.rooms import Rooms
from broker.domain.planning.view import Try
from broker.domain.settings import SiteSettings
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import ALL_FEATURES, decide, make_load, make_view, make_world, of

QUIET = make_pool(spares_min=0, size_max=100)
BOTH = {"hst_1": ALL_FEATURES, "hst_2": ALL_FEATURES}


def rows_of(count: int, **changes: Any) -> tuple[Any, ...]:
    return tuple(
        make_desktop(**({"id": f"dsk_{n}", "name": f"library-{n:03d}"} | changes))
        for n in range(count)
    )


def leaving(state: HostState, *rows: Any, **changes: Any) -> Any:
    first = make_load(state=state, desktops_by_pool={"pol_1": len(rows)})
    second = make_load(id="hst_2", name="server-2")
    values: dict[str, Any] = {
        "pools": (QUIET,),
        "hosts": (first, second),
        "features": BOTH,
        "rows": Rows(on_host={"hst_1": rows}),
    }
    return make_view(**(values | changes))


# ------------------------------------------------------------------------------- emptying


def test_a_draining_host_gives_its_spares_away() -> None:
    view = leaving(HostState.DRAINING, *rows_of(1))
    (moved,) = decide(view).commands
    assert moved == MigrateDesktop(
        desktop=rows_of(1)[0],
        to_host_id="hst_2",
        why="server-1 drains; server-2 has most room (97% left)",
        reasons=("server-2 would keep 97% free",),
    )
    assert rows_needed(view).on_host == {"hst_1": 200}


def test_what_people_use_or_own_stays_while_it_drains() -> None:
    rows = (*rows_of(1, state=D.ASSIGNED), *rows_of(1, id="dsk_9", owner_id="usr_1"))
    assert decide(leaving(HostState.DRAINING, *rows)).commands == ()


def test_under_maintenance_that_moves_too() -> None:
    rows = (*rows_of(1, state=D.ASSIGNED), *rows_of(1, id="dsk_9", owner_id="usr_1"))
    commands = decide(leaving(HostState.MAINTENANCE, *rows)).commands
    assert [one.desktop.id for one in of(MigrateDesktop, commands)] == ["dsk_0", "dsk_9"]
    assert commands[0].why.startswith("server-1 is under maintenance; server-2")


def test_few_migrate_at_once_and_the_rest_waits() -> None:
    commands = decide(leaving(HostState.MAINTENANCE, *rows_of(5))).commands
    assert len(of(MigrateDesktop, commands)) == limits.MIGRATIONS_PER_HOST_MAX == 2
    assert of(ClearDesktop, commands) == []


@pytest.mark.parametrize("which", ["source", "target"])
def test_what_moves_already_counts_on_both_hosts(which: str) -> None:
    first = make_load(state=HostState.DRAINING, desktops_by_pool={"pol_1": 3})
    second = make_load(id="hst_2", name="server-2")
    first = replace(first, moving=1 if which == "source" else 0)
    second = replace(second, moving=1 if which == "target" else 0)
    view = leaving(HostState.DRAINING, *rows_of(3), hosts=(first, second))
    assert len(of(MigrateDesktop, decide(view).commands)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"features": {}},
        {"features": {"hst_1": ALL_FEATURES}},
        {"features": {"hst_2": ALL_FEATURES}},
        {"engine": "libvirt"},
        {"profile": "paravirtual"},
        {"state": HostState.DOWN},
    ],
    ids=["no feature", "not there", "not here", "another engine", "another kind", "no host up"],
)
def test_where_nothing_can_migrate_spares_go_and_the_rest_stays(changes: dict[str, Any]) -> None:
    own = {name: changes[name] for name in ("engine", "profile", "state") if name in changes}
    hosts = (
        make_load(state=HostState.MAINTENANCE, desktops_by_pool={"pol_1": 4}),
        make_load(**({"id": "hst_2", "name": "server-2"} | own)),
    )
    view = leaving(
        HostState.MAINTENANCE,
        *rows_of(2),
        *rows_of(1, id="dsk_8", state=D.ASSIGNED),
        *rows_of(1, id="dsk_9", owner_id="usr_1"),
        hosts=hosts,
        **{name: changes[name] for name in ("features",) if name in changes},
    )
    commands = decide(view).commands
    assert [one.desktop.id for one in of(ClearDesktop, commands)] == ["dsk_0", "dsk_1"]
    assert commands[0].why == "server-1 is under maintenance"
    assert len(commands) == 2


def test_where_nothing_fits_elsewhere_spares_go() -> None:
    full = make_load(id="hst_2", name="server-2", used=Resources(cpus=1, memory_mib=131_000))
    hosts = (make_load(state=HostState.DRAINING, desktops_by_pool={"pol_1": 1}), full)
    commands = decide(leaving(HostState.DRAINING, *rows_of(1), hosts=hosts)).commands
    assert [type(one) for one in commands] == [ClearDesktop]


def test_every_host_that_must_be_emptied_is() -> None:
    hosts = tuple(
        make_load(id=f"hst_{n}", name=f"s{n}", state=state, desktops_by_pool={"pol_1": 1})
        for n, state in enumerate([HostState.DRAINING, HostState.UP, HostState.MAINTENANCE])
    )
    rows = {f"hst_{n}": rows_of(1, id=f"dsk_{n}", host_id=f"hst_{n}") for n in range(3)}
    view = make_view(pools=(QUIET,), hosts=hosts, rows=Rows(on_host=rows))
    cleared = of(ClearDesktop, decide(view).commands)
    assert [one.desktop.id for one in cleared] == ["dsk_0", "dsk_2"]


def test_spares_wait_for_their_turn_to_move_and_go_where_they_never_could() -> None:
    source = make_load(state=HostState.DRAINING, desktops_by_pool={"pol_1": 1}, moving=2)
    other: dict[str, Any] = {"id": "hst_2", "name": "server-2"}
    for target, features, gone in (
        (make_load(**other), BOTH, 0),
        (make_load(**other, state=HostState.DOWN), BOTH, 1),
        (make_load(**other, profile="paravirtual"), BOTH, 1),
        (make_load(**other), {"hst_1": ALL_FEATURES}, 1),
        (make_load(**other, profile="paravirtual"), {"hst_1": ALL_FEATURES}, 1),
    ):
        view = leaving(HostState.DRAINING, *rows_of(1), hosts=(source, target), features=features)
        commands = decide(view).commands
        assert [type(one) for one in commands] == [ClearDesktop] * gone


def test_what_migrates_is_not_held_by_the_limit_of_starts() -> None:
    hosts = (
        make_load(state=HostState.DRAINING, desktops_by_pool={"pol_1": 1}),
        make_load(id="hst_2", name="server-2", starting=8),
    )
    view = leaving(HostState.DRAINING, *rows_of(1), hosts=hosts)
    assert len(of(MigrateDesktop, decide(view).commands)) == 1


def test_a_draining_host_whose_migrations_are_many_still_loses_what_sleeps() -> None:
    rows = (*rows_of(4), *rows_of(1, id="dsk_9", state=D.SUSPENDED))
    commands = decide(leaving(HostState.DRAINING, *rows)).commands
    assert [one.desktop.id for one in of(ClearDesktop, commands)] == ["dsk_9"]


def test_suspended_spares_go_and_suspended_work_stays() -> None:
    rows = (
        *rows_of(1, state=D.SUSPENDED),
        *rows_of(1, id="dsk_9", state=D.SUSPENDED, owner_id="usr_1"),
    )
    commands = decide(leaving(HostState.MAINTENANCE, *rows)).commands
    assert [one.desktop.id for one in commands if isinstance(one, ClearDesktop)] == ["dsk_0"]
    assert len(commands) == 1


@pytest.mark.parametrize(
    "changes",
    [{"moving_to": "hst_2"}, {"host_id": "hst_2", "moving_to": "hst_1"}, {"state": D.DELETING}],
)
def test_what_goes_or_comes_already_is_left_alone(changes: dict[str, Any]) -> None:
    assert decide(leaving(HostState.MAINTENANCE, *rows_of(1, **changes))).commands == ()


def test_one_look_takes_no_more_than_its_limit_from_a_host() -> None:
    rows = rows_of(limits.REMOVED_PER_LOOK_MAX + 5)
    assert len(decide(leaving(HostState.DRAINING, *rows, features={})).commands) == 50


def test_an_empty_host_is_not_read() -> None:
    hosts = (make_load(state=HostState.MAINTENANCE, desktops_by_pool={"pol_1": 0}),)
    assert rows_needed(make_view(hosts=hosts, pools=(QUIET,))).on_host == {}


def test_few_hosts_are_read_in_one_look() -> None:
    hosts = tuple(
        make_load(
            id=f"hst_{n}", name=f"s{n:02d}", state=HostState.DRAINING, desktops_by_pool={"p": 1}
        )
        for n in range(30)
    )
    assert len(rows_needed(make_view(hosts=hosts)).on_host) == limits.HOSTS_READ_PER_LOOK_MAX == 20


def test_a_desktop_of_an_unknown_pool_stays_or_goes() -> None:
    rows = rows_of(1, pool_id="pol_9", state=D.ASSIGNED)
    assert decide(leaving(HostState.MAINTENANCE, *rows)).commands == ()


@pytest.mark.parametrize("features", [frozenset(), ALL_FEATURES])
def test_in_the_world_a_host_under_maintenance_becomes_empty(features: frozenset[Feature]) -> None:
    world = make_world(make_pool(spares_min=4, size_max=20), hosts=3)
    world.features = features
    world.settle()
    assert any(row.host_id == "hst_1" for row in world.rows())
    world.hosts["hst_1"] = replace(world.hosts["hst_1"], state=HostState.MAINTENANCE)
    world.settle()
    assert not any(row.host_id == "hst_1" for row in world.rows())
    assert len(world.rows(D.READY)) == 4


# ------------------------------------------------------------------------------- relieving


def crowded(*rows: Any, used: int = 92_000, **changes: Any) -> Any:
    """server-1 is 70% full, server-2 empty."""
    hosts = (
        make_load(used=Resources(cpus=1, memory_mib=used)),
        make_load(id="hst_2", name="server-2"),
    )
    values: dict[str, Any] = {
        "pools": (QUIET,),
        "hosts": hosts,
        "features": BOTH,
        "rows": Rows(on_host={"hst_1": rows}),
        "site": SiteSettings(rebalance_above=0.65, rebalance_by=0.05),
    }
    return make_view(**(values | changes))


def test_a_host_that_is_too_full_gives_spares_first_and_the_biggest() -> None:
    big = Resources(cpus=2, memory_mib=5000)
    rows = (
        *rows_of(1, id="dsk_a", state=D.ASSIGNED, resources=big),
        *rows_of(1, id="dsk_b"),
        *rows_of(1, id="dsk_c", resources=big),
    )
    view = crowded(*rows)
    planned = decide(view)
    moves = of(MigrateDesktop, planned.commands)
    assert [one.desktop.id for one in moves] == ["dsk_c", "dsk_b"]
    assert [one.to_host_id for one in moves] == ["hst_2", "hst_2"]
    assert moves[0].why == "server-1 is 70% full; server-2 has most room (96% left)"
    assert moves[1].why.startswith("server-1 is 66% full; ")
    assert planned.memory.rebalancing == {"hst_1"}
    assert rows_needed(view).on_host == {"hst_1": 200}


def test_it_begins_above_the_limit_and_not_at_it() -> None:
    rows = rows_of(3)
    assert decide(crowded(*rows, used=85_196)).commands == ()  # 65.0%
    assert len(decide(crowded(*rows, used=85_200)).commands) == 2


def test_once_begun_it_goes_on_until_it_is_far_enough_below() -> None:
    rows = rows_of(3)
    begun = Memory(rebalancing=frozenset({"hst_1"}))
    assert len(decide(crowded(*rows, used=82_000, memory=begun)).commands) == 1  # 62.6%
    assert decide(crowded(*rows, used=82_000)).commands == ()
    done = decide(crowded(*rows, used=78_000, memory=begun))  # 59.5%
    assert done.commands == ()
    assert done.memory.rebalancing == frozenset()


def test_what_leaves_already_counts() -> None:
    going = rows_of(1, id="dsk_9", moving_to="hst_2", resources=Resources(cpus=1, memory_mib=20000))
    assert decide(crowded(*going, *rows_of(3))).commands == ()


def test_every_host_that_is_too_full_is_relieved() -> None:
    """One that may not move anything just now does not keep the next from it."""
    full = Resources(cpus=1, memory_mib=92_000)
    hosts = (
        make_load(),
        make_load(id="hst_2", name="server-2", used=full, moving=2),
        make_load(id="hst_3", name="server-3", used=full),
    )
    rows = {f"hst_{n}": rows_of(1, id=f"dsk_{n}", host_id=f"hst_{n}") for n in (2, 3)}
    features = {f"hst_{n}": ALL_FEATURES for n in (1, 2, 3)}
    view = crowded(hosts=hosts, features=features, rows=Rows(on_host=rows))
    (moved,) = of(MigrateDesktop, decide(view).commands)
    assert (moved.desktop.id, moved.to_host_id) == ("dsk_3", "hst_1")
    assert moved.reasons == (
        "server-1 would keep 97% free",
        "server-2 moves 2 desktops already",
    )


def test_what_fits_nowhere_does_not_keep_the_next_from_moving() -> None:
    big = Resources(cpus=2, memory_mib=90_000)
    rows = (*rows_of(1, id="dsk_big", resources=big), *rows_of(1, id="dsk_small"))
    moves = of(MigrateDesktop, decide(crowded(*rows)).commands)
    assert [one.desktop.id for one in moves] == ["dsk_small"]


def test_why_a_host_is_not_chosen_is_told() -> None:
    first = make_load(used=Resources(cpus=1, memory_mib=92_000))
    others = {
        "hst_2": make_load(id="hst_2", name="server-2"),
        "hst_3": make_load(id="hst_3", name="server-3", engine="libvirt"),
        "hst_4": make_load(id="hst_4", name="server-4", profile="paravirtual"),
        "hst_5": make_load(id="hst_5", name="server-5"),
        "hst_6": make_load(id="hst_6", name="server-6", used=Resources(cpus=1, memory_mib=75_000)),
        "hst_7": make_load(id="hst_7", name="server-7", state=HostState.DOWN),
    }
    features = dict.fromkeys(("hst_1", "hst_2", "hst_3", "hst_4", "hst_6", "hst_7"), ALL_FEATURES)
    hosts = (first, *others.values())
    (moved, *_) = decide(crowded(*rows_of(1), hosts=hosts, features=features)).commands
    assert moved.reasons == (
        "server-2 would keep 97% free",
        "server-3 has another engine",
        "server-4 is another kind of machine",
        "server-5 cannot take running desktops",
        "server-6 would be 60% full (limit 60%)",
        "server-7 is down",
    )


def test_no_host_becomes_fuller_than_where_others_stop() -> None:
    hosts = (
        make_load(used=Resources(cpus=1, memory_mib=92_000)),
        make_load(id="hst_2", name="server-2", used=Resources(cpus=1, memory_mib=75_000)),
    )
    assert decide(crowded(*rows_of(3), hosts=hosts)).commands == ()
    hosts = (hosts[0], replace(hosts[1], used=Resources(cpus=1, memory_mib=74_000)))
    assert len(decide(crowded(*rows_of(3), hosts=hosts)).commands) == 1


def test_it_is_off_unless_it_is_asked_for() -> None:
    assert decide(crowded(*rows_of(3), site=SiteSettings())).commands == ()
    off = SiteSettings(rebalance_above=0.0, rebalance_by=0.1)
    assert decide(crowded(*rows_of(3), site=off)).memory.rebalancing == frozenset()


def test_only_what_may_move_moves() -> None:
    rows = (
        *rows_of(1, id="dsk_a", state=D.SUSPENDED),
        *rows_of(1, id="dsk_b", host_id="hst_2", moving_to="hst_1"),
        *rows_of(1, id="dsk_c", state=D.DELETING),
    )
    assert of(MigrateDesktop, decide(crowded(*rows)).commands) == []
    assert decide(crowded(*rows_of(3), features={})).commands == ()


def test_a_draining_host_is_not_relieved_but_emptied() -> None:
    view = crowded(*rows_of(1))
    drained = replace(view.hosts[0], host=replace(view.hosts[0].host, state=HostState.DRAINING))
    planned = decide(replace(view, hosts=(drained, view.hosts[1])))
    assert planned.memory.rebalancing == frozenset()
    assert planned.commands[0].why.startswith("server-1 drains")


def test_one_look_begins_no_more_moves_than_its_limit() -> None:
    hosts, rows, features = [], {}, {}
    for n in range(60):
        for half, used in (("a", 92_000), ("b", 0)):
            name = f"hst_{half}{n}"
            hosts.append(make_load(id=name, name=name, used=Resources(cpus=1, memory_mib=used)))
            features[name] = ALL_FEATURES
        rows[f"hst_a{n}"] = rows_of(1, id=f"dsk_{n}", host_id=f"hst_a{n}")
    view = crowded(hosts=tuple(hosts), features=features, rows=Rows(on_host=rows))
    moves = of(MigrateDesktop, decide(view).commands)
    assert len(moves) == limits.MOVES_PER_LOOK_MAX == 50


# ---------------------------------------------------------------------- moves that do not succeed


def looked_at(view: Any, seconds: float, memory: Memory) -> Any:
    """The same view, so much later: what was asked was not done."""
    return decide(replace(view, now=view.now + int(seconds * 1000), memory=memory))


def test_a_move_that_failed_is_asked_for_ever_more_seldom() -> None:
    view = leaving(HostState.MAINTENANCE, *rows_of(1, state=D.ASSIGNED))
    found, asked_at = decide(view), [0]
    for second in range(1, 200):
        found = looked_at(view, second, found.memory)
        asked_at += [second] * len(of(MigrateDesktop, found.commands))
    pause = limits.MOVE_PAUSE_S
    assert asked_at == [0, pause, 3 * pause, 7 * pause]


def test_others_move_meanwhile_and_a_spare_goes() -> None:
    view = leaving(HostState.DRAINING, *rows_of(3))
    first = decide(view)
    assert [one.desktop.id for one in of(MigrateDesktop, first.commands)] == ["dsk_0", "dsk_1"]
    second = looked_at(view, 1, first.memory)
    assert [one.desktop.id for one in of(MigrateDesktop, second.commands)] == ["dsk_2"]
    assert [one.desktop.id for one in of(ClearDesktop, second.commands)] == ["dsk_0", "dsk_1"]


def test_one_that_arrived_may_leave_its_new_host_at_once() -> None:
    view = leaving(HostState.MAINTENANCE, *rows_of(1, state=D.ASSIGNED))
    memory = decide(view).memory
    there = make_load(id="hst_2", name="server-2", state=HostState.MAINTENANCE)
    back = replace(
        view,
        hosts=(make_load(), replace(there, desktops_by_pool={"pol_1": 1})),
        rows=Rows(on_host={"hst_2": rows_of(1, state=D.ASSIGNED, host_id="hst_2")}),
        memory=memory,
    )
    assert len(of(MigrateDesktop, decide(back).commands)) == 1


def test_a_failed_move_is_forgotten_in_the_end() -> None:
    view = leaving(HostState.MAINTENANCE, *rows_of(1, state=D.ASSIGNED))
    memory = decide(view).memory
    still = leaving(HostState.UP, *rows_of(1, state=D.ASSIGNED))
    later = looked_at(still, limits.MOVE_PAUSE_S + limits.MOVE_PAUSE_S_MAX, memory)
    assert later.memory.moves == {}


# -------------------------------------------------------------------- where one goes, and why not


def choosing(view: Any) -> tuple[Moves, Rooms]:
    rooms = Rooms(view)
    return Moves(view, rooms, {pool.id: pool for pool in view.pools}), rooms


def three(*used: int, **changes: Any) -> Any:
    """Hosts that have so much memory in use, in MiB."""
    hosts = tuple(
        make_load(id=f"hst_{n}", name=f"server-{n}", used=Resources(cpus=1, memory_mib=taken))
        for n, taken in enumerate(used, start=1)
    )
    features = dict.fromkeys((one.host.id for one in hosts), ALL_FEATURES)
    values: dict[str, Any] = {"pools": (QUIET,), "hosts": hosts, "features": features}
    return make_view(**(values | changes))


def test_it_goes_to_the_emptiest_and_of_two_alike_to_the_first_by_name() -> None:
    moves, rooms = choosing(three(9000, 8000, 0, 0))
    assert moves.choose(make_desktop(), rooms.by_id["hst_1"]).host_id == "hst_3"
    # its room there is taken
    assert moves.choose(make_desktop(id="dsk_2"), rooms.by_id["hst_1"]).host_id == "hst_4"


def test_one_that_would_fill_a_host_to_the_limit_fits() -> None:
    moves, rooms = choosing(three(9000, 61_440))
    full = (61_440 + 4096) / 131_072
    source = rooms.by_id["hst_1"]
    refused = moves.choose(make_desktop(), source, at_most=full - 0.01)
    assert refused.why == "no host fits: server-2 would be 50% full (limit 49%)"
    assert moves.choose(make_desktop(), source, at_most=full).host_id == "hst_2"


def test_why_none_takes_it_is_said_for_so_many_hosts_and_no_more() -> None:
    moves, rooms = choosing(three(*[131_072] * 14))
    choice = moves.choose(make_desktop(), rooms.by_id["hst_1"])
    most = limits.PLACEMENT_REASONS_MAX
    assert choice.host_id is None
    assert choice.reasons[:1] == ("server-10 lacks 4096 MiB of memory",)
    assert choice.reasons[most:] == (f"and {13 - most} more hosts",)
    assert choice.why == "no host fits: " + "; ".join(choice.reasons[:most])


def test_nobody_moves_to_a_host_that_is_being_emptied() -> None:
    memory = Memory(emptying=frozenset({"hst_2"}))
    moves, rooms = choosing(three(9000, 0, memory=memory))
    choice = moves.choose(make_desktop(), rooms.by_id["hst_1"])
    assert (choice.host_id, choice.why) == (None, "no host fits: server-2 is being emptied")


def test_what_cannot_be_asked_just_now_says_so() -> None:
    row = make_desktop()
    memory = Memory(moves={f"{row.id}@hst_1": Try(tries=1, next_at=NOW + 1)})
    moves, rooms = choosing(three(9000, 0, memory=memory))
    source = rooms.by_id["hst_1"]
    unknown = moves.choose(make_desktop(pool_id="pol_gone"), source)
    assert unknown == Choice(host_id=None, why="its pool is not known", reasons=())
    why = "its last move failed a moment ago"
    assert moves.choose(row, source) == Choice(host_id=None, why=why, reasons=())
    assert not moves.possible(source, row)
    assert moves.possible(source, replace(row, id="dsk_2"))


def test_a_move_that_failed_is_remembered_for_the_longest_pause_after_its_next() -> None:
    known = {"dsk_1@hst_1": Try(tries=3, next_at=NOW)}
    end = NOW + limits.MOVE_PAUSE_S_MAX * 1000
    assert asked(known, (), end - 1) == known
    assert asked(known, (), end) == {}
