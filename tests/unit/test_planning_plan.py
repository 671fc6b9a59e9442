"""The whole plan: its order, deadlines, queues, failures, and that nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.calendar import Window
from broker.domain.model import DesktopState as D
from broker.domain.model import HostState, Job, JobState, JobVerb, LogOff, PoolKind, Resources
from broker.domain.planning import (
    ClearDesktop,
    ExpireDesktop,
    ExpireHost,
    ExpireJob,
    ExpireSession,
    FreshenDesktop,
    MakeDesktop,
    Memory,
    ResumeDesktop,
    Rows,
    ServeQueue,
    Surplus,
)
from broker.domain.settings import PoolSettings, ScheduleEntry, ServiceState, SiteSettings
from tests.support.builders import NOW, make_desktop, make_pool, make_session
from tests.support.planning import decide, make_load, make_view, of

JOB = Job(
    id="job_1",
    verb=JobVerb.CREATE,
    desktop_id="dsk_1",
    host_id="hst_1",
    generation=1,
    state=JobState.RUNNING,
    attempts=1,
    deadline_at=NOW,
    not_before_at=NOW,
    error="",
    created_at=NOW,
    finished_at=None,
)


def test_deadlines_come_before_everything_and_queues_before_refilling() -> None:
    late = make_desktop(id="dsk_9", state=D.STARTING)
    view = make_view(
        hosts=(make_load(), make_load(id="hst_2", state=HostState.POWERING_ON, deadline_at=NOW)),
        counts={("pol_1", "ready"): 1},
        waiting={"pol_1": 1},
        expired_jobs=(JOB,),
        expired_desktops=(late,),
        expired_sessions=(make_session(),),
        failed_desktops=(make_desktop(state=D.FAILED, note="did not boot"),),
    )
    kinds = [type(one) for one in decide(view).commands]
    assert kinds == [
        ExpireJob,
        ExpireHost,
        ExpireDesktop,
        ExpireSession,
        ServeQueue,
        ClearDesktop,
        MakeDesktop,
        MakeDesktop,
    ]
    assert decide(view).commands[0] == ExpireJob(job=JOB)
    assert decide(view).commands[2] == ExpireDesktop(desktop=late)
    assert decide(view).commands[3] == ExpireSession(session=make_session())


@pytest.mark.parametrize(
    ("state", "deadline", "expired"),
    [
        (HostState.POWERING_ON, NOW, True),
        (HostState.POWERING_OFF, NOW - 1, True),
        (HostState.POWERING_ON, NOW + 1, False),
        (HostState.POWERING_ON, None, False),
        (HostState.UP, NOW, False),
    ],
)
def test_a_host_that_did_not_switch_in_time_expires(
    state: HostState, deadline: int | None, expired: bool
) -> None:
    load = make_load(state=state, deadline_at=deadline)
    commands = of(ExpireHost, decide(make_view(hosts=(load,))).commands)
    assert commands == ([ExpireHost(host=load.host)] if expired else [])


def serves(pool: Any = None, **changes: Any) -> bool:
    values = {"pools": (pool or make_pool(),), "waiting": {"pol_1": 1}}
    return bool(of(ServeQueue, decide(make_view(**(values | changes))).commands))


READY = {("pol_1", "ready"): 1}


def test_a_queue_is_served_when_something_is_ready() -> None:
    assert serves(counts=READY)
    assert not serves()
    assert not serves(counts=READY, waiting={})


CLOSED = PoolSettings(schedule=(ScheduleEntry(name="night", window=Window(), open=False),))


@pytest.mark.parametrize(
    "pool",
    [
        make_pool(enabled=False),
        make_pool(settings=PoolSettings(state=ServiceState.DRAINING)),
        make_pool(settings=CLOSED),
    ],
)
def test_where_nobody_new_gets_one_the_queue_waits(pool: Any) -> None:
    assert not serves(pool, counts=READY)


def test_an_owner_gets_his_own_while_his_pool_drains() -> None:
    draining = PoolSettings(state=ServiceState.DRAINING)
    own = make_pool(kind=PoolKind.DEDICATED, settings=draining)
    assert serves(own, counts=READY, owned=READY)
    assert not serves(own, counts={("pol_1", "ready"): 2}, owned=READY)
    assert not serves(make_pool(settings=draining), counts=READY, owned=READY)
    maintained = PoolSettings(state=ServiceState.MAINTENANCE)
    resting = make_pool(kind=PoolKind.DEDICATED, settings=maintained)
    assert not serves(resting, counts=READY, owned=READY)
    site = SiteSettings(state=ServiceState.MAINTENANCE)
    assert not serves(own, counts=READY, owned=READY, site=site)
    assert not serves(own, owned=READY)


def test_failed_machines_are_cleared_and_failed_endpoints_made_fresh() -> None:
    machine = make_desktop(state=D.FAILED, note="did not boot")
    place = make_desktop(
        id="dsk_2", state=D.FAILED, host_id=None, endpoint_id="ept_1", note="was away"
    )
    view = make_view(pools=(), failed_desktops=(machine, place))
    assert decide(view).commands == (
        ClearDesktop(desktop=machine, why="it failed: did not boot"),
        FreshenDesktop(desktop=place, why="it failed: was away"),
    )


def test_nothing_is_done_twice_with_one_desktop() -> None:
    rows = tuple(make_desktop(id=f"dsk_{n}") for n in range(5))
    load = make_load(state=HostState.DRAINING, desktops_by_pool={"pol_1": 5})
    view = make_view(
        pools=(make_pool(spares_min=0),),
        hosts=(load,),
        counts={("pol_1", "ready"): 5},
        rows=Rows(ready={"pol_1": rows}, on_host={"hst_1": rows}, unlike={"pol_1": rows}),
        memory=Memory(surplus={"pol_1": Surplus(since=NOW - 900_000, least=5)}),
    )
    cleared = [one.desktop.id for one in of(ClearDesktop, decide(view).commands)]
    assert sorted(cleared) == [row.id for row in rows]


def test_an_empty_site_has_nothing_to_do() -> None:
    planned = decide(make_view(pools=(), hosts=()))
    assert planned.commands == ()
    assert planned.memory == Memory()


def test_what_failed_is_cleared_or_made_fresh_and_whats_somebodys_work_is_neither() -> None:
    keeps = make_pool(id="pol_2", name="art", kind=PoolKind.DEDICATED, log_off=LogOff.KEEP)
    own: dict[str, Any] = {"state": D.FAILED, "owner_id": "usr_1", "note": "was away"}
    there = {"host_id": None, "endpoint_id": "ept_1"}
    rows = (
        make_desktop(id="dsk_1", pool_id="pol_2", **own),
        make_desktop(id="dsk_2", pool_id="pol_2", **own, **there),
        make_desktop(id="dsk_3", **own, **there),
        make_desktop(id="dsk_4", pool_id="pol_2", **(own | {"owner_id": None}), **there),
        make_desktop(id="dsk_5", **own),
        make_desktop(id="dsk_6", pool_id="pol_gone", **own),
    )
    full = make_load(capacity=Resources(cpus=0, memory_mib=0))
    pools = (make_pool(spares_min=0), replace(keeps, spares_min=0))
    view = make_view(pools=pools, hosts=(full,), failed_desktops=rows)
    why = "it failed: was away"
    commands = [
        *of(FreshenDesktop, decide(view).commands),
        *of(ClearDesktop, decide(view).commands),
    ]
    assert commands == [
        FreshenDesktop(desktop=rows[1], why=why, kept=True),
        FreshenDesktop(desktop=rows[2], why=why),
        FreshenDesktop(desktop=rows[3], why=why),
        ClearDesktop(desktop=rows[4], why=why),
    ]


def test_what_was_started_because_it_failed_is_remembered() -> None:
    keeps = make_pool(kind=PoolKind.DEDICATED, log_off=LogOff.KEEP, spares_min=0)
    row = make_desktop(state=D.FAILED, owner_id="usr_1")
    view = make_view(pools=(keeps,), failed_desktops=(row,))
    memory = decide(view).memory
    assert memory.recoveries[row.id].tries == 1
    again = replace(view, now=view.now + 1000, memory=memory)
    assert of(ResumeDesktop, decide(again).commands) == []
