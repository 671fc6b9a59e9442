"""Desktops that somebody waits for run again before anything else."""

from __future__ import annotations

from typing import Any

import pytest

from broker.domain.features import Feature
from broker.domain.keeping import Recovery
from broker.domain.model import DesktopState as D
from broker.domain.model import HostState, LogOff, PoolKind, Resources
from broker.domain.planning import (
    ClearDesktop,
    MakeDesktop,
    Memory,
    NoRoom,
    PowerHost,
    ResumeDesktop,
    Rows,
    SuspendDesktop,
    rows_needed,
)
from broker.domain.settings import HostSettings, PoolSettings, ServiceState, Share, SiteSettings
from tests.support.builders import NOW, make_desktop, make_pool
from tests.support.planning import (
    ALL_FEATURES,
    NOTHING,
    decide,
    make_load,
    make_view,
    make_world,
    of,
)

TIGHT = Resources(cpus=32, memory_mib=8192)
QUIET = make_pool(spares_min=0)


def parked(**changes: Any) -> Any:
    return make_desktop(**({"state": D.PARKED, "name": "library-007"} | changes))


def view_of(load: Any, *awaited: Any, **changes: Any) -> Any:
    values = {"pools": (QUIET,), "hosts": (load,), "awaited": awaited}
    return make_view(**(values | changes))


def test_a_parked_desktop_whose_person_is_back_runs_again() -> None:
    row = parked()
    (command,) = decide(view_of(make_load(), row)).commands
    assert command == ResumeDesktop(desktop=row, why="its person is back")


def test_an_owners_suspended_desktop_runs_again_when_he_waits() -> None:
    row = parked(state=D.SUSPENDED, owner_id="usr_1")
    (command,) = decide(view_of(make_load(), row)).commands
    assert command == ResumeDesktop(desktop=row, why="its owner waits for it")


@pytest.mark.parametrize("state", [HostState.UP, HostState.DRAINING, HostState.MAINTENANCE])
def test_also_on_a_host_that_takes_nothing_new(state: HostState) -> None:
    commands = decide(view_of(make_load(state=state), parked())).commands
    assert len(of(ResumeDesktop, commands)) == 1


def test_also_in_a_pool_that_drains() -> None:
    pool = make_pool(settings=PoolSettings(state=ServiceState.MAINTENANCE))
    assert len(decide(view_of(make_load(), parked(), pools=(pool,))).commands) == 1


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (HostState.DOWN, "server-1 is down"),
        (HostState.POWERING_ON, "server-1 is powering on"),
        (HostState.OFF, "server-1 is off"),
    ],
)
def test_on_a_host_that_does_not_run_it_waits_and_is_told(state: HostState, words: str) -> None:
    (command,) = decide(view_of(make_load(state=state), parked())).commands
    assert command == NoRoom(
        pool=QUIET, missing=1, why=f"library-007 cannot run: {words}", reasons=(words,)
    )


def test_a_host_that_is_off_is_switched_on_once() -> None:
    host = {"state": HostState.OFF, "settings": HostSettings(power_managed=True)}
    features = {"hst_1": ALL_FEATURES}
    rows = (parked(), parked(id="dsk_2", name="library-008"))
    commands = decide(view_of(make_load(**host), *rows, features=features)).commands
    (switched,) = of(PowerHost, commands)
    assert switched.on
    assert switched.host.id == "hst_1"
    assert switched.why == "library-007 is suspended there, and its person is back"
    assert len(of(NoRoom, commands)) == 2
    assert of(PowerHost, decide(view_of(make_load(**host), *rows)).commands) == []
    unmanaged = make_load(state=HostState.OFF)
    assert of(PowerHost, decide(view_of(unmanaged, *rows, features=features)).commands) == []


@pytest.mark.parametrize("waits", [True, False])
def test_one_that_failed_on_its_way_needs_room_at_both_ends(waits: bool) -> None:
    kept = make_pool(kind=PoolKind.DEDICATED, spares_min=0, log_off=LogOff.KEEP)
    row = parked(state=D.FAILED, owner_id="usr_1", moving_to="hst_2")
    known = {"awaited": (row,)} if waits else {"failed_desktops": (row,)}

    def begun(there: Any) -> list[ResumeDesktop]:
        hosts = (make_load(), there)
        view = make_view(pools=(kept,), hosts=hosts, **known)
        return of(ResumeDesktop, decide(view).commands)

    assert len(begun(make_load(id="hst_2", name="server-2"))) == 1
    full = make_load(id="hst_2", name="server-2", used=TIGHT, capacity=TIGHT)
    assert begun(full) == []


