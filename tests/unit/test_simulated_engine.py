"""The simulated engine under a clock that the test moves: knobs, speed, seed, drills."""

from __future__ import annotations

from typing import cast

import pytest

from broker.domain.errors import EngineError, StaleGenerationError
from broker.domain.model import DesktopState, Host
from broker.domain.silence import Silence
from broker.engines.simulated.display import SimulatedConsole
from broker.engines.simulated.frames import KEY, InputEvent, input_message
from broker.engines.simulated.knobs import Knobs, split_profile
from broker.limits import CONSOLES_PER_MACHINE_MAX
from broker.ports import Engine, MachineReport, Operation
from tests.support.builders import make_desktop, make_host
from tests.support.clock import ManualClock
from tests.support.engines import IMAGE, during, listening, said, simulated_engine


def operation(number: int, host: Host | None = None, *, generation: int = 1) -> Operation:
    return Operation(
        id=f"job_{number}_{generation}",
        desktop=make_desktop(id=f"dsk_{number}", generation=generation),
        host=host or make_host(),
        image=IMAGE,
        deadline_s=600,
    )


async def make(
    engine: Engine, clock: ManualClock, count: int, host: Host | None = None
) -> list[BaseException | None]:
    return await during(clock, *(engine.create(operation(number, host)) for number in range(count)))


async def test_a_boot_takes_its_profiles_time_and_not_less() -> None:
    engine = simulated_engine(clock=(clock := ManualClock()), speed=1)
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await clock.advance(23.0)
        assert heard == []
        await clock.advance(14.0)
        assert heard == [
            MachineReport(desktop_id="dsk_0", generation=1, ready=True, operation_id="job_0_1")
        ]


async def test_speed_divides_every_time() -> None:
    engine = simulated_engine(clock=(clock := ManualClock()), speed=100)
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await clock.advance(0.37)
        assert len(heard) == 1


async def storm_s(profile: str, count: int) -> float:
    """Seconds from the first create to the last report."""
    engine = simulated_engine(clock=(clock := ManualClock()), speed=1)
    async with listening(engine) as heard:
        start = clock.monotonic()
        await make(engine, clock, count, make_host(profile=profile))
        while len(heard) < count:
            await clock.advance(0.5)
        return clock.monotonic() - start


async def test_a_boot_storm_is_slower_than_one_boot_and_containers_stand_it_best() -> None:
    alone, storm = await storm_s("hosted", 1), await storm_s("hosted", 40)
    assert storm > 2 * alone
    assert await storm_s("container", 40) < await storm_s("bare-metal", 40) < storm


async def trace(seed: int) -> list[tuple[float, MachineReport]]:
    """Every report of a troubled run with its time."""
    knobs = Knobs(create_fail=0.2, boot_fail=0.2, never_ready=0.1, crash_per_hour=30, stall_s=2)
    engine = simulated_engine(clock=(clock := ManualClock()), speed=1, seed=seed, knobs=knobs)
    found: list[tuple[float, MachineReport]] = []
    async with listening(engine) as heard:
        await make(engine, clock, 20)
        for _ in range(600):
            await clock.advance(0.5)
            found += [(round(clock.monotonic(), 3), report) for report in heard]
            heard.clear()
    return found


async def test_the_same_seed_gives_the_same_run_and_another_gives_another() -> None:
    first = await trace(7)
    assert len(first) > 10
    assert await trace(7) == first
    assert await trace(8) != first


async def test_create_fail_makes_nothing_and_a_second_try_may_succeed() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, knobs=Knobs(create_fail=1))
    async with listening(engine):
        (failed,) = await during(clock, engine.create(operation(1)))
        assert isinstance(failed, EngineError)
        assert await engine.machines() == ()
        calm = make_host(profile="bare-metal?create_fail=0")
        assert await during(clock, engine.create(operation(1, calm))) == [None]


async def test_lost_reply_does_the_work_and_repeating_it_does_nothing_twice() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, knobs=Knobs(lost_reply=1))
    async with listening(engine) as heard:
        (lost,) = await during(clock, engine.create(operation(1)))
        assert isinstance(lost, EngineError)
        await clock.advance(60)
        console = await engine.console(make_desktop(id="dsk_1"))
        assert await during(clock, engine.create(operation(1))) == [None]
        await clock.turns()
        assert said(heard) == [("dsk_1", 1, True)] * 2
        assert await console.receive() != b"", "it was not started again"


async def test_boot_fail_reports_not_ready_and_leaves_the_machine_off() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, knobs=Knobs(boot_fail=1))
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await clock.advance(60)
        assert [report.ready for report in heard] == [False]
        assert [machine.running for machine in await engine.machines()] == [False]


async def test_never_ready_runs_in_silence() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, knobs=Knobs(never_ready=1))
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await clock.advance(3600)
        assert heard == []
        assert [machine.running for machine in await engine.machines()] == [True]


async def test_stale_and_duplicate_reports_come_as_turned_on() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, knobs=Knobs(stale_report=1, duplicate_report=1))
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await clock.advance(60)
        assert [report.generation for report in heard] == [0, 1, 1]


async def test_crash_per_hour_kills_ready_machines_which_stay_listed() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, speed=1, knobs=Knobs(crash_per_hour=60))
    async with listening(engine) as heard:
        await make(engine, clock, 5)
        await clock.advance(3600)
        assert sorted(report.ready for report in heard) == [False] * 5 + [True] * 5
        assert [machine.running for machine in await engine.machines()] == [False] * 5


