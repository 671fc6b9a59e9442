"""What an engine owes that claims snapshots: made, reverted to, dropped, each once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.features import Feature
from broker.domain.model import Desktop
from tests.contract.test_engine_features import one_ready, the_machine
from tests.support.builders import make_desktop
from tests.support.engine_kinds import DISPLAYS
from tests.support.engines import EngineCase, listening, said
from tests.support.eventually import eventually

pytestmark = pytest.mark.needs(Feature.SNAPSHOT)


def at(generation: int) -> Desktop:
    return make_desktop(generation=generation)


async def test_a_machine_that_runs_goes_on_after_its_snapshot(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        took = await engine.snapshot(case.operation("job_2", at(1)), "snp_1")
        assert took is None or took >= 0
        machine = await the_machine(engine)
        assert (machine.running, machine.generation, heard) == (True, 1, [])


@pytest.mark.needs(DISPLAYS)
async def test_a_reverted_machine_has_what_was_on_it_then_and_nothing_since(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.console(at(1), "ses_1")
        await engine.snapshot(case.operation("job_2", at(1)), "snp_1")
        await engine.console(at(1), "ses_2")
        await engine.revert(case.operation("job_3", at(2)), "snp_1")
        await eventually(lambda: ("dsk_1", 2, True) in said(heard))
        machine = await the_machine(engine)
        assert (machine.running, machine.generation) == (True, 2)
        assert machine.users == ("ses_1",)


async def test_a_reverted_machine_reports_its_new_generation_and_names_the_revert(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.snapshot(case.operation("job_2", at(1)), "snp_1")
        revert = case.operation("job_3", at(2))
        await engine.revert(revert, "snp_1")
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 2, True)]
        assert heard[0].operation_id in {"job_3", ""}
        heard.clear()
        await engine.revert(revert, "snp_1")
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 2, True)]


async def test_snapshots_outlive_a_revert_and_go_with_the_disk(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        for number in (1, 2):
            await engine.snapshot(case.operation(f"job_s{number}", at(1)), f"snp_{number}")
        await engine.revert(case.operation("job_4", at(2)), "snp_1")
        await eventually(lambda: heard)
        await engine.revert(case.operation("job_5", at(3)), "snp_2")
        await eventually(lambda: ("dsk_1", 3, True) in said(heard))
        await engine.reset(case.operation("job_6", at(4)))
        await eventually(lambda: ("dsk_1", 4, True) in said(heard))
        with pytest.raises(EngineError):
            await engine.revert(case.operation("job_7", at(5)), "snp_1")
        assert (await the_machine(engine)).generation == 4


async def test_what_is_asked_for_again_is_done_once(case: EngineCase) -> None:
    snapshot, drop = case.operation("job_2", at(1)), case.operation("job_3", at(1))
    async with one_ready(case) as (engine, _):
        size = await engine.snapshot(snapshot, "snp_1")
        assert await engine.snapshot(snapshot, "snp_1") == size
        assert await engine.snapshot(case.operation("job_4", at(1)), "snp_1") == size
        await engine.drop_snapshot(drop, "snp_1")
        await engine.drop_snapshot(drop, "snp_1")
        await engine.drop_snapshot(case.operation("job_5", at(1)), "snp_never")
        with pytest.raises(EngineError):
            await engine.revert(case.operation("job_6", at(2)), "snp_1")
        machine = await the_machine(engine)
        assert (machine.running, machine.generation) == (True, 1)


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_suspended_machine_is_kept_as_it_is_and_sleeps_on(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.suspend(case.operation("job_2", at(1)))
        await engine.snapshot(case.operation("job_3", at(1)), "snp_1")
        machine = await the_machine(engine)
        assert (machine.suspended, machine.running) == (True, False)
        assert heard == []
        await engine.resume(case.operation("job_4", at(1)))
        await eventually(lambda: heard)
        heard.clear()
        await engine.suspend(case.operation("job_5", at(1)))
        await engine.revert(case.operation("job_6", at(2)), "snp_1")
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 2, True)]
        assert (await the_machine(engine)).running


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_snapshot_of_a_suspended_machine_is_dropped_while_it_sleeps(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.snapshot(case.operation("job_2", at(1)), "snp_1")
        await engine.suspend(case.operation("job_3", at(1)))
        await engine.drop_snapshot(case.operation("job_4", at(1)), "snp_1")
        assert (await the_machine(engine)).suspended
        await engine.resume(case.operation("job_5", at(1)))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]


@pytest.mark.needs(Feature.MIGRATE)
async def test_snapshots_move_with_their_machine(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.snapshot(case.operation("job_2", at(1)), "snp_1")
        await engine.migrate(case.operation("job_3", at(1)), case.other)
        there = replace(case.operation("job_4", at(2)), host=case.other)
        await engine.revert(there, "snp_1")
        await eventually(lambda: ("dsk_1", 2, True) in said(heard))
        machine = await the_machine(engine)
        assert (machine.host_id, machine.running) == (case.other.id, True)


async def test_a_later_generation_fences_off_what_is_asked_of_an_earlier_one(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.snapshot(case.operation("job_2", at(1)), "snp_1")
        await engine.revert(case.operation("job_3", at(2)), "snp_1")
        await eventually(lambda: heard)
        for verb in (engine.snapshot, engine.revert, engine.drop_snapshot):
            with pytest.raises(StaleGenerationError):
                await verb(case.operation(f"job_{verb.__name__}", at(1)), "snp_1")
        assert (await the_machine(engine)).generation == 2


async def test_a_revert_that_failed_leaves_a_machine_that_goes_on_under_the_new_generation(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        with pytest.raises(EngineError):
            await engine.revert(case.operation("job_2", at(2)), "snp_never")
        await engine.resume(case.operation("job_3", at(2)))
        await eventually(lambda: ("dsk_1", 2, True) in said(heard))
        assert (await the_machine(engine)).generation == 2


async def test_a_revert_that_comes_late_does_not_reach_a_machine_that_goes_on_as_it_is(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.snapshot(case.operation("job_2", at(1)), "snp_1")
        if case.displays:
            await engine.console(at(1), "ses_1")
        await engine.resume(case.operation("job_4", at(2)))
        await eventually(lambda: ("dsk_1", 2, True) in said(heard))
        before = await engine.machines()
        for _ in range(2):
            with pytest.raises(StaleGenerationError):
                await engine.revert(case.operation("job_3", at(2)), "snp_1")
        assert await engine.machines() == before
        assert (before[0].generation, before[0].running) == (2, True)


async def test_a_machine_that_is_not_there_has_no_snapshots(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        for verb in (engine.snapshot, engine.revert, engine.drop_snapshot):
            with pytest.raises(EngineError):
                await verb(case.operation(f"job_{verb.__name__}", at(1)), "snp_1")