def test_a_desktop_without_pool_or_host_is_passed_over() -> None:
    view = view_of(make_load(), parked(pool_id="pol_9"), parked(host_id=None), parked())
    assert len(decide(view).commands) == 1
    (lost,) = decide(view_of(make_load(), parked(host_id="hst_9"))).commands
    assert lost.why == "library-007 cannot run: its host is not known"


def test_they_come_before_new_machines() -> None:
    view = view_of(make_load(start_limit=1), parked(), pools=(make_pool(spares_min=3),))
    commands = decide(view).commands
    assert len(of(ResumeDesktop, commands)) == 1
    assert of(MakeDesktop, commands) == []


def test_the_limit_of_starts_holds() -> None:
    rows = [parked(id=f"dsk_{n}") for n in range(3)]
    commands = decide(view_of(make_load(start_limit=2), *rows)).commands
    assert len(of(ResumeDesktop, commands)) == 2
    (none,) = of(NoRoom, commands)
    assert none.reasons == ("server-1 starts 2 desktops already (limit 2)",)
    assert of(ClearDesktop, commands) == []


def test_the_sites_memory_holds() -> None:
    rows = [parked(id=f"dsk_{n}") for n in range(2)]
    view = view_of(make_load(), *rows, site=SiteSettings(memory_mib_max=4096))
    commands = decide(view).commands
    assert len(of(ResumeDesktop, commands)) == 1
    assert of(NoRoom, commands)[0].reasons == ("the site's limit of 4096 MiB of memory is reached",)


def test_the_sites_limit_of_desktops_does_not_hold_what_exists_already() -> None:
    site = SiteSettings(desktops_max=1)
    counts = {("pol_1", "parked"): 1}
    commands = decide(view_of(make_load(), parked(), counts=counts, site=site)).commands
    assert len(of(ResumeDesktop, commands)) == 1


def test_one_whose_host_is_lost_does_not_hold_up_the_others() -> None:
    view = view_of(make_load(), parked(host_id="hst_9"), parked(id="dsk_2"))
    assert len(of(ResumeDesktop, decide(view).commands)) == 1


def spares(count: int, **changes: Any) -> tuple[Any, ...]:
    return tuple(
        make_desktop(**({"id": f"dsk_s{n}", "name": f"spare-{n}"} | changes)) for n in range(count)
    )


def full_view(*rows: Any, awaited: tuple[Any, ...] | None = None, **changes: Any) -> Any:
    load = make_load(capacity=TIGHT, used=Resources(cpus=4, memory_mib=8192))
    return view_of(load, *(awaited or (parked(),)), rows=Rows(on_host={"hst_1": rows}), **changes)


def test_where_the_host_is_full_a_spare_makes_room() -> None:
    commands = decide(full_view(*spares(2))).commands
    (cleared,) = of(ClearDesktop, commands)
    assert cleared.desktop.name == "spare-0"
    assert cleared.why == "makes room on server-1 for library-007, whose person waits"
    assert rows_needed(full_view()).on_host == {"hst_1": 200}
    assert rows_needed(view_of(make_load(), parked())).on_host == {}
    lost = (parked(pool_id="pol_9"), parked(host_id=None), parked(host_id="hst_9"), parked())
    assert rows_needed(full_view(awaited=lost)).on_host == {"hst_1": 200}
    assert rows_needed(full_view(awaited=lost[:3])).on_host == {}


def test_it_is_suspended_where_the_engine_can() -> None:
    commands = decide(full_view(*spares(2), features={"hst_1": ALL_FEATURES})).commands
    assert [one.desktop.name for one in of(SuspendDesktop, commands)] == ["spare-0"]
    assert of(ClearDesktop, commands) == []


@pytest.mark.parametrize(
    "changes",
    [{"owner_id": "usr_9"}, {"state": D.ASSIGNED}, {"moving_to": "hst_2"}, {"state": D.SUSPENDED}],
)
def test_nobody_loses_his_desktop_for_it(changes: dict[str, Any]) -> None:
    commands = decide(full_view(*spares(2, **changes))).commands
    assert of(ClearDesktop, commands) == []


