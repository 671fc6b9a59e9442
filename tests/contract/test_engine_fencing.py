"""Generations fence every engine: an older decision is refused, whatever it asks."""

from __future__ import annotations

import pytest

from broker.domain.errors import StaleGenerationError
from broker.domain.features import Feature
from broker.domain.model import Resources
from broker.ports import Engine, Machine, Operation
from tests.support.builders import make_desktop
from tests.support.engines import EngineCase, listening, said
from tests.support.eventually import eventually

NEEDS = {
    "suspend": Feature.SUSPEND,
    "resume": Feature.SUSPEND,
    "migrate": Feature.MIGRATE,
    "resize": Feature.RESIZE,
}


async def ask(engine: Engine, verb: str, operation: Operation, case: EngineCase) -> None:
    match verb:
        case "migrate":
            await engine.migrate(operation, case.other)
        case "resize":
            await engine.resize(operation, Resources(cpus=1, memory_mib=2048))
        case _:
            await getattr(engine, verb)(operation)


@pytest.mark.parametrize(
    "verb",
    [
        "create",
        "reset",
        "destroy",
        *(pytest.param(verb, marks=pytest.mark.needs(need)) for verb, need in NEEDS.items()),
    ],
)
async def test_an_operation_of_an_older_generation_is_refused_and_changes_nothing(
    case: EngineCase, verb: str
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop(generation=3)))
        await eventually(lambda: heard)
        before = await engine.machines()
        for attempt in range(2):
            late = case.operation(f"job_2{attempt}", make_desktop(generation=2))
            with pytest.raises(StaleGenerationError):
                await ask(engine, verb, late, case)
        assert await engine.machines() == before
        assert said(heard) == [("dsk_1", 3, True)]


async def test_an_operation_that_was_done_is_refused_once_a_later_generation_is_there(
    case: EngineCase,
) -> None:
    create = case.operation("job_1", make_desktop())
    async with listening(engine := case.start()) as heard:
        await engine.create(create)
        await eventually(lambda: heard)
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        with pytest.raises(StaleGenerationError):
            await engine.create(create)
        assert [machine.generation for machine in await engine.machines()] == [2]


@pytest.mark.parametrize("verb", ["create", "reset"])
async def test_another_operation_of_the_same_generation_leaves_the_machine_as_it_is(
    case: EngineCase, verb: str
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        if case.displays:
            await engine.console(make_desktop(), "ses_1")
        before = await engine.machines()
        await ask(engine, verb, case.operation("job_2", make_desktop()), case)
        assert await engine.machines() == before


@pytest.mark.parametrize("verb", ["create", "reset"])
@pytest.mark.needs(Feature.SUSPEND)
async def test_a_suspended_machine_is_not_woken_by_what_made_it(
    case: EngineCase, verb: str
) -> None:
    async with listening(engine := case.start()) as heard:
        await ask(engine, verb, made := case.operation("job_1", make_desktop()), case)
        await eventually(lambda: heard)
        await engine.suspend(case.operation("job_2", make_desktop()))
        for again in (made, case.operation("job_3", make_desktop())):
            await ask(engine, verb, again, case)
            assert [machine.suspended for machine in await engine.machines()] == [True]


async def test_a_machine_that_nobody_should_have_is_discarded(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        await engine.create(case.operation("job_1", make_desktop()))
        [machine] = await engine.machines()
        await engine.discard(machine)
        assert await engine.machines() == ()
        await engine.discard(machine)
        assert await engine.machines() == ()


async def test_a_discard_of_an_older_generation_is_refused(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        await engine.create(case.operation("job_1", make_desktop(generation=2)))
        seen = Machine(desktop_id="dsk_1", generation=1, running=True, host_id="hst_1")
        with pytest.raises(StaleGenerationError):
            await engine.discard(seen)
        assert [machine.generation for machine in await engine.machines()] == [2]


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_suspended_machine_can_be_discarded(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        await engine.create(case.operation("job_1", make_desktop()))
        await engine.suspend(case.operation("job_2", make_desktop()))
        [machine] = await engine.machines()
        await engine.discard(machine)
        assert await engine.machines() == ()
