"""What every engine owes the broker: machines made, made fresh, removed, taken up, shown.

A new engine adds its kind to tests/support/engine_kinds.py and is held to this file and its two
neighbours, test_engine_features.py and test_engine_fencing.py.
"""

from __future__ import annotations

import asyncio

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import DesktopState
from broker.limits import FRAME_BYTES_MAX
from broker.ports import Machine
from tests.support.builders import make_desktop
from tests.support.engine_kinds import DISPLAYS, TIME
from tests.support.engines import EngineCase, listening, said
from tests.support.eventually import eventually


async def test_a_created_machine_reports_ready_for_its_generation_and_names_the_operation(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop(generation=3)))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 3, True)]
        assert heard[0].operation_id in {"job_1", ""}


async def test_machines_are_listed_with_the_tags_they_were_made_with(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        assert await engine.machines() == ()
        for number in (2, 1):
            desktop = make_desktop(id=f"dsk_{number}", generation=number)
            await engine.create(case.operation(f"job_{number}", desktop))
        assert await engine.machines() == (
            Machine(desktop_id="dsk_1", generation=1, running=True, host_id="hst_1"),
            Machine(desktop_id="dsk_2", generation=2, running=True, host_id="hst_1"),
        )


async def test_one_operation_asked_for_twice_at_once_is_done_once(case: EngineCase) -> None:
    operation = case.operation("job_1", make_desktop())
    async with listening(engine := case.start()) as heard:
        await asyncio.gather(engine.create(operation), engine.create(operation))
        await eventually(lambda: heard)
        assert len(await engine.machines()) == 1
        assert set(said(heard)) == {("dsk_1", 1, True)}


async def test_an_operation_repeated_later_reports_again_and_does_nothing_else(
    case: EngineCase,
) -> None:
    create = case.operation("job_1", make_desktop())
    reset = case.operation("job_2", make_desktop(generation=2))
    async with listening(engine := case.start()) as heard:
        await engine.create(create)
        await eventually(lambda: len(heard) == 1)
        await engine.create(create)
        await eventually(lambda: len(heard) == 2)
        await engine.reset(reset)
        await eventually(lambda: len(heard) == 3)
        if case.displays:
            await engine.console(make_desktop(generation=2), "ses_1")
        await engine.reset(reset)
        await eventually(lambda: len(heard) == 4)
        assert said(heard) == [("dsk_1", 1, True)] * 2 + [("dsk_1", 2, True)] * 2
        [machine] = await engine.machines()
        assert machine.users == (("ses_1",) if case.displays else ())


async def test_a_create_repeated_after_the_destroy_brings_nothing_back(case: EngineCase) -> None:
    create = case.operation("job_1", make_desktop())
    async with listening(engine := case.start()):
        await engine.create(create)
        await engine.destroy(case.operation("job_2", make_desktop()))
        await engine.create(create)
        assert await engine.machines() == ()


async def test_destroying_what_does_not_exist_succeeds(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        await engine.destroy(case.operation("job_1", make_desktop()))
        assert await engine.machines() == ()


@pytest.mark.needs(TIME)
async def test_a_machine_destroyed_while_it_boots_is_gone_and_never_reports(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await engine.destroy(case.operation("job_2", make_desktop()))
        await engine.create(case.operation("job_3", make_desktop(id="dsk_2")))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_2", 1, True)]
        assert [machine.desktop_id for machine in await engine.machines()] == ["dsk_2"]


async def test_a_reset_machine_reports_under_its_new_generation(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        await eventually(lambda: len(heard) > 1)
        assert said(heard) == [("dsk_1", 1, True), ("dsk_1", 2, True)]
        [machine] = await engine.machines()
        assert (machine.generation, machine.running) == (2, True)


async def test_a_reset_makes_a_machine_that_is_missing(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.reset(case.operation("job_1", make_desktop(generation=7)))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 7, True)]


@pytest.mark.needs(DISPLAYS)
async def test_a_reset_closes_the_display_of_the_session_before(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        console = await engine.console(make_desktop())
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        async with asyncio.timeout(30):
            while await console.receive():
                pass
        with pytest.raises(EngineError):
            await engine.console(make_desktop(generation=1))


@pytest.mark.needs(DISPLAYS)
async def test_whose_data_lie_on_a_machine_is_told_until_it_is_made_fresh(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        assert [machine.users for machine in await engine.machines()] == [()]
        for session_id in ("ses_1", "ses_2", "ses_1"):
            await (await engine.console(make_desktop(), session_id)).close()
        assert [machine.users for machine in await engine.machines()] == [("ses_1", "ses_2")]
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        assert [machine.users for machine in await engine.machines()] == [()]


@pytest.mark.needs(DISPLAYS)
async def test_a_machine_made_anew_under_its_next_generation_has_nobodys_data(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        await engine.console(make_desktop(), "ses_1")
        await engine.create(case.operation("job_2", make_desktop(generation=2)))
        assert [machine.users for machine in await engine.machines()] == [()]


@pytest.mark.needs(TIME)
async def test_an_operation_past_its_deadline_fails_and_can_be_asked_for_again(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        with pytest.raises(EngineError):
            await engine.create(case.operation("job_1", make_desktop(), deadline_s=0.000_001))
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]


@pytest.mark.parametrize("state", [DesktopState.READY, DesktopState.ASSIGNED])
async def test_an_engine_taken_up_after_a_restart_knows_its_ready_machines(
    case: EngineCase, state: DesktopState
) -> None:
    async with listening(before := case.start()) as heard:
        await before.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
    async with listening(engine := case.start()):
        await engine.adopt(make_desktop(state=state), case.host)
        assert await engine.machines() == (
            Machine(desktop_id="dsk_1", generation=1, running=True, host_id="hst_1"),
        )
        if case.displays:
            console = await engine.console(make_desktop())
            assert await console.receive()
            await console.close()


@pytest.mark.parametrize("verb", ["create", "reset"])
async def test_an_operation_repeated_after_a_restart_finds_its_machine_and_reports(
    case: EngineCase, verb: str
) -> None:
    operation = case.operation("job_1", make_desktop())
    async with listening(before := case.start()) as heard:
        await getattr(before, verb)(operation)
        await eventually(lambda: heard)
    async with listening(engine := case.start()) as heard:
        await engine.adopt(make_desktop(state=DesktopState.READY), case.host)
        machines = await engine.machines()
        await getattr(engine, verb)(operation)
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]
        assert await engine.machines() == machines


async def test_a_removal_repeated_after_a_restart_succeeds(case: EngineCase) -> None:
    destroy = case.operation("job_2", make_desktop())
    async with listening(before := case.start()):
        await before.create(case.operation("job_1", make_desktop()))
        await before.destroy(destroy)
    async with listening(engine := case.start()):
        await engine.destroy(destroy)
        assert await engine.machines() == ()


@pytest.mark.parametrize("state", [DesktopState.STARTING, DesktopState.RESETTING])
async def test_a_machine_that_was_coming_up_at_the_restart_reports_later(
    case: EngineCase, state: DesktopState
) -> None:
    async with listening(before := case.start()):
        await before.create(case.operation("job_1", make_desktop(generation=4)))
    async with listening(engine := case.start()) as heard:
        await engine.adopt(make_desktop(state=state, generation=4), case.host)
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 4, True)]


@pytest.mark.needs(DISPLAYS)
async def test_a_display_shows_frames_of_bounded_size_and_takes_any_input(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        console = await engine.console(make_desktop())
        width, height = console.size
        assert min(width, height) >= (0 if console.protocol == "vnc" else 1)
        assert 0 < len(await console.receive()) <= FRAME_BYTES_MAX
        for garbage in (b"\0", b"\xff" * 4096, bytes(range(256))):
            await console.send(garbage)
        await console.close()
        await console.close()
        assert await console.receive() == b""


async def test_a_machine_that_does_not_run_has_no_display(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        with pytest.raises(EngineError):
            await engine.console(make_desktop())


async def test_closing_the_engine_ends_its_reports_and_displays(case: EngineCase) -> None:
    engine = case.start()
    consoles = []
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        if case.displays:
            consoles.append(await engine.console(make_desktop()))
    for console in consoles:
        async with asyncio.timeout(30):
            while await console.receive():
                pass
    assert [report async for report in engine.reports()] == []