@pytest.mark.parametrize("state", [D.DELETING, D.SUSPENDING])
def test_what_goes_already_is_enough(state: D) -> None:
    commands = decide(full_view(*spares(1, state=state), *spares(2))).commands
    assert of(ClearDesktop, commands) == []


def test_each_of_those_who_wait_gets_his_room() -> None:
    awaited = (parked(), parked(id="dsk_2"))
    commands = decide(full_view(*spares(3), awaited=awaited)).commands
    assert [one.desktop.name for one in of(ClearDesktop, commands)] == ["spare-0", "spare-1"]


def test_room_for_a_guarantee_is_made_too() -> None:
    pool = make_pool(spares_min=0, settings=PoolSettings(guarantee=Share(memory=1.0)))
    load = make_load(
        capacity=TIGHT,
        used=Resources(cpus=4, memory_mib=8192),
        by_pool={"pol_1": Resources(cpus=4, memory_mib=8192)},
        settings=HostSettings(overcommit_memory=4.0),
    )
    view = view_of(load, parked(), pools=(pool,), rows=Rows(on_host={"hst_1": spares(2)}))
    assert len(of(ClearDesktop, decide(view).commands)) == 1


def test_in_the_world_the_person_gets_it_back_soon() -> None:
    pool = make_pool(spares_min=2, size_max=10)
    world = make_world(pool, hosts=1, capacity=TIGHT)
    world.features = frozenset({Feature.SUSPEND})
    row = world.add(state=D.PARKED)
    world.settle()
    assert len(world.rows(D.READY)) == 2
    world.awaited = (row.id,)
    for _ in range(3):
        world.step()
    world.awaited = ()
    assert world.desktops[row.id].state is D.ASSIGNED
    assert world.view().hosts[0].used != NOTHING
    world.settle()


# --------------------------------------------------------------- his own, which failed

KEEPS = make_pool(kind=PoolKind.DEDICATED, log_off=LogOff.KEEP, spares_min=0)


def failed(**changes: Any) -> Any:
    return parked(**({"state": D.FAILED, "owner_id": "usr_1"} | changes))


def test_what_failed_and_is_waited_for_is_started_and_the_next_time_switched_off_and_on() -> None:
    row, other = failed(), failed(id="dsk_2")
    known = Memory(recoveries={row.id: Recovery(tries=1, next_at=NOW)})
    view = view_of(make_load(), row, other, pools=(KEEPS,), memory=known)
    first, second = of(ResumeDesktop, decide(view).commands)
    assert first == ResumeDesktop(desktop=row, why="its owner waits for it", restart=True)
    assert second == ResumeDesktop(desktop=other, why="its owner waits for it")
    # what only sleeps is never switched off
    asleep = failed(state=D.SUSPENDED)
    view = view_of(make_load(), asleep, pools=(KEEPS,), memory=known)
    assert of(ResumeDesktop, decide(view).commands) == [
        ResumeDesktop(desktop=asleep, why="its owner waits for it")
    ]


def test_it_is_not_started_before_its_pause_is_over_nor_where_it_keeps_nothing() -> None:
    row = failed()
    known = Memory(recoveries={row.id: Recovery(tries=1, next_at=NOW + 1)})
    view = view_of(make_load(), row, pools=(KEEPS,), memory=known)
    assert of(ResumeDesktop, decide(view).commands) == []
    for changes in ({"log_off": LogOff.RESET}, {"kind": PoolKind.FLOATING}):
        pool = make_pool(**({"kind": PoolKind.DEDICATED, "spares_min": 0} | changes))
        assert of(ResumeDesktop, decide(view_of(make_load(), row, pools=(pool,))).commands) == []


def test_its_host_is_switched_on_for_it() -> None:
    off = make_load(state=HostState.OFF, settings=HostSettings(power_managed=True))
    view = view_of(off, failed(), pools=(KEEPS,), features={"hst_1": ALL_FEATURES})
    (power,) = of(PowerHost, decide(view).commands)
    assert power.why == "library-007 has to start there, and its owner waits for it"


def test_who_waits_for_a_turn_to_start_is_no_lack_of_room() -> None:
    view = view_of(make_load(starting=8), parked())
    (told,) = of(NoRoom, decide(view).commands)
    assert told.paced
    assert told.reasons == ("server-1 starts 8 desktops already (limit 8)",)
    full = view_of(make_load(capacity=NOTHING), parked())
    (told,) = of(NoRoom, decide(full).commands)
    assert not told.paced
