"""Engine work on moves, sizes, hosts and losses: what becomes of the desktop and its session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import EngineError, IllegalTransitionError
from broker.domain.lifecycle import DesktopEvent, HostEvent, SessionEvent
from broker.domain.model import (
    DesktopState,
    HostState,
    JobState,
    JobVerb,
    LogOff,
    SessionState,
)
from broker.ports import Machine
from broker.services.engine_work.carrying import WHEREABOUTS_TRIES_MAX
from tests.support.builders import make_host
from tests.support.engine_bench import OTHER, SMALLER, Bench, ready
from tests.support.prompt_engine import ByItsBook
from tests.support.stores import VDI

D = DesktopState


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = await Bench.make()
    yield made
    assert made.bugs == []


# ------------------------------------------------------------------------ moved, resized


async def test_a_migrated_desktop_is_at_its_new_host_and_its_session_goes_on(
    bench: Bench,
) -> None:
    desktop, works = await bench.desktop(D.ASSIGNED), bench.broker()
    await bench.ask(desktop, JobVerb.MIGRATE)
    await bench.attempt(works)
    moved = await bench.read(desktop)
    assert (moved.host_id, moved.moving_to, moved.state) == (OTHER.id, None, D.ASSIGNED)
    assert (await bench.session(desktop)).state is SessionState.DELIVERING


async def test_a_migration_that_fails_leaves_the_desktop_and_its_session_where_they_are(
    bench: Bench,
) -> None:
    desktop, works = await bench.desktop(D.ASSIGNED), bench.broker()
    job = await bench.ask(desktop, JobVerb.MIGRATE)
    bench.engine.failing.add("migrate")
    await bench.give_up(works)
    stayed = await bench.read(desktop)
    assert (stayed.host_id, stayed.moving_to, stayed.state) == ("hst_1", None, D.ASSIGNED)
    assert (await bench.session(desktop)).state is SessionState.DELIVERING
    assert (await bench.job(job)).state is JobState.FAILED


async def test_a_migration_whose_answers_were_all_lost_is_written_down_as_it_went(
    bench: Bench,
) -> None:
    desktop, works = await bench.desktop(D.READY), bench.broker()
    await bench.ask(desktop, JobVerb.MIGRATE)
    bench.engine.forgetful.add("migrate")
    await bench.give_up(works)
    assert (await bench.read(desktop)).host_id == OTHER.id


async def test_a_process_that_never_heard_of_the_other_host_does_not_write_down_that_it_stayed(
    bench: Bench,
) -> None:
    """Its engine lists the machines of the hosts that it was told of, and no others."""
    desktop = await bench.desktop(D.READY)
    job = await bench.ask(desktop, JobVerb.MIGRATE)
    there = bench.engine = ByItsBook()
    await there.adopt(desktop, make_host())
    there.forgetful.add("migrate")
    await bench.give_up(bench.broker())
    assert (await bench.job(job)).state is JobState.FAILED
    moved = await bench.read(desktop)
    assert (moved.host_id, moved.moving_to) == (OTHER.id, None)


async def test_where_a_machine_is_is_not_guessed_while_the_engine_does_not_say(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop, works = await bench.desktop(D.READY), bench.broker()
    job = await bench.ask(desktop, JobVerb.MIGRATE)
    bench.engine.forgetful.add("migrate")

    async def away() -> tuple[Machine, ...]:
        raise EngineError("the engine is away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.engine, "machines", away)
        await bench.give_up(works)
    assert (await bench.read(desktop)).moving_to == OTHER.id
    assert (await bench.job(job)).state is JobState.QUEUED
    bench.clock.advance(60)
    await bench.attempt(works)
    assert (await bench.read(desktop)).host_id == OTHER.id


async def test_an_engine_that_never_says_where_its_machines_are_is_not_asked_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop, works = await bench.desktop(D.READY), bench.broker()
    job = await bench.ask(desktop, JobVerb.MIGRATE)
    bench.engine.failing.add("migrate")

    async def away() -> tuple[Machine, ...]:
        raise EngineError("the engine lists nothing")

    monkeypatch.setattr(bench.engine, "machines", away)
    for _ in range(WHEREABOUTS_TRIES_MAX // limits.JOB_ATTEMPTS_MAX):
        await bench.give_up(works)
    stayed = await bench.read(desktop)
    assert (stayed.host_id, stayed.moving_to) == ("hst_1", None)
    assert (await bench.job(job)).state is JobState.FAILED


async def test_a_desktop_that_is_not_in_use_any_more_does_not_migrate_but_stays(
    bench: Bench,
) -> None:
    desktop, works = await bench.desktop(D.READY), bench.broker()
    await bench.ask(desktop, JobVerb.MIGRATE)
    await bench.advance(desktop, DesktopEvent.DELETE_ASKED)
    await bench.attempt(works)
    stayed = await bench.read(desktop)
    assert (stayed.host_id, stayed.moving_to) == ("hst_1", None)
    assert bench.engine.done == []


async def test_a_resized_desktop_takes_what_it_was_given(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.ASSIGNED), bench.broker()
    await bench.ask(desktop, JobVerb.RESIZE)
    await bench.attempt(works)
    assert (await bench.read(desktop)).resources == SMALLER


async def test_a_resize_that_fails_leaves_the_desktop_as_it_is(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.ASSIGNED), bench.broker()
    job = await bench.ask(desktop, JobVerb.RESIZE)
    bench.engine.failing.add("resize")
    await bench.give_up(works)
    assert await bench.read(desktop) == desktop
    assert (await bench.job(job)).state is JobState.FAILED


# ------------------------------------------------------------------------------- hosts


async def test_a_host_that_does_not_want_to_go_off_any_more_is_left_alone(bench: Bench) -> None:
    job, works = await bench.ask_power(on=False), bench.broker()
    await bench.store.directory.move_host(OTHER.id, HostEvent.DEADLINE_PASSED, bench.clock.now())
    await bench.attempt(works)
    assert bench.engine.done == []
    assert (await bench.job(job)).error.startswith("not wanted")


async def test_a_host_that_does_not_go_off_is_asked_again_and_then_serves_on(
    bench: Bench,
) -> None:
    job, works = await bench.ask_power(on=False), bench.broker()
    bench.engine.failing.add("power_off")
    await bench.give_up(works)
    assert (await bench.job(job)).state is JobState.FAILED
    host = await bench.host(OTHER.id)
    assert host.state is HostState.UP
    assert "power_off" in host.note


# -------------------------------------------------------------------------------- lost


@pytest.mark.parametrize("log_off", list(LogOff))
@pytest.mark.parametrize("state", [D.ASSIGNED, D.PARKED])
async def test_a_machine_lost_under_its_session_fails_both_whatever_the_pool_does_at_log_off(
    bench: Bench, log_off: LogOff, state: DesktopState
) -> None:
    await bench.store.directory.save_pool(replace(VDI, log_off=log_off), new=False)
    desktop, works = await bench.desktop(state), bench.broker()
    report = replace(ready(desktop.id, 1), ready=False, detail="its disk broke")
    await works.machine_reported(report)
    session = await bench.session(desktop)
    assert session.state is SessionState.FAILED
    assert "its disk broke" in session.why
    assert (await bench.read(desktop)).state is D.FAILED


async def test_a_desktop_lost_while_its_session_ends_fails_the_session(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.ASSIGNED), bench.broker()
    session = await bench.session(desktop)
    await bench.store.sessions.advance(
        session.id, SessionEvent.LOG_OFF, bench.clock.now(), why="asked"
    )
    await works.lost(await bench.read(desktop), "its host failed")
    assert (await bench.session(desktop)).state is SessionState.FAILED
    assert (await bench.read(desktop)).state is D.FAILED


async def test_what_is_being_deleted_cannot_be_lost(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.DELETING), bench.broker()
    with pytest.raises(IllegalTransitionError):
        await works.lost(desktop, "gone")
    assert (await bench.read(desktop)).state is D.DELETING


async def test_a_loss_of_an_older_generation_is_not_believed(bench: Bench) -> None:
    desktop, works = await bench.desktop(D.RESETTING), bench.broker()
    await works.machine_reported(replace(ready(desktop.id, 1), ready=False))
    assert (await bench.read(desktop)).state is D.RESETTING