async def test_slow_factor_multiplies_the_boot() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock, speed=1, knobs=Knobs(slow_factor=10))
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await clock.advance(230)
        assert heard == []


async def test_a_hosts_profile_turns_its_own_knobs() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock)
    async with listening(engine) as heard:
        bad = make_host(id="hst_2", profile="container?boot_fail=1")
        await during(clock, engine.create(operation(1)), engine.create(operation(2, bad)))
        await clock.advance(60)
        assert {report.desktop_id: report.ready for report in heard} == {
            "dsk_1": True, "dsk_2": False,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("mainframe", "known: bare-metal, container, hosted, paravirtual"),
        ("container?explode=1", "known: create_fail"),
        ("container?boot_fail=2", "out of range"),
        ("container?boot_fail=often", "out of range"),
        ("container?slow_factor=nan", "out of range"),
        ("container?resize=0.5", "out of range"),
    ],
)
async def test_an_unknown_profile_or_knob_is_named_with_the_known_ones(
    profile: str, says: str
) -> None:
    engine = simulated_engine(clock=ManualClock())
    with pytest.raises(EngineError, match=says):
        await engine.create(operation(1, make_host(profile=profile)))


def test_a_profile_without_knobs_keeps_the_engines() -> None:
    base = Knobs(boot_fail=0.5)
    assert split_profile("hosted", base) == ("hosted", base)
    assert split_profile("hosted?slow_factor=3", base) == (
        "hosted", Knobs(boot_fail=0.5, slow_factor=3),
    )  # fmt: skip


async def test_a_host_that_fails_takes_its_machines_along_and_refuses_work_until_it_is_back() -> (
    None
):
    clock = ManualClock()
    engine = simulated_engine(clock=clock)
    other = make_host(id="hst_2")
    async with listening(engine) as heard:
        await during(clock, engine.create(operation(1)), engine.create(operation(2, other)))
        await clock.advance(60)
        heard.clear()
        assert engine.silence(make_host()) is None
        engine.host_down("hst_1", down=True)
        failed_at = clock.now()
        await clock.advance(5)
        engine.host_down("hst_1", down=True)
        assert engine.silence(make_host()) == Silence(since=failed_at, why="it failed")
        assert engine.silence(other) is None
        await clock.turns()
        assert [(report.desktop_id, report.ready) for report in heard] == [("dsk_1", False)]
        with pytest.raises(EngineError):
            await engine.create(operation(3))
        engine.host_down("hst_1", down=False)
        assert engine.silence(make_host()) is None
        assert await during(clock, engine.create(operation(3))) == [None]


async def test_a_lost_machine_closes_its_displays_and_is_reported_once() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock)
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await clock.advance(60)
        console = await engine.console(make_desktop(id="dsk_0"))
        engine.lose("dsk_0")
        engine.lose("dsk_0")
        await clock.turns()
        assert await console.receive() == b""
        assert [report.ready for report in heard] == [True, False]


async def test_the_oldest_display_goes_when_a_machine_has_too_many() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock)
    async with listening(engine):
        await engine.adopt(make_desktop(state=DesktopState.READY), make_host())
        consoles = [
            await engine.console(make_desktop()) for _ in range(CONSOLES_PER_MACHINE_MAX + 1)
        ]
        assert await consoles[0].receive() == b""
        assert await consoles[1].receive() != b""
        assert await consoles[-1].receive() != b""


async def test_what_is_typed_at_one_display_shows_at_the_machine_s_others() -> None:
    engine = simulated_engine(clock=ManualClock())
    async with listening(engine):
        await engine.adopt(make_desktop(state=DesktopState.READY), make_host())
        await engine.adopt(make_desktop(id="dsk_2", state=DesktopState.READY), make_host())
        one, beside = [await engine.console(make_desktop()) for _ in range(2)]
        other = await engine.console(make_desktop(id="dsk_2"))
        for each in (one, beside, other):
            await each.receive()
        await one.send(input_message(InputEvent(kind=KEY, x=0, y=0, code=ord("q"))))
        for each in (one, beside):
            assert b"> q_" in await each.receive()
        assert not cast("SimulatedConsole", other)._echoes
        # who comes later sees it; who comes after everybody left does not
        later = await engine.console(make_desktop())
        assert b"> q_" in await later.receive()
        for each in (one, beside, later):
            await each.close()
        assert b"> _" in await (await engine.console(make_desktop())).receive()


@pytest.mark.parametrize("state", [DesktopState.PLANNED, DesktopState.CREATING])
async def test_a_machine_still_being_made_at_the_restart_is_left_to_its_job(
    state: DesktopState,
) -> None:
    engine = simulated_engine(clock=ManualClock())
    await engine.adopt(make_desktop(state=state), make_host())
    assert await engine.machines() == ()


async def test_an_older_reset_does_not_undo_a_newer_one() -> None:
    clock = ManualClock()
    engine = simulated_engine(clock=clock)
    async with listening(engine) as heard:
        await during(clock, engine.create(operation(1)))
        await during(clock, engine.reset(operation(1, generation=3)))
        await clock.advance(60)
        heard.clear()
        (refused,) = await during(clock, engine.reset(operation(1, generation=2)))
        assert isinstance(refused, StaleGenerationError)
        await clock.advance(60)
        assert heard == []
        assert [machine.generation for machine in await engine.machines()] == [3]
