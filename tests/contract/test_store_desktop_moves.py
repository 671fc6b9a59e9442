"""Migrations, new sizes, releases of parked desktops, and who is where, in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import ConflictError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import DesktopEvent, SessionEvent
from broker.domain.model import Desktop, DesktopState, JobVerb, PoolKind, Resources, Session
from broker.ports import PageQuery, Release, Store
from tests.support.builders import NOW, make_host
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    claimed_session,
    fill,
    make_job,
    make_request,
    new_desktop,
    ready_desktops,
)

ASSIGNED: tuple[DesktopEvent, ...] = ()
PARKING = (DesktopEvent.SUSPEND_ASKED,)
PARKED = (*PARKING, DesktopEvent.SUSPENDED)
UNPARKING = (*PARKED, DesktopEvent.RESUME_ASKED)


async def two_hosts(store: Store) -> Desktop:
    """A ready desktop on the first of two."""
    await fill(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    (desktop,) = await ready_desktops(store, [1], generation=3)
    return desktop


async def found(store: Store, desktop: Desktop) -> Desktop:
    now = await store.desktops.desktop(desktop.id)
    assert now is not None
    return now


# ---------------------------------------------------------------------------- migrations


@pytest.mark.parametrize("moved", [True, False])
async def test_a_desktop_migrates_or_stays(store: Store, *, moved: bool) -> None:
    desktop = await two_hosts(store)
    job = make_job(
        verb=JobVerb.MIGRATE,
        desktop_id=desktop.id,
        generation=0,
        arguments={"to_host_id": "hst_2"},
    )
    await store.desktops.begin_move(desktop.id, "hst_2", 3, job)
    assert await found(store, desktop) == replace(desktop, moving_to="hst_2")
    assert await store.jobs.job(job.id) == replace(job, generation=3)
    ended = await store.desktops.end_move(desktop.id, "hst_2", 3, moved=moved)
    assert ended == replace(desktop, host_id="hst_2" if moved else "hst_1")
    assert await found(store, desktop) == ended


async def test_an_assigned_desktop_migrates_under_its_session(store: Store) -> None:
    desktop = await two_hosts(store)
    await claim_one(store, make_request())
    await store.desktops.begin_move(desktop.id, "hst_2", 3, make_job(desktop_id=desktop.id))
    ended = await store.desktops.end_move(desktop.id, "hst_2", 3, moved=True)
    assert (ended.state, ended.host_id) == (DesktopState.ASSIGNED, "hst_2")


async def test_a_desktop_that_cannot_migrate_is_left_alone_and_gets_no_job(store: Store) -> None:
    desktop = await two_hosts(store)
    await store.desktops.add([new_desktop(2)], [])
    await ready_desktops(store, [1], IDV)
    begin, job = store.desktops.begin_move, make_job(desktop_id=desktop.id)
    for desktop_id, to_host_id, generation in (
        (desktop.id, "hst_2", 2),
        (desktop.id, "hst_1", 3),
        (new_desktop(2).id, "hst_2", 1),
        (new_desktop(1, IDV).id, "hst_2", 1),
    ):
        with pytest.raises(IllegalTransitionError):
            await begin(desktop_id, to_host_id, generation, job)
    with pytest.raises(NotFoundError):
        await begin("dsk_9", "hst_2", 1, job)
    with pytest.raises(ConflictError):
        await begin(desktop.id, "hst_9", 3, job)
    assert await store.jobs.job(job.id) is None
    assert await found(store, desktop) == desktop


async def test_a_migration_is_begun_once_and_ended_as_it_was_begun(store: Store) -> None:
    desktop = await two_hosts(store)
    begin, end = store.desktops.begin_move, store.desktops.end_move
    with pytest.raises(IllegalTransitionError):
        await end(desktop.id, "hst_2", 3, moved=True)
    await begin(desktop.id, "hst_2", 3, make_job(1, desktop_id=desktop.id))
    with pytest.raises(IllegalTransitionError):
        await begin(desktop.id, "hst_2", 3, make_job(2, desktop_id=desktop.id))
    for to_host_id, generation in (("hst_1", 3), ("hst_2", 2)):
        with pytest.raises(IllegalTransitionError):
            await end(desktop.id, to_host_id, generation, moved=True)
    with pytest.raises(NotFoundError):
        await end("dsk_9", "hst_2", 3, moved=True)
    await end(desktop.id, "hst_2", 3, moved=True)
    with pytest.raises(IllegalTransitionError):
        await end(desktop.id, "hst_2", 3, moved=True)


async def test_a_desktop_that_is_made_fresh_is_on_no_way_any_more(store: Store) -> None:
    desktop = await two_hosts(store)
    session = await claimed_session(store, make_request())
    await store.desktops.begin_move(desktop.id, "hst_2", 3, make_job(desktop_id=desktop.id))
    release = Release(event=DesktopEvent.RELEASED_RESET, fresh=True, deadline_at=NOW + 5)
    await end_session(store, session, release)
    now = await found(store, desktop)
    assert (now.moving_to, now.host_id, now.generation) == (None, "hst_1", 4)
    with pytest.raises(IllegalTransitionError):
        await store.desktops.end_move(desktop.id, "hst_2", 3, moved=True)


async def test_a_desktop_gets_another_size(store: Store) -> None:
    desktop = await two_hosts(store)
    size = Resources(cpus=8, memory_mib=9, disk_mib=10, disk_iops=11, network_mbit=12)
    assert await store.desktops.resized(desktop.id, 3, size) == replace(desktop, resources=size)
    assert await found(store, desktop) == replace(desktop, resources=size)
    with pytest.raises(IllegalTransitionError):
        await store.desktops.resized(desktop.id, 2, desktop.resources)
    with pytest.raises(NotFoundError):
        await store.desktops.resized("dsk_9", 3, size)


# ------------------------------------------------------------------------------ releases


async def end_session(store: Store, session: Session, release: Release) -> None:
    await store.sessions.advance(session.id, SessionEvent.LOG_OFF, NOW, why="bye")
    await store.sessions.advance(
        session.id, SessionEvent.FINISHED, NOW + 1, why="bye", release=release
    )


@pytest.mark.parametrize(
    ("way", "event", "state", "deadline_at"),
    [
        (PARKING, DesktopEvent.RELEASED_RESET, DesktopState.RESETTING, NOW + 5),
        (PARKED, DesktopEvent.RELEASED_RESET, DesktopState.RESETTING, NOW + 5),
        (UNPARKING, DesktopEvent.RELEASED_DELETE, DesktopState.DELETING, NOW + 5),
        (PARKED, DesktopEvent.FAILED, DesktopState.FAILED, None),
        # kept: nobody gave a deadline, so the passing states go on with the one they had
        (PARKING, DesktopEvent.RELEASED_KEEP, DesktopState.SUSPENDING, NOW + 77),
        (PARKED, DesktopEvent.RELEASED_KEEP, DesktopState.SUSPENDED, None),
        (UNPARKING, DesktopEvent.RELEASED_KEEP, DesktopState.RESUMING, NOW + 77),
        (ASSIGNED, DesktopEvent.RELEASED_RESTART, DesktopState.RESUMING, NOW + 5),
        (PARKED, DesktopEvent.RELEASED_RESTART, DesktopState.SUSPENDED, None),
        (UNPARKING, DesktopEvent.RELEASED_RESTART, DesktopState.RESUMING, NOW + 5),
    ],
)
async def test_a_desktop_is_released_from_wherever_its_session_has_it(
    store: Store,
    way: tuple[DesktopEvent, ...],
    event: DesktopEvent,
    state: DesktopState,
    deadline_at: int | None,
) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1])
    session = await claimed_session(store, make_request())
    for step in way:
        await store.desktops.advance(desktop.id, step, NOW, deadline_at=NOW + 77)
    kept = event is DesktopEvent.RELEASED_KEEP
    job = None if kept else make_job(desktop_id=desktop.id, verb=JobVerb.RESET)
    release = Release(event=event, fresh=not kept, deadline_at=None if kept else NOW + 5, job=job)
    await end_session(store, session, release)
    now = await found(store, desktop)
    assert (now.state, now.deadline_at, now.changed_at) == (state, deadline_at, NOW + 1)
    assert now.generation == desktop.generation + (not kept)
    if job is not None:
        assert await store.jobs.job(job.id) == replace(job, generation=now.generation)


# -------------------------------------------------------------------------- who is where


async def test_known_desktops_are_those_that_ever_were(store: Store) -> None:
    await fill(store)
    first, second = await ready_desktops(store, [1, 2])
    await store.desktops.advance(second.id, DesktopEvent.DELETE_ASKED, NOW)
    gone = await store.desktops.advance(second.id, DesktopEvent.DELETED, NOW)
    assert await store.desktops.known([second.id, "dsk_9", first.id]) == (first, gone)
    assert await store.desktops.known([]) == ()


async def test_a_hosts_desktops_are_those_on_it_and_those_that_come(store: Store) -> None:
    coming = await two_hosts(store)
    here = await ready_desktops(store, [2, 3, 4], host_id="hst_2")
    await store.desktops.begin_move(coming.id, "hst_2", 3, make_job(desktop_id=coming.id))
    failed = await store.desktops.advance(here[1].id, DesktopEvent.FAILED, NOW)
    on_host = store.desktops.on_host
    states = ("ready", "failed", "deleted")
    ids = [one.id for one in await on_host("hst_2", states, 10)]
    assert ids == [coming.id, *(one.id for one in here)]
    assert await on_host("hst_2", ["failed"], 10) == (failed,)
    assert [one.id for one in await on_host("hst_2", states, 2)] == ids[:2]
    assert [one.id for one in await on_host("hst_1", states, 10)] == [coming.id]
    assert await on_host("hst_9", states, 10) == ()


async def test_a_pools_desktops_come_longest_unchanged_first(store: Store) -> None:
    await fill(store)
    first, second, third = await ready_desktops(store, [1, 2, 3])
    await ready_desktops(store, [1], IDV)
    await store.desktops.advance(first.id, DesktopEvent.SUSPEND_ASKED, NOW + 9)
    of_pool = store.desktops.of_pool
    found_ids = [one.id for one in await of_pool(VDI.id, ["ready", "suspending"], 10)]
    assert found_ids == [second.id, third.id, first.id]
    assert await of_pool(VDI.id, ["ready"], 1) == (second,)
    assert await of_pool("pol_9", ["ready"], 10) == ()


async def test_a_pools_desktops_are_found_by_owner_and_by_size(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], owner_id="usr_1")
    usual = new_desktop(1).resources
    (free,) = await ready_desktops(store, [2])
    (big,) = await ready_desktops(store, [3], resources=replace(usual, disk_iops=5))
    of_pool = store.desktops.of_pool
    assert await of_pool(VDI.id, ["ready"], 10, unowned=True) == (free, big)
    assert await of_pool(VDI.id, ["ready"], 10, unlike=usual) == (big,)
    assert await of_pool(VDI.id, ["ready"], 10, unowned=True, unlike=big.resources) == (free,)
    assert await store.desktops.counts() == {(VDI.id, "ready"): 3}
    assert await store.desktops.counts(owned=True) == {(VDI.id, "ready"): 1}


async def test_desktops_are_awaited_by_those_who_come_back_and_by_their_owners(
    store: Store,
) -> None:
    await fill(store)
    owned_pool = replace(VDI, kind=PoolKind.DEDICATED)
    await store.directory.save_pool(owned_pool, new=False)
    await ready_desktops(store, [1, 2])
    away = await claimed_session(store, make_request(1))
    (owned,) = await ready_desktops(store, [3], owner_id="usr_3")
    (spare,) = await ready_desktops(store, [4])
    left = await store.sessions.advance(
        (await claimed_session(store, make_request(2))).id,
        SessionEvent.DISCONNECTED,
        NOW,
        why="left",
    )
    for number, desktop_id in enumerate((left.desktop_id, away.desktop_id, owned.id, spare.id)):
        assert desktop_id is not None
        for event in PARKED:
            await store.desktops.advance(desktop_id, event, NOW + number)
    awaited = store.desktops.awaited
    # the one who left is not waited for, nor is the spare
    assert [one.id for one in await awaited(10)] == [away.desktop_id]
    await claim_one(store, make_request(3, owned_pool))
    assert [one.id for one in await awaited(10)] == [away.desktop_id, owned.id]
    await claim_one(store, make_request(2, owned_pool))
    ids = [one.id for one in await awaited(10)]
    assert ids == [left.desktop_id, away.desktop_id, owned.id]
    assert [one.id for one in await awaited(2)] == ids[:2]


# ------------------------------------------------------------------- made under a lease


async def test_desktops_are_made_with_their_entries_under_a_lease(store: Store) -> None:
    await fill(store)
    lease = await store.leases.acquire("planner", "broker-1", NOW, NOW + 10)
    assert lease is not None
    made = AuditEntry(
        id="ent_1", at=NOW, actor="broker", action="desktop.make", outcome=Outcome.DONE
    )
    await store.desktops.add([new_desktop(1)], [], entries=[made], lease=lease)
    assert (await store.audit.entries(PageQuery())).items == (made,)


async def test_who_lost_the_lease_makes_nothing(store: Store) -> None:
    await fill(store)
    lease = await store.leases.acquire("planner", "broker-1", NOW, NOW + 10)
    assert lease is not None
    taken = await store.leases.acquire("planner", "broker-2", NOW + 10**6, NOW + 2 * 10**6)
    assert taken is not None
    made = AuditEntry(
        id="ent_1", at=NOW, actor="broker", action="desktop.make", outcome=Outcome.DONE
    )
    for stale in (lease, replace(lease, name="never")):
        with pytest.raises(ConflictError):
            await store.desktops.add(
                [new_desktop(1)],
                [make_job(desktop_id=new_desktop(1).id)],
                entries=[made],
                lease=stale,
            )
    assert await store.desktops.desktop(new_desktop(1).id) is None
    assert (await store.audit.entries(PageQuery())).items == ()
    await store.desktops.add([new_desktop(1)], [], lease=taken)
