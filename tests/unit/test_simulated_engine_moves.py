"""The simulated engine's further features under a clock that the test moves: how long they take,
what they take of a host, what goes wrong when it is asked to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.model import DesktopState, Host, HostState, Resources
from broker.engines.simulated import SimulatedEngine
from broker.engines.simulated.knobs import Knobs
from broker.ports import Operation
from tests.support.builders import make_desktop, make_host
from tests.support.clock import ManualClock
from tests.support.engines import IMAGE, during, listening, said, simulated_engine

OTHER = make_host(id="hst_2", name="server-2")


def asked(number: int, job: str, host: Host | None = None, **desktop: Any) -> Operation:
    return Operation(
        id=job,
        desktop=make_desktop(id=f"dsk_{number}", **desktop),
        host=host or make_host(),
        image=IMAGE,
        deadline_s=600,
    )


def plain(clock: ManualClock, **knobs: float) -> SimulatedEngine:
    return simulated_engine(clock=clock, speed=1, knobs=Knobs(**knobs))


async def make(engine: SimulatedEngine, clock: ManualClock, count: int) -> None:
    await during(
        clock, *(engine.create(asked(number, f"make {number}")) for number in range(count))
    )


async def up(engine: SimulatedEngine, clock: ManualClock, count: int = 1) -> None:
    await make(engine, clock, count)
    await clock.advance(600)


async def took_s(clock: ManualClock, *works: Any) -> float:
    start = clock.monotonic()
    assert set(await during(clock, *works)) == {None}
    return clock.monotonic() - start


@pytest.mark.parametrize(
    ("profile", "features"),
    [
        ("bare-metal", set(Feature)),
        ("paravirtual", set(Feature)),
        ("hosted", {Feature.SUSPEND, Feature.HOST_POWER, Feature.SNAPSHOT}),
        ("container", {Feature.RESIZE, Feature.HOST_POWER}),
        ("bare-metal?migrate=0&host_power=0&snapshot=0", {Feature.SUSPEND, Feature.RESIZE}),
        ("container?suspend=1", {Feature.RESIZE, Feature.HOST_POWER}),
        ("mainframe", set()),
    ],
)
def test_what_a_host_can_do_is_its_profiles_less_what_it_turns_off(
    profile: str, features: set[Feature]
) -> None:
    assert simulated_engine().features(make_host(profile=profile)) == features


async def test_a_suspend_takes_longer_the_more_memory_there_is_to_save() -> None:
    async def seconds(memory_mib: int) -> float:
        engine = plain(clock := ManualClock())
        async with listening(engine):
            size = Resources(cpus=2, memory_mib=memory_mib)
            await during(clock, engine.create(asked(0, "a", resources=size)))
            await clock.advance(60)
            return await took_s(clock, engine.suspend(asked(0, "b")))

    small, large = await seconds(1024), await seconds(65536)
    assert 1.5 < small < 5
    assert large > 60


async def test_suspends_at_once_share_the_hosts_storage() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine):
        await up(engine, clock, 9)
        alone = await took_s(clock, engine.suspend(asked(8, "b8")))
        together = await took_s(clock, *(engine.suspend(asked(n, f"b{n}")) for n in range(8)))
        assert together > 4 * alone


async def test_a_resume_is_much_faster_than_a_boot() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine) as heard:
        await up(engine, clock)
        await during(clock, engine.suspend(asked(0, "b")))
        heard.clear()
        await during(clock, engine.resume(asked(0, "c")))
        await clock.advance(8)
        assert said(heard) == [("dsk_0", 1, True)]


async def test_a_machine_that_is_off_is_started_as_it_is() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine) as heard:
        await up(engine, clock)
        await engine.console(asked(0, "a").desktop, "ses_1")
        engine.lose("dsk_0")
        await clock.advance(1)
        heard.clear()
        assert await during(clock, engine.resume(asked(0, "b"))) == [None]
        await clock.advance(120)
        assert said(heard) == [("dsk_0", 1, True)]
        (machine,) = await engine.machines()
        assert (machine.running, machine.users) == (True, ("ses_1",))


async def test_a_machine_that_hangs_is_switched_off_and_started() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine) as heard:
        await up(engine, clock)
        heard.clear()
        again = replace(asked(0, "b"), restart=True)
        assert await during(clock, engine.resume(again)) == [None]
        assert said(heard) == []
        await clock.advance(120)
        assert said(heard) == [("dsk_0", 1, True)]


async def test_a_machine_suspended_while_it_boots_boots_on_when_it_is_resumed() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine) as heard:
        await make(engine, clock, 1)
        await during(clock, engine.suspend(asked(0, "b")))
        await clock.advance(600)
        await during(clock, engine.resume(asked(0, "c")))
        await clock.advance(10)
        assert heard == []
        await clock.advance(40)
        assert said(heard) == [("dsk_0", 1, True)]


async def test_the_memory_of_a_suspended_machine_is_its_hosts_again() -> None:
    engine = plain(clock := ManualClock())
    tight = make_host(id="hst_2", name="server-2", capacity=Resources(cpus=32, memory_mib=6000))
    async with listening(engine):
        await up(engine, clock, 1)
        await during(clock, engine.create(asked(7, "a", tight)))
        await clock.advance(60)
        (full,) = await during(clock, engine.migrate(asked(0, "b"), tight))
        assert isinstance(full, EngineError)
        assert "lacks 2192 MiB" in full.detail
        await during(clock, engine.suspend(asked(7, "c", tight)))
        assert await during(clock, engine.migrate(asked(0, "d"), tight)) == [None]


async def test_a_machine_that_is_off_keeps_nobody_from_its_memory() -> None:
    engine = plain(clock := ManualClock())
    tight = make_host(id="hst_2", name="server-2", capacity=Resources(cpus=32, memory_mib=6000))
    async with listening(engine):
        await up(engine, clock, 2)
        assert await during(clock, engine.migrate(asked(0, "b"), tight)) == [None]
        [full] = await during(clock, engine.migrate(asked(1, "c"), tight))
        assert isinstance(full, EngineError)
        engine.lose("dsk_0")
        assert await during(clock, engine.migrate(asked(1, "d"), tight)) == [None]


async def test_two_migrations_do_not_both_get_the_last_place() -> None:
    engine = plain(clock := ManualClock())
    tight = make_host(id="hst_2", name="server-2", capacity=Resources(cpus=32, memory_mib=6000))
    async with listening(engine):
        await up(engine, clock, 2)
        results = await during(clock, *(engine.migrate(asked(n, f"b{n}"), tight) for n in range(2)))
        assert sorted(result is None for result in results) == [False, True]
        places = sorted(machine.host_id for machine in await engine.machines())
        assert places == ["hst_1", "hst_2"]


@pytest.mark.parametrize("to_mib", [8192, 2048])
async def test_a_resize_is_held_against_the_hosts_memory(to_mib: int) -> None:
    engine = plain(clock := ManualClock())
    tight = make_host(capacity=Resources(cpus=32, memory_mib=9000))
    async with listening(engine):
        await during(clock, *(engine.create(asked(n, f"a{n}", tight)) for n in range(2)))
        await clock.advance(120)
        size = Resources(cpus=2, memory_mib=to_mib)
        (result,) = await during(clock, engine.resize(asked(0, "b", tight), size))
        assert isinstance(result, EngineError) == (to_mib == 8192)


async def test_a_machine_that_dies_on_its_way_does_not_arrive_and_leaves_no_trace_there() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine):
        await up(engine, clock)

        async def dies() -> None:
            await clock.sleep(1)
            engine.lose("dsk_0")

        moved, _ = await during(clock, engine.migrate(asked(0, "b"), OTHER), dies())
        assert isinstance(moved, EngineError)
        [machine] = await engine.machines()
        assert (machine.host_id, machine.running) == ("hst_1", False)
        assert await during(clock, engine.power("c", OTHER, on=False, deadline_s=600)) == [None]


async def test_hosts_of_two_kinds_do_not_exchange_machines() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine):
        await up(engine, clock)
        other_kind = replace(OTHER, profile="paravirtual")
        (refused,) = await during(clock, engine.migrate(asked(0, "b"), other_kind))
        assert isinstance(refused, UnsupportedError)
        knobs_differ = replace(OTHER, profile="bare-metal?boot_fail=1")
        assert await during(clock, engine.migrate(asked(0, "c"), knobs_differ)) == [None]


async def test_a_reset_brings_a_machine_home_that_is_at_another_host() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine):
        await up(engine, clock)
        await during(clock, engine.migrate(asked(0, "b"), OTHER))
        await during(clock, engine.reset(asked(0, "c", generation=2)))
        assert [machine.host_id for machine in await engine.machines()] == ["hst_1"]


async def test_a_host_takes_its_time_to_go_on_and_off() -> None:
    engine = plain(clock := ManualClock())
    host = make_host()
    off_s = await took_s(clock, engine.power("a", host, on=False, deadline_s=600))
    on_s = await took_s(clock, engine.power("b", host, on=True, deadline_s=600))
    assert 45 < off_s < 75
    assert 140 < on_s < 220


async def test_a_host_that_is_going_on_goes_on_without_its_caller() -> None:
    engine = plain(clock := ManualClock())
    off = make_host(state=HostState.OFF)
    with pytest.raises(EngineError):
        await engine.power("a", off, on=True, deadline_s=0.01)
    await clock.advance(100)
    (refused,) = await during(clock, engine.create(asked(0, "b", off)))
    assert isinstance(refused, EngineError)
    await clock.advance(150)
    assert await took_s(clock, engine.power("a", off, on=True, deadline_s=600)) < 1
    assert await during(clock, engine.create(asked(0, "c", off))) == [None]


async def test_a_host_does_not_go_off_while_a_machine_is_on_its_way_to_it() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine):
        await up(engine, clock)
        moved, off = await during(
            clock,
            engine.migrate(asked(0, "b"), OTHER),
            engine.power("c", OTHER, on=False, deadline_s=600),
        )
        assert moved is None
        assert isinstance(off, EngineError)


async def test_a_host_goes_off_under_its_suspended_machines_which_keep() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine) as heard:
        await up(engine, clock)
        await during(clock, engine.suspend(asked(0, "b")))
        heard.clear()
        await during(clock, engine.power("c", make_host(), on=False, deadline_s=600))
        (refused,) = await during(clock, engine.resume(asked(0, "d")))
        assert isinstance(refused, EngineError)
        await during(clock, engine.power("e", make_host(), on=True, deadline_s=600))
        await during(clock, engine.resume(asked(0, "f")))
        await clock.advance(60)
        assert said(heard) == [("dsk_0", 1, True)]


async def test_a_host_that_somebody_switched_on_by_hand_is_believed_an_old_record_is_not() -> None:
    engine = plain(clock := ManualClock())
    await during(clock, engine.power("a", make_host(), on=False, deadline_s=600))
    old = make_host(state=HostState.UP, changed_at=0)
    (refused,) = await during(clock, engine.create(asked(0, "b", old)))
    assert isinstance(refused, EngineError)
    opened = make_host(state=HostState.UP, changed_at=clock.now() + 1)
    assert await during(clock, engine.create(asked(0, "c", opened))) == [None]


@pytest.mark.parametrize(
    "knob", ["suspend_fail", "resume_fail", "migrate_fail", "resize_fail", "power_fail"]
)
async def test_each_verb_fails_when_it_is_told_to_and_did_nothing(knob: str) -> None:
    engine = plain(clock := ManualClock())
    bad = make_host(profile=f"bare-metal?{knob}=1")
    verb = knob.removesuffix("_fail")
    async with listening(engine):
        await up(engine, clock)
        if verb == "resume":
            await during(clock, engine.suspend(asked(0, "b")))
        before = await engine.machines()
        operation = asked(0, "c", bad)
        calls = {
            "suspend": lambda: engine.suspend(operation),
            "resume": lambda: engine.resume(operation),
            "migrate": lambda: engine.migrate(operation, OTHER),
            "resize": lambda: engine.resize(operation, Resources(cpus=1, memory_mib=512)),
            "power": lambda: engine.power("c", replace(bad, id="hst_9"), on=False, deadline_s=9),
        }
        (failed,) = await during(clock, calls[verb]())
        assert isinstance(failed, EngineError)
        assert await engine.machines() == before


async def test_a_failing_host_takes_what_runs_and_leaves_what_is_suspended() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine):
        await up(engine, clock, 2)
        await during(clock, engine.suspend(asked(0, "b")))
        engine.host_down("hst_1", down=True)
        found = {one.desktop_id: one for one in await engine.machines()}
        assert found["dsk_0"].suspended
        assert not found["dsk_1"].running


@pytest.mark.parametrize(
    ("state", "suspended", "running"),
    [
        (DesktopState.SUSPENDING, False, True),
        (DesktopState.PARKING, False, True),
        (DesktopState.RESUMING, False, True),
        (DesktopState.UNPARKING, False, True),
        (DesktopState.FAILED, False, False),
        (DesktopState.DELETING, False, False),
    ],
)
async def test_a_machine_is_taken_up_after_a_restart_as_its_record_says(
    state: DesktopState, suspended: bool, running: bool
) -> None:
    engine = plain(ManualClock())
    await engine.adopt(make_desktop(state=state), make_host())
    [machine] = await engine.machines()
    assert (machine.suspended, machine.running) == (suspended, running)


async def test_a_machine_that_was_being_resumed_at_the_restart_reports() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine) as heard:
        await engine.adopt(make_desktop(state=DesktopState.UNPARKING), make_host())
        await clock.advance(10)
        assert said(heard) == [("dsk_1", 1, True)]


# ---------------------------------------------------------------- several processes


async def test_a_process_that_knows_a_part_of_the_machines_does_not_list_it_as_all() -> None:
    engine = simulated_engine(clock=ManualClock(), partial=True)
    with pytest.raises(EngineError):
        await engine.machines()


async def test_what_another_process_did_to_a_machine_is_taken_from_its_record() -> None:
    clock = ManualClock()
    one, other = (simulated_engine(clock=clock, partial=True) for _ in range(2))
    host = make_host()
    async with listening(one), listening(other) as heard:
        await during(clock, one.create(asked(0, "a")))
        await clock.advance(60)
        parking = asked(0, "b", state=DesktopState.PARKING)
        assert await during(clock, other.suspend(parking)) == [None]
        unparking = asked(0, "c", state=DesktopState.UNPARKING)
        assert await during(clock, one.resume(unparking)) == [None]
        in_use = make_desktop(id="dsk_0", state=DesktopState.ASSIGNED)
        assert await (await other.console(in_use, "ses_1")).receive() != b""
        fresh = asked(0, "d", generation=2, state=DesktopState.RESETTING)
        await during(clock, one.reset(fresh))
        again = asked(0, "e", generation=2, state=DesktopState.SUSPENDING)
        assert await during(clock, other.suspend(again)) == [None]
        with pytest.raises(EngineError):
            await other.console(in_use)
        assert other.features(host) == one.features(host)
        assert all(report.generation == 1 or not report.ready for report in heard)


async def test_a_whole_engine_does_not_take_a_record_for_true_against_what_it_knows() -> None:
    engine = plain(clock := ManualClock())
    async with listening(engine):
        await up(engine, clock)
        engine.lose("dsk_0")
        await engine.adopt(make_desktop(id="dsk_0", state=DesktopState.ASSIGNED), make_host())
        with pytest.raises(EngineError):
            await engine.suspend(asked(0, "b", state=DesktopState.PARKING))
        with pytest.raises(EngineError):
            await engine.suspend(asked(1, "c", state=DesktopState.PARKING))
