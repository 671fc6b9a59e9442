"""What every engine owes the broker. A new engine adds a line to ENGINES."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from broker.domain.errors import EngineError
from broker.domain.model import DesktopState
from broker.limits import FRAME_BYTES_MAX
from broker.ports import Machine, MachineReport
from tests.support.builders import make_desktop
from tests.support.engines import EngineCase, listening, simulated_case
from tests.support.eventually import eventually

ENGINES: list[Callable[[], EngineCase]] = [simulated_case]


@pytest.fixture(params=ENGINES, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> EngineCase:
    made: EngineCase = request.param()
    return made


def ready(desktop_id: str, generation: int) -> MachineReport:
    return MachineReport(desktop_id=desktop_id, generation=generation, ready=True)


async def test_a_created_machine_reports_ready_for_its_generation(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop(generation=3)))
        await eventually(lambda: heard)
        assert heard == [ready("dsk_1", 3)]


async def test_machines_are_listed_with_the_tags_they_were_made_with(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        assert await engine.machines() == ()
        for number in (2, 1):
            desktop = make_desktop(id=f"dsk_{number}", generation=number)
            await engine.create(case.operation(f"job_{number}", desktop))
        assert await engine.machines() == (
            Machine(desktop_id="dsk_1", generation=1, running=True),
            Machine(desktop_id="dsk_2", generation=2, running=True),
        )


async def test_one_operation_asked_for_twice_is_done_once(case: EngineCase) -> None:
    operation = case.operation("job_1", make_desktop())
    async with listening(engine := case.start()) as heard:
        await asyncio.gather(engine.create(operation), engine.create(operation))
        await eventually(lambda: heard)
        await engine.create(operation)
        # another machine's report says that time enough has passed for a second one
        await engine.create(case.operation("job_2", make_desktop(id="dsk_2")))
        await eventually(lambda: ready("dsk_2", 1) in heard)
        assert heard.count(ready("dsk_1", 1)) == 1
        assert len(await engine.machines()) == 2


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


async def test_a_machine_destroyed_while_it_boots_is_gone_and_never_reports(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await engine.destroy(case.operation("job_2", make_desktop()))
        await engine.create(case.operation("job_3", make_desktop(id="dsk_2")))
        await eventually(lambda: heard)
        assert heard == [ready("dsk_2", 1)]
        assert [machine.desktop_id for machine in await engine.machines()] == ["dsk_2"]


async def test_a_reset_machine_reports_under_its_new_generation(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        await engine.reset(case.operation("job_2", make_desktop(generation=2)))
        await eventually(lambda: len(heard) > 1)
        assert heard == [ready("dsk_1", 1), ready("dsk_1", 2)]
        assert await engine.machines() == (Machine(desktop_id="dsk_1", generation=2, running=True),)


async def test_a_reset_makes_a_machine_that_is_missing(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.reset(case.operation("job_1", make_desktop(generation=7)))
        await eventually(lambda: heard)
        assert heard == [ready("dsk_1", 7)]


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


async def test_an_operation_past_its_deadline_fails_and_can_be_asked_for_again(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        with pytest.raises(EngineError):
            await engine.create(case.operation("job_1", make_desktop(), deadline_s=0.000_001))
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        assert heard == [ready("dsk_1", 1)]


async def test_an_engine_taken_up_after_a_restart_knows_its_ready_machines(
    case: EngineCase,
) -> None:
    async with listening(before := case.start()) as heard:
        await before.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
    async with listening(engine := case.start()):
        for state in (DesktopState.READY, DesktopState.ASSIGNED):
            await engine.adopt(make_desktop(state=state), case.host)
        assert await engine.machines() == (Machine(desktop_id="dsk_1", generation=1, running=True),)
        console = await engine.console(make_desktop())
        assert await console.receive()
        await console.close()


@pytest.mark.parametrize("state", [DesktopState.STARTING, DesktopState.RESETTING])
async def test_a_machine_that_was_coming_up_at_the_restart_reports_later(
    case: EngineCase, state: DesktopState
) -> None:
    async with listening(before := case.start()):
        await before.create(case.operation("job_1", make_desktop(generation=4)))
    async with listening(engine := case.start()) as heard:
        await engine.adopt(make_desktop(state=state, generation=4), case.host)
        await eventually(lambda: heard)
        assert heard == [ready("dsk_1", 4)]


async def test_a_display_shows_frames_of_bounded_size_and_takes_any_input(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        console = await engine.console(make_desktop())
        width, height = console.size
        assert width > 0
        assert height > 0
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
    async with listening(engine) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        console = await engine.console(make_desktop())
    async with asyncio.timeout(30):
        while await console.receive():
            pass
        assert [report async for report in engine.reports()] == []
