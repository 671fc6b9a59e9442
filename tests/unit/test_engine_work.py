"""Engine work, verb by verb: what is asked, what is written down, what becomes of failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import IllegalTransitionError, NotHereError
from broker.domain.features import Feature
from broker.domain.lifecycle import DesktopEvent, JobEvent
from broker.domain.model import (
    Desktop,
    DesktopState,
    JobState,
    JobVerb,
    SessionState,
)
from broker.ports import Operation
from broker.services.jobs import new_job
from tests.support.builders import make_host, make_snapshot
from tests.support.engine_bench import OTHER, Bench, memory_of, ready
from tests.support.trail import make_entry

D = DesktopState


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = await Bench.make()
    yield made
    assert made.bugs == []


# ------------------------------------------------------------------------------- made


async def test_a_machine_that_reports_before_its_creation_is_written_down_is_ready(
    bench: Bench,
) -> None:
    desktop = await bench.desktop(D.PLANNED)
    await bench.advance(desktop, DesktopEvent.CREATE_BEGUN)
    works = bench.broker()
    await works.machine_reported(ready(desktop.id, 1))
    assert (await bench.read(desktop)).state is D.READY
    job = await bench.ask(desktop, JobVerb.CREATE)
    await bench.attempt(works)
    assert (await bench.job(job)).state is JobState.SUCCEEDED
    assert bench.engine.done == []


async def test_a_machine_that_reports_while_its_creation_is_written_down_is_ready(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop = await bench.desktop(D.PLANNED)
    await bench.advance(desktop, DesktopEvent.CREATE_BEGUN)
    read = bench.store.desktops.desktop

    async def read_just_before(desktop_id: str) -> Desktop | None:
        monkeypatch.undo()
        found = await read(desktop_id)
        await bench.advance(desktop, DesktopEvent.CREATED)
        return found

    monkeypatch.setattr(bench.store.desktops, "desktop", read_just_before)
    await bench.broker().machine_reported(ready(desktop.id, 1))
    assert (await bench.read(desktop)).state is D.READY


async def test_each_failed_attempt_and_each_machine_that_comes_up_is_told(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.PLANNED), bench.broker()
    await bench.ask(desktop, JobVerb.CREATE)
    bench.engine.failing.add("create")
    await bench.attempt(works)
    bench.clock.advance(60)
    bench.engine.failing.clear()
    await bench.attempt(works)
    await bench.tell(works, bench.heard())
    assert bench.outcomes == [
        ("pol_1", "hst_1", False, "create failed as the test asked"),
        ("pol_1", "hst_1", True, ""),
    ]


async def test_a_machine_that_does_not_boot_is_told_as_a_failure(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.PLANNED), bench.broker()
    bench.engine.silent = True
    await bench.ask(desktop, JobVerb.CREATE)
    await bench.attempt(works)
    report = replace(ready(desktop.id, 1), ready=False, detail="no disk")
    await works.machine_reported(report)
    assert (await bench.read(desktop)).state is D.FAILED
    assert bench.outcomes == [("pol_1", "hst_1", False, "no disk")]


async def test_only_making_counts_as_an_outcome(bench: Bench) -> None:
    works = bench.broker()
    await bench.ask(await bench.desktop(D.RESETTING, 1), JobVerb.RESET)
    await bench.ask(await bench.desktop(D.RESUMING, 2), JobVerb.RESUME)
    await bench.finish(works)
    assert bench.outcomes == []


@pytest.mark.parametrize("verb", [JobVerb.CREATE, JobVerb.RESET])
async def test_a_machine_made_while_its_desktop_was_deleted_goes_again(
    bench: Bench, verb: JobVerb
) -> None:
    desktop = await bench.desktop(D.PLANNED if verb is JobVerb.CREATE else D.RESETTING)
    await bench.ask(desktop, verb)
    make, works = bench.engine._make, bench.broker()

    def slowly(verb: str, operation: Operation) -> None:
        state = memory_of(bench)
        state.put_desktop(replace(state.desktops[desktop.id], state=D.DELETED))
        bench.engine.known.clear()
        make(verb, operation)

    bench.engine._make = slowly  # type: ignore[method-assign]
    await bench.attempt(works)
    assert bench.engine.known == {}
    assert ("discard", desktop.id) in bench.engine.done


# -------------------------------------------------------------------- suspended, resumed


async def test_a_late_report_of_its_boot_does_not_wake_a_desktop_that_is_being_resumed(
    bench: Bench,
) -> None:
    desktop, works = await bench.desktop(D.UNPARKING), bench.broker()
    job = await bench.ask(desktop, JobVerb.RESUME)
    await works.machine_reported(ready(desktop.id, 1, "job_of_its_boot"))
    assert (await bench.read(desktop)).state is D.UNPARKING
    await works.machine_reported(ready(desktop.id, 1, job.id))
    assert (await bench.read(desktop)).state is D.ASSIGNED


async def test_a_report_of_an_earlier_resume_does_not_count_for_this_one(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.RESUMING), bench.broker()
    earlier = await bench.ask(desktop, JobVerb.RESUME)
    await bench.ask(desktop, JobVerb.RESUME)
    await works.machine_reported(ready(desktop.id, 1, earlier.id))
    assert (await bench.read(desktop)).state is D.RESUMING


async def test_an_engine_that_cannot_tell_what_a_report_answers_is_believed(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.RESUMING), bench.broker()
    await bench.ask(desktop, JobVerb.RESUME)
    await works.machine_reported(ready(desktop.id, 1))
    assert (await bench.read(desktop)).state is D.READY


@pytest.mark.parametrize("state", [D.RESUMING, D.UNPARKING])
async def test_a_stop_that_answers_nothing_fails_no_desktop_that_is_being_resumed(
    bench: Bench, state: DesktopState
) -> None:
    """It is of before, or the resume itself brings it about."""
    desktop, works = await bench.desktop(state), bench.broker()
    job = await bench.ask(desktop, JobVerb.RESUME)
    stopped = replace(ready(desktop.id, 1), ready=False, detail="the machine stopped")
    await works.machine_reported(stopped)
    assert (await bench.read(desktop)).state is state
    await works.machine_reported(replace(stopped, operation_id=job.id))
    assert (await bench.read(desktop)).state is D.FAILED


async def test_a_job_that_a_newer_one_replaced_is_not_done(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.SUSPENDING), bench.broker()
    old = await bench.ask(desktop, JobVerb.SUSPEND)
    new = await bench.ask(desktop, JobVerb.SUSPEND)
    await bench.attempt(works)
    assert bench.engine.done == [("suspend", desktop.name)]
    assert (await bench.job(old)).error.startswith("not wanted")
    assert (await bench.job(new)).error == ""


async def test_a_desktop_that_cannot_be_resumed_fails_its_session_and_says_why(
    bench: Bench,
) -> None:
    desktop, works = await bench.desktop(D.UNPARKING), bench.broker()
    job = await bench.ask(desktop, JobVerb.RESUME)
    bench.engine.failing.add("resume")
    await bench.give_up(works)
    session = await bench.session(desktop)
    assert session.state is SessionState.FAILED
    assert "resume failed as the test asked" in session.why
    assert (await bench.read(desktop)).state is D.FAILED
    assert (await bench.job(job)).state is JobState.FAILED


async def test_a_failed_attempt_is_made_again_after_a_pause_and_not_before(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.SUSPENDING), bench.broker()
    job = await bench.ask(desktop, JobVerb.SUSPEND)
    bench.engine.failing.add("suspend")
    await bench.attempt(works)
    bench.engine.failing.clear()
    bench.clock.advance(limits.JOB_PAUSE_S * 0.4)
    assert await bench.attempt(works) == []
    bench.clock.advance(limits.JOB_PAUSE_S * 1.2)
    await bench.attempt(works)
    assert (await bench.read(desktop)).state is D.SUSPENDED
    assert (await bench.job(job)).attempts == 2


async def test_what_the_engine_cannot_do_at_all_is_given_up_at_once(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.SUSPENDING), bench.broker()
    job = await bench.ask(desktop, JobVerb.SUSPEND)
    bench.engine.can = frozenset({Feature.RESIZE})
    await bench.attempt(works)
    assert (await bench.job(job)).state is JobState.FAILED
    assert (await bench.read(desktop)).state is D.FAILED


# ------------------------------------------------------------------ not wanted any more


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        (JobVerb.CREATE, D.DELETING),
        (JobVerb.RESET, D.READY),
        (JobVerb.SUSPEND, D.RESUMING),
        (JobVerb.RESUME, D.SUSPENDED),
        (JobVerb.DESTROY, D.READY),
        (JobVerb.RESIZE, D.SUSPENDED),
    ],
)
async def test_a_job_that_its_desktop_has_left_behind_is_not_done(
    bench: Bench, verb: JobVerb, state: DesktopState
) -> None:
    desktop, works = await bench.desktop(state), bench.broker()
    job = await bench.ask(desktop, verb)
    await bench.attempt(works)
    assert bench.engine.done == []
    assert (await bench.job(job)).error.startswith("not wanted")
    assert (await bench.read(desktop)).state is state


async def test_a_job_of_an_older_generation_is_not_done(bench: Bench) -> None:
    desktop = await bench.desktop(D.RESETTING)
    job = replace(await bench.ask(desktop, JobVerb.RESET), id="job_old", generation=1)
    await bench.store.desktops.add([], [job])
    await bench.attempt(bench.broker())
    assert (await bench.job(job)).error.startswith("not wanted")
    assert len(bench.engine.done) == 1


async def test_what_a_later_generation_fences_off_is_not_tried_again(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.SUSPENDING), bench.broker()
    job = await bench.ask(desktop, JobVerb.SUSPEND)
    bench.engine.known[desktop.id] = 5
    await bench.attempt(works)
    done = await bench.job(job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    assert done.error.startswith("not wanted")


# ---------------------------------------------------------------------------- removals


async def test_a_removal_that_fails_is_given_up_by_no_one(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.DELETING), bench.broker()
    job = await bench.ask(desktop, JobVerb.DESTROY)
    bench.engine.failing.add("destroy")
    await bench.give_up(works)
    assert (await bench.job(job)).state is JobState.FAILED
    assert (await bench.read(desktop)).state is D.DELETING


async def test_a_removal_whose_answer_was_lost_is_asked_again_and_succeeds(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.DELETING), bench.broker()
    await bench.ask(desktop, JobVerb.DESTROY)
    bench.engine.forgetful.add("destroy")
    await bench.attempt(works)
    assert (await bench.read(desktop)).state is D.DELETING
    bench.engine.forgetful.clear()
    await bench.finish(works)
    assert (await bench.read(desktop)).state is D.DELETED


async def test_two_removals_of_one_desktop_do_no_harm(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.DELETING), bench.broker()
    jobs = [await bench.ask(desktop, JobVerb.DESTROY) for _ in range(2)]
    await bench.attempt(works)
    assert (await bench.read(desktop)).state is D.DELETED
    assert {(await bench.job(job)).state for job in jobs} == {JobState.SUCCEEDED}


# ------------------------------------------------------------- a failure stays where it is


async def test_an_engine_that_raises_anything_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = await Bench.make()
    works = bench.broker()
    one, other = await bench.desktop(D.SUSPENDING, 1), await bench.desktop(D.DELETING, 2)
    job = await bench.ask(one, JobVerb.SUSPEND)
    await bench.ask(other, JobVerb.DESTROY)

    async def breaks(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.engine, "suspend", breaks)
    await bench.attempt(works)
    assert (await bench.read(other)).state is D.DELETED
    failed = await bench.job(job)
    assert failed.state is JobState.QUEUED
    assert "division" not in failed.error
    assert [type(bug) for bug in bench.bugs] == [ZeroDivisionError]


async def test_a_host_whose_engine_is_not_installed_fails_its_own_work_only(bench: Bench) -> None:
    await bench.store.directory.save_host(replace(make_host(), engine="hyper"), new=False)
    desktop, works = await bench.desktop(D.PLANNED), bench.broker()
    job = await bench.ask(desktop, JobVerb.CREATE)
    await works.adopt()
    await bench.attempt(works)
    assert "no engine is called 'hyper'" in (await bench.job(job)).error


@pytest.mark.parametrize("verb", [JobVerb.CREATE, JobVerb.SUSPEND, JobVerb.DESTROY])
@pytest.mark.parametrize("lacks", ["engine", "profile"])
async def test_processes_that_cannot_do_a_job_use_up_none_of_its_attempts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, verb: JobVerb, lacks: str
) -> None:
    """As while brokers are upgraded: one of the newer ones can, however often others were given
    it before."""
    states = {JobVerb.CREATE: D.PLANNED, JobVerb.SUSPEND: D.SUSPENDING}
    desktop, works = await bench.desktop(states.get(verb, D.DELETING)), bench.broker()
    before = await bench.read(desktop)
    job = await bench.ask(desktop, verb)

    async def unread(_: Operation) -> None:
        raise NotHereError("no knob is called 'later_knob'")

    with monkeypatch.context() as patch:
        if lacks == "profile":
            patch.setattr(bench.engine, verb.value, unread)
        else:
            await engine_named(bench, "hyper")
        for _ in range(3 * limits.JOB_ATTEMPTS_MAX):
            await bench.attempt(works)
            assert await bench.attempt(works) == [], "a pause comes before the next"
            bench.clock.advance(limits.JOB_HANDED_BACK_S * 2)
        waits = await bench.job(job)
        assert (waits.state, waits.attempts) == (JobState.QUEUED, 0)
        assert waits.error
        now = await bench.read(desktop)
        assert now.state in {before.state, D.CREATING}
        assert bench.outcomes == []
    await engine_named(bench, make_host().engine)
    bench.clock.advance(2.0)
    await bench.attempt(works)
    assert (await bench.job(job)).state is JobState.SUCCEEDED


async def engine_named(bench: Bench, name: str) -> None:
    """The desktops' host is of that engine from now on."""
    directory = bench.store.directory
    [host] = [one for one in await directory.hosts() if one.id == make_host().id]
    await directory.save_host(replace(host, engine=name), new=False)


