"""Snapshots of desktops, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.errors import (
    AlreadyExistsError,
    IllegalTransitionError,
    NotFoundError,
    SnapshotRefusedError,
)
from broker.domain.lifecycle import DesktopEvent, SnapshotEvent
from broker.domain.model import Desktop, DesktopState, JobVerb, PoolKind, Resources
from broker.domain.snapshots import Snapshot, SnapshotState
from broker.ports import PageQuery, Store
from tests.support.builders import NOW, make_desktop, make_host, make_snapshot
from tests.support.stores import VDI, fill, make_job, ready_desktops
from tests.support.trail import make_entry

KEPT = replace(VDI, kind=PoolKind.DEDICATED)
SIZE = make_desktop().resources
SMALLER = Resources(cpus=1.0, memory_mib=1024)
N = SnapshotState


async def one_desktop(store: Store) -> Desktop:
    await fill(store)
    await store.directory.save_pool(KEPT, new=False)
    (desktop,) = await ready_desktops(store, [1], KEPT, id="dsk_1", owner_id="usr_1", generation=3)
    return desktop


async def add(store: Store, number: int = 1, most: int = 5, **changes: Any) -> Snapshot:
    snapshot = make_snapshot(number, **changes)
    job = make_job(
        id=f"job_s{number}",
        verb=JobVerb.SNAPSHOT,
        desktop_id=snapshot.desktop_id,
        generation=snapshot.generation,
        arguments={"snapshot_id": snapshot.id},
    )
    await store.snapshots.add(snapshot, job, make_entry(number), most=most)
    return snapshot


async def made(store: Store, number: int = 1, **changes: Any) -> Snapshot:
    snapshot = await add(store, number, **changes)
    return await store.snapshots.advance(snapshot.id, SnapshotEvent.MADE, NOW + 10, size_bytes=99)


async def revert(store: Store, snapshot: Snapshot, generation: int = 3) -> Desktop:
    return await store.snapshots.begin_revert(
        snapshot.id,
        generation,
        NOW + 50,
        deadline_at=NOW + 900,
        note="back",
        job=make_job(id="job_r", verb=JobVerb.REVERT, desktop_id="dsk_1", generation=generation),
        entry=make_entry(77),
    )


async def test_a_snapshot_is_stored_with_its_job_and_its_entry(store: Store) -> None:
    desktop = await one_desktop(store)
    snapshot = await add(store)
    assert await store.snapshots.snapshot("snp_1") == snapshot
    assert await store.snapshots.of_desktop(desktop.id) == (snapshot,)
    job = await store.jobs.job("job_s1")
    assert job is not None
    assert (job.verb, job.arguments) == (JobVerb.SNAPSHOT, {"snapshot_id": "snp_1"})
    assert len((await store.audit.entries(PageQuery())).items) == 1


async def test_one_is_made_dropped_and_then_not_stored_any_more(store: Store) -> None:
    desktop = await one_desktop(store)
    ready = await made(store)
    assert (ready.state, ready.size_bytes, ready.changed_at) == (N.READY, 99, NOW + 10)
    job = make_job(id="job_d", verb=JobVerb.DROP_SNAPSHOT, desktop_id=desktop.id, generation=3)
    dropping = await store.snapshots.advance(
        ready.id, SnapshotEvent.DROP_ASKED, NOW + 20, job=job, entry=make_entry(9)
    )
    assert (dropping.state, dropping.size_bytes) == (N.DROPPING, 99)
    assert await store.snapshots.snapshot(ready.id) == dropping
    assert await store.jobs.job("job_d") == job
    with pytest.raises(IllegalTransitionError):
        await store.snapshots.advance(ready.id, SnapshotEvent.DROP_ASKED, NOW + 21)
    gone = await store.snapshots.advance(ready.id, SnapshotEvent.DROPPED, NOW + 30)
    assert gone.state is N.DROPPED
    assert await store.snapshots.snapshot(ready.id) is None
    assert await store.snapshots.of_desktop(desktop.id) == ()
    with pytest.raises(NotFoundError):
        await store.snapshots.advance(ready.id, SnapshotEvent.DROPPED, NOW + 31)


async def test_one_that_failed_says_why_and_can_be_dropped(store: Store) -> None:
    await one_desktop(store)
    await add(store)
    failed = await store.snapshots.advance("snp_1", SnapshotEvent.FAILED, NOW, why="no room")
    assert (failed.state, failed.why) == (N.FAILED, "no room")
    again = await store.snapshots.advance("snp_1", SnapshotEvent.DROP_ASKED, NOW)
    assert (again.state, again.why) == (N.DROPPING, "")


async def test_names_are_its_own_and_their_number_is_bounded(store: Store) -> None:
    await one_desktop(store)
    await add(store, 1)
    with pytest.raises(AlreadyExistsError):
        await add(store, 2, name="before-1")
    await add(store, 2, most=2)
    with pytest.raises(SnapshotRefusedError):
        await add(store, 3, most=2)
    assert await store.jobs.job("job_s3") is None


async def test_many_at_once_do_not_get_past_the_limit(store: Store) -> None:
    desktop = await one_desktop(store)
    tries = await asyncio.gather(
        *(add(store, number, most=3) for number in range(1, 9)), return_exceptions=True
    )
    refused = [one for one in tries if isinstance(one, SnapshotRefusedError)]
    assert len(refused) == 5
    assert len(await store.snapshots.of_desktop(desktop.id)) == 3


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (DesktopEvent.SUSPEND_ASKED, DesktopState.SUSPENDING),
        (DesktopEvent.FAILED, DesktopState.FAILED),
    ],
)
async def test_a_desktop_that_is_not_settled_takes_none(
    store: Store, event: DesktopEvent, state: DesktopState
) -> None:
    desktop = await one_desktop(store)
    moved = await store.desktops.advance(desktop.id, event, NOW, deadline_at=NOW + 9)
    assert moved.state is state
    with pytest.raises(IllegalTransitionError):
        await add(store)
    assert await store.jobs.job("job_s1") is None


async def test_a_desktop_of_another_generation_or_none_takes_none(store: Store) -> None:
    await one_desktop(store)
    with pytest.raises(IllegalTransitionError):
        await add(store, generation=2)
    with pytest.raises(NotFoundError):
        await add(store, desktop_id="dsk_none")


async def test_a_desktop_that_moves_takes_none_and_does_not_go_back(store: Store) -> None:
    desktop = await one_desktop(store)
    ready = await made(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    job = make_job(id="job_m", verb=JobVerb.MIGRATE, desktop_id=desktop.id, generation=3)
    await store.desktops.begin_move(desktop.id, "hst_2", 3, job)
    with pytest.raises(IllegalTransitionError):
        await add(store, 2)
    with pytest.raises(IllegalTransitionError):
        await revert(store, ready)


async def test_a_revert_takes_the_desktop_and_all_its_snapshots_to_the_next_generation(
    store: Store,
) -> None:
    desktop = await one_desktop(store)
    first, second = await made(store, 1), await made(store, 2)
    moved = await revert(store, first)
    assert moved == replace(
        desktop,
        state=DesktopState.RESETTING,
        target=DesktopState.READY,
        generation=4,
        deadline_at=NOW + 900,
        note="back",
        changed_at=NOW + 50,
    )
    assert await store.desktops.desktop(desktop.id) == moved
    job = await store.jobs.job("job_r")
    assert job is not None
    assert (job.verb, job.generation) == (JobVerb.REVERT, 4)
    kept = await store.snapshots.of_desktop(desktop.id)
    assert kept == tuple(replace(one, generation=4) for one in (first, second))
    assert not await store.desktops.resets_waiting((), 10)


async def test_a_desktop_of_another_size_goes_back_once_it_has_the_one_of_then(
    store: Store,
) -> None:
    desktop = await one_desktop(store)
    ready = await made(store)
    await store.desktops.resized(desktop.id, 3, SMALLER)
    with pytest.raises(SnapshotRefusedError, match="another size"):
        await revert(store, ready)
    await store.desktops.resized(desktop.id, 3, SIZE)
    assert (await revert(store, ready)).generation == 4


async def test_a_desktop_that_was_made_fresh_has_its_snapshots_no_more(store: Store) -> None:
    desktop = await one_desktop(store)
    ready = await made(store)
    await store.desktops.advance(desktop.id, DesktopEvent.RESET_ASKED, NOW, fresh=True)
    assert await store.snapshots.of_desktop(desktop.id) == ()
    assert await store.snapshots.snapshot(ready.id) is None
    with pytest.raises(NotFoundError):
        await revert(store, ready)
    await store.desktops.advance(desktop.id, DesktopEvent.REPORTED_READY, NOW)
    # the name is free again, and the former one is forgotten
    new = await add(store, 2, name=ready.name, generation=4)
    assert await store.snapshots.of_desktop(desktop.id) == (new,)


async def test_a_desktop_that_is_removed_has_none(store: Store) -> None:
    desktop = await one_desktop(store)
    ready = await made(store)
    await store.desktops.advance(desktop.id, DesktopEvent.DELETE_ASKED, NOW, deadline_at=NOW + 9)
    assert await store.snapshots.of_desktop(desktop.id) == ()
    with pytest.raises(NotFoundError):
        await store.snapshots.advance(ready.id, SnapshotEvent.DROP_ASKED, NOW)
    assert await store.snapshots.of_desktop("dsk_none") == ()


async def test_nothing_goes_back_to_what_is_not_whole_or_while_another_is_under_way(
    store: Store,
) -> None:
    desktop = await one_desktop(store)
    making = await add(store, 1)
    with pytest.raises(SnapshotRefusedError):
        await revert(store, making)
    ready = await made(store, 2)
    with pytest.raises(SnapshotRefusedError):
        await revert(store, ready)
    await store.snapshots.advance(making.id, SnapshotEvent.FAILED, NOW, why="no room")
    with pytest.raises(IllegalTransitionError):
        await revert(store, ready, generation=2)
    found = await store.desktops.desktop(desktop.id)
    assert found == desktop
    assert await store.jobs.job("job_r") is None


async def test_a_desktop_that_somebody_has_does_not_go_back(store: Store) -> None:
    desktop = await one_desktop(store)
    ready = await made(store)
    await store.desktops.advance(desktop.id, DesktopEvent.CLAIMED, NOW)
    with pytest.raises(IllegalTransitionError):
        await revert(store, ready)
    # but one may be taken, and dropped
    assert (await made(store, 2)).state is N.READY
    dropping = await store.snapshots.advance(ready.id, SnapshotEvent.DROP_ASKED, NOW)
    assert dropping.state is N.DROPPING
