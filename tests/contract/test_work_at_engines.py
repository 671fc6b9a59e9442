"""Engine work over each store: every verb comes to its end, and what was asked is written down."""

from __future__ import annotations

from broker.domain.model import DesktopState, HostState, JobState, JobVerb
from broker.ports import Store
from tests.support.engine_bench import OTHER, SMALLER, Bench

D = DesktopState
# those of a session first: a claim takes the first desktop that is ready
WORKS = [
    (D.PARKING, JobVerb.SUSPEND, D.PARKED),
    (D.UNPARKING, JobVerb.RESUME, D.ASSIGNED),
    (D.RESETTING, JobVerb.RESET, D.READY),
    (D.PLANNED, JobVerb.CREATE, D.READY),
    (D.SUSPENDING, JobVerb.SUSPEND, D.SUSPENDED),
    (D.RESUMING, JobVerb.RESUME, D.READY),
    (D.DELETING, JobVerb.DESTROY, D.DELETED),
]


async def test_every_verb_comes_to_its_end(store: Store) -> None:
    bench = await Bench.make(store)
    works, ends = bench.broker(), {}
    for number, (state, verb, end) in enumerate(WORKS, 1):
        desktop = await bench.desktop(state, number)
        await bench.ask(desktop, verb)
        ends[desktop.id] = end
    moving, growing = await bench.desktop(D.READY, 20), await bench.desktop(D.READY, 21)
    await bench.ask(moving, JobVerb.MIGRATE)
    await bench.ask(growing, JobVerb.RESIZE)
    await bench.finish(works)
    found = {one: await store.desktops.desktop(one) for one in ends}
    assert {one: row.state for one, row in found.items() if row is not None} == ends
    assert (await bench.read(moving)).host_id == OTHER.id
    assert (await bench.read(growing)).resources == SMALLER
    assert {(job.state, job.error) for job in await bench.jobs()} == {(JobState.SUCCEEDED, "")}
    assert bench.bugs == []


async def test_a_host_goes_off(store: Store) -> None:
    bench = await Bench.make(store)
    await bench.ask_power(on=False)
    await bench.finish(bench.broker())
    assert (await bench.host(OTHER.id)).state is HostState.OFF


async def test_an_attempt_that_is_made_again_leaves_what_was_asked_as_it_was(store: Store) -> None:
    bench = await Bench.make(store)
    desktop = await bench.desktop(D.READY)
    bench.engine.failing.add("migrate")
    job = await bench.ask(desktop, JobVerb.MIGRATE)
    works = bench.broker()
    await bench.attempt(works)
    bench.engine.failing.clear()
    await bench.finish(works)
    done = await bench.job(job)
    assert (done.attempts, dict(done.arguments)) == (2, {"to_host_id": OTHER.id})
    assert (await bench.read(desktop)).host_id == OTHER.id
