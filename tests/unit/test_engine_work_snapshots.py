"""Snapshots as jobs: made, dropped, gone back to, whatever dies or fails on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker import limits
from broker.domain.lifecycle import DesktopEvent, SnapshotEvent
from broker.domain.model import Desktop, DesktopState, Job, JobState, JobVerb
from broker.domain.snapshots import Snapshot, SnapshotState
from broker.services.jobs import new_job
from tests.support.builders import make_snapshot
from tests.support.engine_bench import Bench
from tests.support.trail import make_entry
from tests.unit.test_engine_work_crashes import die_everywhere

D = DesktopState
N = SnapshotState


def job_for(bench: Bench, desktop: Desktop, verb: JobVerb, snapshot: Snapshot) -> Job:
    return replace(new_job(bench.kit, desktop, verb), arguments={"snapshot_id": snapshot.id})


async def ask_to_take(bench: Bench, state: DesktopState = D.READY) -> tuple[Desktop, Snapshot]:
    desktop = await bench.desktop(state)
    snapshot = make_snapshot(desktop_id=desktop.id, generation=desktop.generation)
    job = job_for(bench, desktop, JobVerb.SNAPSHOT, snapshot)
    await bench.store.snapshots.add(snapshot, job, make_entry(1), most=5)
    return desktop, snapshot


async def taken(bench: Bench) -> tuple[Desktop, Snapshot]:
    desktop, snapshot = await ask_to_take(bench)
    await bench.finish(bench.broker())
    return desktop, await found(bench, snapshot)


async def ask_to_revert(bench: Bench) -> tuple[Desktop, Snapshot]:
    desktop, snapshot = await taken(bench)
    now = bench.clock.now()
    moved = await bench.store.snapshots.begin_revert(
        snapshot.id,
        desktop.generation,
        now,
        deadline_at=now + limits.RESET_S * 1000,
        note="back",
        job=job_for(bench, desktop, JobVerb.REVERT, snapshot),
        entry=make_entry(2),
    )
    return moved, snapshot


async def ask_to_drop(bench: Bench) -> tuple[Desktop, Snapshot]:
    desktop, snapshot = await taken(bench)
    job = job_for(bench, desktop, JobVerb.DROP_SNAPSHOT, snapshot)
    await bench.store.snapshots.advance(
        snapshot.id, SnapshotEvent.DROP_ASKED, bench.clock.now(), job=job
    )
    return desktop, snapshot


async def found(bench: Bench, snapshot: Snapshot) -> Snapshot:
    now = await bench.store.snapshots.snapshot(snapshot.id)
    assert now is not None
    return now


@pytest.mark.parametrize("state", [D.READY, D.ASSIGNED, D.SUSPENDED, D.PARKED])
async def test_a_snapshot_is_taken_and_its_desktop_stays_where_it_is(state: DesktopState) -> None:
    bench = await Bench.make()
    desktop, snapshot = await ask_to_take(bench, state)
    await bench.finish(bench.broker())
    now = await found(bench, snapshot)
    assert (now.state, now.size_bytes) == (N.READY, 1024)
    assert (await bench.read(desktop)).state is state
    assert bench.engine.done[-1] == ("snapshot", desktop.name)


@pytest.mark.parametrize(
    ("begin", "done", "snapshots"),
    [
        (ask_to_take, ["snapshot"], 1),
        (ask_to_revert, ["revert", "snapshot"], 1),
        (ask_to_drop, ["drop_snapshot", "snapshot"], 0),
    ],
)
async def test_a_job_whose_broker_died_anywhere_comes_to_the_same_end(
    begin: object, done: list[str], snapshots: int
) -> None:
    async def ask(bench: Bench) -> None:
        await begin(bench)  # type: ignore[operator]  # each takes a bench

    expected, deaths = await die_everywhere(ask)
    assert [one.state for one in expected.desktops] == [D.READY]
    assert [verb for verb, _ in expected.done] == done
    assert [one.state for one in expected.snapshots] == [N.READY] * snapshots
    assert deaths > 8


async def test_a_reverted_desktop_is_ready_only_by_a_report_of_its_new_generation() -> None:
    bench = await Bench.make()
    desktop, _ = await ask_to_revert(bench)
    assert (await bench.read(desktop)).state is D.RESETTING
    await bench.finish(bench.broker())
    now = await bench.read(desktop)
    assert (now.state, now.generation) == (D.READY, 2)
    assert bench.engine.known[desktop.id] == 2


async def test_a_snapshot_that_could_not_be_made_says_why_and_fails_nothing_else() -> None:
    bench = await Bench.make()
    desktop, snapshot = await ask_to_take(bench)
    bench.engine.failing.add("snapshot")
    await bench.finish(bench.broker())
    now = await found(bench, snapshot)
    assert (now.state, now.why) == (N.FAILED, "snapshot failed as the test asked")
    assert (await bench.read(desktop)).state is D.READY


async def test_a_snapshot_that_could_not_be_dropped_can_be_dropped_again() -> None:
    bench = await Bench.make()
    desktop, snapshot = await ask_to_drop(bench)
    bench.engine.failing.add("drop_snapshot")
    await bench.finish(bench.broker())
    assert (await found(bench, snapshot)).state is N.FAILED
    bench.engine.failing.clear()
    job = job_for(bench, desktop, JobVerb.DROP_SNAPSHOT, snapshot)
    await bench.store.snapshots.advance(snapshot.id, SnapshotEvent.DROP_ASKED, 0, job=job)
    await bench.finish(bench.broker())
    assert await bench.store.snapshots.snapshot(snapshot.id) is None
    assert bench.engine.snapshots[desktop.id] == []


async def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    bench = await Bench.make()
    _, snapshot = await ask_to_take(bench)
    bench.engine.forgetful.add("snapshot")
    await bench.attempt(bench.broker())
    assert (await found(bench, snapshot)).state is N.MAKING
    bench.engine.forgetful.clear()
    await bench.finish(bench.broker())
    assert (await found(bench, snapshot)).state is N.READY


async def test_a_desktop_that_could_not_be_reverted_fails_and_says_why() -> None:
    bench = await Bench.make()
    desktop, snapshot = await ask_to_revert(bench)
    bench.engine.failing.add("revert")
    await bench.finish(bench.broker())
    now = await bench.read(desktop)
    assert now.state is D.FAILED
    assert now.note == "it could not be reverted: revert failed as the test asked"
    assert (await found(bench, snapshot)).state is N.READY
    # as the planner does for whom it holds work: it goes on as it was, under its new generation
    bench.engine.failing.clear()
    await bench.advance(now, DesktopEvent.RESUME_ASKED)
    await bench.ask(now, JobVerb.RESUME)
    await bench.finish(bench.broker())
    now = await bench.read(desktop)
    assert (now.state, now.generation, bench.engine.known[desktop.id]) == (D.READY, 2, 2)


async def test_a_snapshot_waits_for_a_desktop_that_is_on_its_way() -> None:
    bench = await Bench.make()
    desktop, snapshot = await ask_to_take(bench)
    await bench.advance(desktop, DesktopEvent.SUSPEND_ASKED)
    await bench.attempt(bench.broker())
    assert (await found(bench, snapshot)).state is N.MAKING
    assert ("snapshot", desktop.name) not in bench.engine.done
    await bench.advance(desktop, DesktopEvent.SUSPENDED)
    await bench.finish(bench.broker())
    assert (await found(bench, snapshot)).state is N.READY


async def test_a_snapshot_of_a_desktop_that_was_made_fresh_meanwhile_is_not_wanted() -> None:
    bench = await Bench.make()
    desktop, snapshot = await ask_to_take(bench)
    await bench.advance(desktop, DesktopEvent.RESET_ASKED, fresh=True)
    await bench.attempt(bench.broker())
    jobs = [one for one in await bench.jobs() if one.verb is JobVerb.SNAPSHOT]
    assert [one.state for one in jobs] == [JobState.SUCCEEDED]
    assert "not wanted" in jobs[0].error
    assert await bench.store.snapshots.snapshot(snapshot.id) is None
    assert ("snapshot", desktop.name) not in bench.engine.done


async def test_a_snapshot_of_a_machine_that_is_further_on_has_failed() -> None:
    bench = await Bench.make()
    desktop, snapshot = await ask_to_take(bench)
    bench.engine.known[desktop.id] = 5
    await bench.attempt(bench.broker())
    assert (await found(bench, snapshot)).state is N.FAILED
    assert [one.state for one in await bench.jobs()] == [JobState.SUCCEEDED]