async def test_a_job_that_nobody_finished_is_asked_again_when_its_deadline_has_passed(
    bench: Bench,
) -> None:
    desktop, works = await bench.desktop(D.DELETING), bench.broker()
    job = await bench.ask(desktop, JobVerb.DESTROY)
    now = bench.clock.now()
    await bench.store.jobs.take(now, now + limits.JOB_S * 1000, 10)
    await bench.finish(works)
    assert (await bench.read(desktop)).state is D.DELETED
    assert (await bench.job(job)).attempts == 2


async def test_a_job_that_was_settled_at_its_last_moment_is_not_asked_again(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.DELETING), bench.broker()
    await bench.ask(desktop, JobVerb.DESTROY)
    [job] = await bench.attempt(works)
    with pytest.raises(IllegalTransitionError):
        await works.expire(job)


async def test_after_a_restart_the_engine_is_told_of_every_machine_there_should_be(
    bench: Bench,
) -> None:
    # those of a session first: a claim takes the first desktop that is ready
    states = [D.ASSIGNED, D.PARKED, D.RESETTING, D.UNPARKING, D.READY, D.SUSPENDED, D.SUSPENDING]
    for number, state in enumerate(states, 1):
        await bench.desktop(state, number)
    bench.engine.known.clear()
    await bench.broker().adopt()
    assert len(bench.engine.known) == len(states)


