"""Engine work: taking it, finishing it, trying again; in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.errors import IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import JOB, JobEvent
from broker.domain.model import Job, JobState, JobVerb
from broker.ports import PageQuery, Store
from broker.store import open_store
from tests.support.builders import NOW
from tests.support.stores import fill, make_job, new_desktop


async def add_jobs(store: Store, *jobs: Job) -> None:
    await fill(store)
    desktop = new_desktop(1, id="dsk_1")
    await store.desktops.add([desktop], jobs)


async def in_state(store: Store, state: JobState) -> Job:
    await add_jobs(store, make_job())
    if state is JobState.CANCELLED:
        await store.jobs.advance("job_001", JobEvent.CANCELLED, NOW)
    elif state is not JobState.QUEUED:
        await store.jobs.take(NOW, NOW + 9, 1)
    if state is JobState.SUCCEEDED:
        await store.jobs.advance("job_001", JobEvent.SUCCEEDED, NOW)
    elif state is JobState.FAILED:
        await store.jobs.advance("job_001", JobEvent.FAILED_FOR_GOOD, NOW)
    job = await store.jobs.job("job_001")
    assert job is not None
    assert job.state is state
    return job


@pytest.mark.parametrize("event", list(JobEvent))
@pytest.mark.parametrize("state", list(JobState))
async def test_a_job_moves_exactly_along_its_table(
    store: Store, state: JobState, event: JobEvent
) -> None:
    job = await in_state(store, state)
    if not JOB.allows(state, event):
        with pytest.raises(IllegalTransitionError):
            await store.jobs.advance(job.id, event, NOW + 50)
        assert await store.jobs.job(job.id) == job
        return
    moved = await store.jobs.advance(job.id, event, NOW + 50, error="e", not_before_at=NOW + 60)
    to = JOB.table[state, event].to
    assert moved == replace(
        job,
        state=to,
        attempts=job.attempts + (event is JobEvent.STARTED) - (event is JobEvent.HANDED_BACK),
        deadline_at=None,
        not_before_at=NOW + 60 if to is JobState.QUEUED else job.not_before_at,
        error="e",
        finished_at=NOW + 50 if to in JOB.terminal else None,
    )
    assert await store.jobs.job(job.id) == moved


async def test_due_jobs_are_taken_oldest_first(store: Store) -> None:
    jobs = [
        make_job(1, created_at=NOW + 3),
        make_job(2, created_at=NOW + 1),
        make_job(3, created_at=NOW + 2),
        make_job(4, created_at=NOW, not_before_at=NOW + 10),
    ]
    await add_jobs(store, *jobs)
    taken = await store.jobs.take(NOW + 9, NOW + 99, 2)
    assert taken == tuple(
        replace(job, state=JobState.RUNNING, attempts=1, deadline_at=NOW + 99)
        for job in (jobs[1], jobs[2])
    )
    for job in taken:
        assert await store.jobs.job(job.id) == job
    assert [job.id for job in await store.jobs.take(NOW + 10, NOW + 99, 10)] == [
        "job_004",
        "job_001",
    ]
    assert await store.jobs.take(NOW + 99, NOW + 99, 10) == ()


async def test_a_failed_job_is_taken_again_after_its_pause(store: Store) -> None:
    await add_jobs(store, make_job())
    await store.jobs.take(NOW, NOW + 9, 1)
    await store.jobs.advance(
        "job_001", JobEvent.FAILED_RETRY, NOW, error="no", not_before_at=NOW + 50
    )
    assert await store.jobs.take(NOW + 49, NOW + 99, 1) == ()
    (again,) = await store.jobs.take(NOW + 50, NOW + 99, 1)
    assert (again.attempts, again.error) == (2, "no")


async def test_a_job_that_was_handed_back_was_no_attempt(store: Store) -> None:
    await add_jobs(store, make_job())
    for turn in range(3):
        (taken,) = await store.jobs.take(NOW + turn, NOW + 9, 1)
        assert taken.attempts == 1
        back = await store.jobs.advance(
            "job_001", JobEvent.HANDED_BACK, NOW, error="no", not_before_at=NOW + turn + 1
        )
        assert (back.attempts, back.state, back.error) == (0, JobState.QUEUED, "no")
        assert await store.jobs.take(NOW + turn, NOW + 9, 1) == ()


async def test_takers_at_once_share_the_jobs_and_none_is_taken_twice(store: Store) -> None:
    await add_jobs(store, *(make_job(number) for number in range(40)))
    rounds = await asyncio.gather(*(store.jobs.take(NOW, NOW + 9, 5) for _ in range(8)))
    # who skipped a locked job comes again, as the reconciler does
    rounds.append(await store.jobs.take(NOW, NOW + 9, 40))
    taken = [job.id for jobs in rounds for job in jobs]
    assert len(taken) == len(set(taken)) == 40


async def test_an_unknown_job_is_not_found(store: Store) -> None:
    assert await store.jobs.job("job_9") is None
    with pytest.raises(NotFoundError):
        await store.jobs.advance("job_9", JobEvent.SUCCEEDED, NOW)


async def test_expired_jobs_are_those_that_run_past_their_deadline(store: Store) -> None:
    await add_jobs(store, *(make_job(number) for number in (1, 2, 3)))
    await store.jobs.take(NOW, NOW + 20, 1)
    await store.jobs.take(NOW, NOW + 10, 1)
    found = await store.jobs.expired(NOW + 20, 10)
    assert [job.id for job in found] == ["job_002", "job_001"]
    assert len(await store.jobs.expired(NOW + 20, 1)) == 1
    await store.jobs.advance("job_002", JobEvent.DEADLINE_PASSED, NOW, not_before_at=NOW)
    assert [job.id for job in await store.jobs.expired(NOW + 20, 10)] == ["job_001"]
    assert await store.jobs.expired(NOW + 9, 10) == ()


@pytest.mark.parametrize("method", ["nestloop", "hashjoin", "mergejoin"])
async def test_postgres_takes_no_more_than_asked_however_it_joins(
    postgres_url: str, method: str
) -> None:
    """Left to itself, its choice of a join depends on when it last counted the tables."""
    off = [f"enable_{one}=off" for one in ("nestloop", "hashjoin", "mergejoin") if one != method]
    off += ["enable_material=off", "enable_sort=off", "enable_hashagg=off"]
    options = "%20".join(f"-c%20{one}" for one in off)
    mark = "&" if "?" in postgres_url else "?"
    store = open_store(f"{postgres_url}{mark}options={options}", connections=2)
    await store.open()
    try:
        await add_jobs(store, *(make_job(number) for number in range(1, 9)))
        taken = await store.jobs.take(NOW + 9, NOW + 99, 2)
        assert [one.id for one in taken] == ["job_001", "job_002"]
        running = await store.jobs.jobs(PageQuery(filters={"state": "running"}))
        assert len(running.items) == 2
    finally:
        await store.close()


async def test_a_job_carries_its_arguments(store: Store) -> None:
    await fill(store)
    await store.desktops.add([new_desktop(1)], [])
    sizes = {"cpus": "2.5", "memory_mib": "4096", "note": 'a "b" – c'}
    job = make_job(verb=JobVerb.RESIZE, desktop_id=new_desktop(1).id, arguments=sizes)
    await store.desktops.add([], [job])
    assert await store.jobs.job(job.id) == job
    (taken,) = await store.jobs.take(NOW, NOW + 5, 1)
    assert taken.arguments == sizes


async def test_work_on_a_host_has_no_desktop(store: Store) -> None:
    await fill(store)
    job = make_job(verb=JobVerb.POWER_OFF, desktop_id="", generation=0)
    await store.desktops.add([], [job])
    assert await store.jobs.job(job.id) == job
    (taken,) = await store.jobs.take(NOW, NOW + 5, 1)
    assert (taken.desktop_id, taken.host_id) == ("", "hst_1")
    done = await store.jobs.advance(job.id, JobEvent.SUCCEEDED, NOW + 1)
    assert done.desktop_id == ""
    listed = await store.jobs.jobs(PageQuery(filters={"host_id": "hst_1", "verb": "power_off"}))
    assert listed.items == (done,)
