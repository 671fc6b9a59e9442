"""Desktops and the jobs that make them, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.errors import (
    AlreadyExistsError,
    ConflictError,
    IllegalTransitionError,
    NotFoundError,
)
from broker.domain.lifecycle import DESKTOP, DesktopEvent
from broker.domain.model import Desktop, DesktopState, JobState
from broker.ports import Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    fill,
    make_job,
    make_request,
    new_desktop,
    ready_desktops,
)

PATHS: dict[DesktopState, tuple[DesktopEvent, ...]] = {
    DesktopState.PLANNED: (),
    DesktopState.CREATING: (DesktopEvent.CREATE_BEGUN,),
    DesktopState.STARTING: (DesktopEvent.CREATE_BEGUN, DesktopEvent.CREATED),
    DesktopState.FAILED: (DesktopEvent.DEADLINE_PASSED,),
    DesktopState.DELETING: (DesktopEvent.DELETE_ASKED,),
    DesktopState.DELETED: (DesktopEvent.DELETE_ASKED, DesktopEvent.DELETED),
}


FROM_READY: dict[DesktopState, tuple[DesktopEvent, ...]] = {
    DesktopState.READY: (),
    DesktopState.SUSPENDING: (DesktopEvent.SUSPEND_ASKED,),
    DesktopState.SUSPENDED: (DesktopEvent.SUSPEND_ASKED, DesktopEvent.SUSPENDED),
    DesktopState.RESUMING: (
        DesktopEvent.SUSPEND_ASKED,
        DesktopEvent.SUSPENDED,
        DesktopEvent.RESUME_ASKED,
    ),
}
FROM_ASSIGNED: dict[DesktopState, tuple[DesktopEvent, ...]] = {
    DesktopState.ASSIGNED: (),
    DesktopState.RESETTING: (DesktopEvent.RELEASED_RESET,),
    DesktopState.PARKING: FROM_READY[DesktopState.SUSPENDING],
    DesktopState.PARKED: FROM_READY[DesktopState.SUSPENDED],
    DesktopState.UNPARKING: FROM_READY[DesktopState.RESUMING],
}


async def in_state(store: Store, state: DesktopState) -> Desktop:
    await fill(store)
    if state in FROM_READY or state in FROM_ASSIGNED:
        (desktop,) = await ready_desktops(store, [1])
        if state in FROM_ASSIGNED:
            await claim_one(store, make_request())
    else:
        desktop = new_desktop(1, IDV if state is DesktopState.UNAVAILABLE else VDI)
        await store.desktops.add([desktop], [])
    for event in (PATHS | FROM_READY | FROM_ASSIGNED).get(state, ()):
        await store.desktops.advance(desktop.id, event, NOW)
    found = await store.desktops.desktop(desktop.id)
    assert found is not None
    assert found.state is state
    return found


@pytest.mark.parametrize("event", list(DesktopEvent))
@pytest.mark.parametrize("state", list(DesktopState))
async def test_a_desktop_moves_exactly_along_its_table(
    store: Store, state: DesktopState, event: DesktopEvent
) -> None:
    desktop = await in_state(store, state)
    if not DESKTOP.allows(state, event):
        with pytest.raises(IllegalTransitionError):
            await store.desktops.advance(desktop.id, event, NOW + 50)
        assert await store.desktops.desktop(desktop.id) == desktop
        return
    moved = await store.desktops.advance(
        desktop.id, event, NOW + 50, deadline_at=NOW + 77, note="why"
    )
    to = DESKTOP.table[state, event].to
    assert moved == replace(
        desktop,
        state=to,
        target=DESKTOP.transient.get(to),
        deadline_at=NOW + 77,
        note="why",
        changed_at=NOW + 50,
    )
    assert await store.desktops.desktop(desktop.id) == moved


async def test_a_new_desktop_is_read_back_with_its_job(store: Store) -> None:
    await fill(store)
    desktop = new_desktop(1, deadline_at=NOW + 5, note="for the queue")
    job = make_job(desktop_id=desktop.id)
    await store.desktops.add([desktop], [job])
    assert await store.desktops.desktop(desktop.id) == desktop
    assert await store.jobs.job(job.id) == job
    assert await store.desktops.desktop("dsk_9") is None


async def test_desktops_are_added_all_or_none(store: Store) -> None:
    await fill(store)
    first = new_desktop(1)
    await store.desktops.add([first], [make_job(1, desktop_id=first.id)])
    second = new_desktop(2)
    bad: list[tuple[list[Desktop], list[object], type[Exception]]] = [
        ([second, replace(second, id="dsk_same_name")], [], AlreadyExistsError),
        ([second, replace(second, name=first.name)], [], AlreadyExistsError),
        ([second, replace(first, name="other")], [], AlreadyExistsError),
        ([replace(second, pool_id="pol_9")], [], ConflictError),
        ([replace(second, host_id="hst_9")], [], ConflictError),
        ([replace(second, endpoint_id="ept_1")], [], ConflictError),
        ([second], [make_job(1, desktop_id=second.id)], AlreadyExistsError),
        ([second], [make_job(2, desktop_id="dsk_9")], ConflictError),
        ([replace(second, state=DesktopState.READY)], [], IllegalTransitionError),
        ([second], [make_job(2, state=JobState.RUNNING)], IllegalTransitionError),
    ]
    for desktops, jobs, error in bad:
        with pytest.raises(error):
            await store.desktops.add(desktops, jobs)  # type: ignore[arg-type]
    assert await store.desktops.names(VDI.id) == {first.name}
    assert await store.jobs.job("job_002") is None


async def test_an_endpoint_has_one_place_in_a_pool(store: Store) -> None:
    await fill(store)
    place = new_desktop(1, IDV)
    await store.desktops.add([place], [])
    with pytest.raises(AlreadyExistsError):
        await store.desktops.add([replace(place, id="dsk_2", name="second")], [])


async def test_a_deleted_desktops_name_and_place_are_free_again(store: Store) -> None:
    await fill(store)
    place = new_desktop(1, IDV)
    await store.desktops.add([place], [])
    await store.desktops.advance(place.id, DesktopEvent.DELETE_ASKED, NOW)
    with pytest.raises(AlreadyExistsError):
        await store.desktops.add([replace(place, id="dsk_again")], [])
    await store.desktops.advance(place.id, DesktopEvent.DELETED, NOW)
    assert await store.desktops.names(IDV.id) == frozenset()
    await store.desktops.add([replace(place, id="dsk_again")], [])
    assert await store.desktops.names(IDV.id) == {place.name}


async def test_a_report_of_another_generation_is_refused(store: Store) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1])
    advance = store.desktops.advance
    for generation in (0, 2):
        with pytest.raises(IllegalTransitionError):
            await advance(desktop.id, DesktopEvent.FAILED, NOW, generation=generation)
    assert (await advance(desktop.id, DesktopEvent.FAILED, NOW, generation=1)).note == ""


async def test_an_unknown_desktop_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await store.desktops.advance("dsk_9", DesktopEvent.FAILED, NOW)


async def test_a_fresh_desktop_has_a_new_generation_and_so_has_its_job(store: Store) -> None:
    desktop = await in_state(store, DesktopState.ASSIGNED)
    job = make_job(desktop_id=desktop.id, generation=1)
    moved = await store.desktops.advance(
        desktop.id, DesktopEvent.RELEASED_RESET, NOW, fresh=True, job=job
    )
    assert moved.generation == 2
    assert await store.jobs.job(job.id) == replace(job, generation=2)


async def test_a_move_whose_job_cannot_be_stored_is_not_made(store: Store) -> None:
    desktop = await in_state(store, DesktopState.ASSIGNED)
    job = make_job(desktop_id=desktop.id)
    await store.desktops.add([], [job])
    with pytest.raises(AlreadyExistsError):
        await store.desktops.advance(desktop.id, DesktopEvent.RELEASED_RESET, NOW, job=job)
    assert await store.desktops.desktop(desktop.id) == desktop


async def test_a_refused_move_stores_no_job(store: Store) -> None:
    desktop = await in_state(store, DesktopState.READY)
    job = make_job(desktop_id=desktop.id)
    with pytest.raises(IllegalTransitionError):
        await store.desktops.advance(desktop.id, DesktopEvent.CREATED, NOW, job=job)
    assert await store.jobs.job(job.id) is None


async def test_a_note_stays_until_another_is_written(store: Store) -> None:
    await fill(store)
    desktop = new_desktop(1, note="first")
    await store.desktops.add([desktop], [])
    kept = await store.desktops.advance(desktop.id, DesktopEvent.CREATE_BEGUN, NOW)
    assert kept.note == "first"
    cleared = await store.desktops.advance(desktop.id, DesktopEvent.CREATED, NOW, note="")
    assert cleared.note == ""


async def test_of_many_at_once_exactly_one_moves_a_desktop(store: Store) -> None:
    desktop = await in_state(store, DesktopState.PLANNED)

    async def begin() -> bool:
        try:
            await store.desktops.advance(desktop.id, DesktopEvent.CREATE_BEGUN, NOW)
        except IllegalTransitionError:
            return False
        return True

    assert sum(await asyncio.gather(*(begin() for _ in range(30)))) == 1


async def test_counts_leave_out_deleted_desktops(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    await store.desktops.add([new_desktop(3), new_desktop(4), new_desktop(1, IDV)], [])
    for event in (DesktopEvent.DELETE_ASKED, DesktopEvent.DELETED):
        await store.desktops.advance(new_desktop(4).id, event, NOW)
    assert await store.desktops.counts() == {
        (VDI.id, "ready"): 2,
        (VDI.id, "planned"): 1,
        (IDV.id, "unavailable"): 1,
    }


async def test_desktops_by_state_come_longest_unchanged_first(store: Store) -> None:
    await fill(store)
    await store.desktops.add(
        [new_desktop(n, changed_at=NOW + at) for n, at in ((1, 30), (2, 10), (3, 20))], []
    )
    await store.desktops.advance(new_desktop(3).id, DesktopEvent.CREATE_BEGUN, NOW + 5)
    by_state = store.desktops.by_state
    found = await by_state([DesktopState.PLANNED, DesktopState.CREATING], 10)
    assert [one.id for one in found] == ["dsk_library_3", "dsk_library_2", "dsk_library_1"]
    found = await by_state([DesktopState.PLANNED], 1)
    assert [one.id for one in found] == ["dsk_library_2"]
    assert await by_state([], 10) == ()


async def test_expired_desktops_come_oldest_deadline_first(store: Store) -> None:
    await fill(store)
    await store.desktops.add(
        [
            new_desktop(n, deadline_at=deadline)
            for n, deadline in ((1, NOW + 30), (2, NOW + 10), (3, None), (4, NOW + 20))
        ],
        [],
    )
    found = await store.desktops.expired(NOW + 30, 10)
    assert [one.id for one in found] == ["dsk_library_2", "dsk_library_4", "dsk_library_1"]
    assert len(await store.desktops.expired(NOW + 20, 1)) == 1
    assert await store.desktops.expired(NOW + 9, 10) == ()
