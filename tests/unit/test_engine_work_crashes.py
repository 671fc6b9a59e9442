"""A broker dies at any port call of any verb; another one does the job again: the same end.

The calls are counted, not named, so a new one is covered as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from broker.domain.lifecycle import JOB
from broker.domain.model import DesktopState, JobVerb
from tests.support.engine_bench import Bench, DiedError, Fate, memory_of

D = DesktopState
CALLS_MAX = 40
"""more than any verb makes"""

BEGINNINGS = [
    (D.PLANNED, JobVerb.CREATE, D.READY),
    (D.RESETTING, JobVerb.RESET, D.READY),
    (D.DELETING, JobVerb.DESTROY, D.DELETED),
    (D.SUSPENDING, JobVerb.SUSPEND, D.SUSPENDED),
    (D.PARKING, JobVerb.SUSPEND, D.PARKED),
    (D.RESUMING, JobVerb.RESUME, D.READY),
    (D.UNPARKING, JobVerb.RESUME, D.ASSIGNED),
    (D.READY, JobVerb.MIGRATE, D.READY),
    (D.READY, JobVerb.RESIZE, D.READY),
]


@dataclass(frozen=True)
class End:
    """Everything that must not depend on who died when."""

    desktops: Any
    hosts: Any
    sessions: Any
    machines: Any
    snapshots: Any
    done: Any
    open_jobs: Any


async def end_of(bench: Bench) -> End:
    state = memory_of(bench)
    return End(
        desktops=[replace(one, changed_at=0, deadline_at=None) for one in state.desktops.values()],
        hosts=[replace(one, changed_at=0) for one in state.hosts.values()],
        sessions=[(one.id[:4], one.state, one.desktop_id) for one in state.sessions.values()],
        machines=await bench.engine.machines(),
        snapshots=[replace(one, changed_at=0) for one in state.snapshots.values()],
        done=sorted(bench.engine.done),
        open_jobs=[job for job in await bench.jobs() if job.state not in JOB.terminal],
    )


async def die_everywhere(
    begin: Callable[[Bench], Awaitable[object]], *, deaf: bool = True
) -> tuple[End, int]:
    """The end without a death, and at how many points a broker died and came to the same.
    `deaf`: what machines said until then died with it; otherwise it is heard late."""
    calm = await Bench.make()
    await begin(calm)
    await calm.finish(calm.broker())
    expected = await end_of(calm)
    assert expected.open_jobs == []
    deaths, fate = 0, Fate(call=0, before=True)
    for call in range(1, CALLS_MAX):
        for before in (True, False):
            bench = await Bench.make()
            await begin(bench)
            fate = Fate(call=call, before=before)
            try:
                await bench.attempt(bench.broker(fate))
            except DiedError:
                deaths += 1
            job_over = not [job for job in await bench.jobs() if job.state not in JOB.terminal]
            if deaf and not job_over:
                bench.heard()
            await bench.finish(bench.broker())
            assert await end_of(bench) == expected, f"died at call {call}, before it: {before}"
    assert fate.calls < CALLS_MAX - 1, "not every call was reached"
    return expected, deaths


@pytest.mark.parametrize("deaf", [True, False])
@pytest.mark.parametrize(("state", "verb", "end"), BEGINNINGS)
async def test_a_job_whose_broker_died_anywhere_comes_to_the_same_end(
    state: DesktopState, verb: JobVerb, end: DesktopState, deaf: bool
) -> None:
    async def begin(bench: Bench) -> None:
        await bench.ask(await bench.desktop(state), verb)

    expected, deaths = await die_everywhere(begin, deaf=deaf)
    assert [one.state for one in expected.desktops] == [end]
    assert deaths > 10


@pytest.mark.parametrize("on", [True, False])
async def test_a_host_whose_broker_died_anywhere_goes_on_or_off_once(on: bool) -> None:
    async def begin(bench: Bench) -> None:
        await bench.ask_power(on=on)

    expected, deaths = await die_everywhere(begin)
    assert [one.state for one in expected.hosts] == ["up", "up" if on else "off"]
    assert expected.done == [("power_on" if on else "power_off", "server-2")]
    assert deaths > 4
