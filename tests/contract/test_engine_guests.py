"""What an engine that speaks with its machines' agents owes: it tells what the present generation's
agent said, and what it is asked to ask is done when it answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import GuestSilentError
from broker.limits import GUEST_ASK_S
from broker.ports import Engine, GuestAgents, GuestAsk, GuestState, GuestVerb
from tests.support.builders import make_desktop
from tests.support.engine_kinds import GUEST
from tests.support.engines import EngineCase, listening
from tests.support.eventually import eventually

pytestmark = pytest.mark.needs(GUEST)
MESSAGE = GuestAsk(id="ask_1", what=GuestVerb.MESSAGE, text="please-save", sender="ann")


def agents(engine: Engine) -> GuestAgents:
    assert isinstance(engine, GuestAgents)
    return engine


async def heard_as(engine: GuestAgents, desktop_id: str, generation: int) -> GuestState:
    def now() -> bool:
        state = engine.guest(desktop_id)
        return state is not None and state.generation == generation

    await eventually(now, within_s=100)
    state = engine.guest(desktop_id)
    assert state is not None
    return state


async def test_a_machine_that_is_ready_is_heard_as_its_present_generation(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as reports:
        assert agents(engine).has_guests(case.host)
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: reports, within_s=100)
        state = await heard_as(agents(engine), "dsk_1", 1)
        assert (state.desktop_id, state.heard_at_ms > 0) == ("dsk_1", True)
        assert state.idle_s is None or state.idle_s >= 0
        assert "dsk_1" in agents(engine).heard()


async def test_what_is_asked_is_done_once_it_returns_and_may_be_asked_again(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as reports:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: reports, within_s=100)
        await heard_as(agents(engine), "dsk_1", 1)
        for _ in range(2):
            await agents(engine).ask_guest(make_desktop(), MESSAGE, deadline_s=GUEST_ASK_S)
        policy = GuestAsk(id="ask_2", what=GuestVerb.POLICY, settings={"usb": "off"})
        await agents(engine).ask_guest(make_desktop(), policy, deadline_s=GUEST_ASK_S)


async def test_the_agent_of_another_generation_is_not_asked(case: EngineCase) -> None:
    async with listening(engine := case.start()) as reports:
        await engine.create(case.operation("job_1", make_desktop(generation=2)))
        await eventually(lambda: reports, within_s=100)
        await heard_as(agents(engine), "dsk_1", 2)
        for generation in (1, 3):
            with pytest.raises(GuestSilentError):
                await agents(engine).ask_guest(
                    make_desktop(generation=generation), MESSAGE, deadline_s=1
                )


async def test_a_machine_that_is_gone_or_never_was_is_not_heard(case: EngineCase) -> None:
    async with listening(engine := case.start()) as reports:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: reports, within_s=100)
        await heard_as(agents(engine), "dsk_1", 1)
        await engine.destroy(case.operation("job_2", make_desktop()))
        await eventually(lambda: agents(engine).guest("dsk_1") is None, within_s=100)
        assert "dsk_1" not in agents(engine).heard()
        for desktop in (make_desktop(), make_desktop(id="dsk_9")):
            with pytest.raises(GuestSilentError):
                await agents(engine).ask_guest(desktop, MESSAGE, deadline_s=1)


async def test_a_machine_that_is_made_fresh_is_heard_again_as_the_new_one(
    case: EngineCase,
) -> None:
    fresh = make_desktop(generation=2)
    async with listening(engine := case.start()) as reports:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: reports, within_s=100)
        await engine.reset(case.operation("job_2", fresh))
        await eventually(lambda: len(reports) > 1, within_s=100)
        assert (await heard_as(agents(engine), "dsk_1", 2)).user == ""
        again = replace(MESSAGE, id="ask_3")
        await agents(engine).ask_guest(fresh, again, deadline_s=GUEST_ASK_S)