async def test_a_cancelled_removal_is_not_the_end_of_it(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.DELETING), bench.broker()
    job = await bench.ask(desktop, JobVerb.DESTROY)
    await bench.store.jobs.advance(job.id, JobEvent.CANCELLED, bench.clock.now())
    assert await bench.attempt(works) == []
    assert (await bench.read(desktop)).state is D.DELETING
    # what the reconciler does once its deadline has passed
    again = await bench.ask(desktop, JobVerb.DESTROY)
    await bench.advance(desktop, DesktopEvent.DELETE_ASKED_AGAIN)
    await bench.attempt(works)
    assert (await bench.job(again)).state is JobState.SUCCEEDED
    assert (await bench.read(desktop)).state is D.DELETED


async def test_a_host_that_hangs_does_not_keep_the_others_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = bench.broker()
    stuck = [await bench.desktop(D.DELETING, number) for number in range(1, 101)]
    free = await bench.desktop(D.DELETING, 101)
    for desktop in stuck:
        await bench.ask(desktop, JobVerb.DESTROY)
    await bench.ask(replace(free, host_id=OTHER.id), JobVerb.DESTROY)
    destroy = bench.engine.destroy
    hanging: list[str] = []

    async def hangs(operation: Operation) -> None:
        if operation.host.id == OTHER.id:
            await destroy(operation)
            return
        hanging.append(operation.id)
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.engine, "destroy", hangs)
    running = asyncio.create_task(works.run())
    try:
        async with asyncio.timeout(30):
            while (await bench.read(free)).state is not D.DELETED:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert len(hanging) == limits.JOBS_PER_HOST_MAX


async def test_snapshots_leave_their_host_room_for_other_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than the host may have jobs, each as slow as memory is big."""
    works = bench.broker()
    asked = limits.JOBS_PER_HOST_MAX + 4
    for number in range(1, asked + 1):
        desktop = await bench.desktop(D.READY, number)
        snapshot = make_snapshot(number, desktop_id=desktop.id, generation=desktop.generation)
        job = replace(
            new_job(bench.kit, desktop, JobVerb.SNAPSHOT), arguments={"snapshot_id": snapshot.id}
        )
        await bench.store.snapshots.add(snapshot, job, make_entry(number), most=5)
    other = await bench.desktop(D.DELETING, asked + 1)
    await bench.ask(other, JobVerb.DESTROY)
    begun: list[str] = []

    async def slow(operation: Operation, snapshot_id: str) -> int | None:
        begun.append(operation.id + snapshot_id)
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(bench.engine, "snapshot", slow)
    running = asyncio.create_task(works.run())
    try:
        async with asyncio.timeout(30):
            while (await bench.read(other)).state is not D.DELETED:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert len(begun) == limits.SNAPSHOTS_PER_HOST_MAX
