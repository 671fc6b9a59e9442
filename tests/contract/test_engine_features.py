"""What every engine owes for each feature that it claims, and for those that it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.lifecycle import HOST_RUNS
from broker.domain.model import DesktopState, HostState, Resources
from broker.domain.settings import Share
from broker.ports import Engine, Machine, MachineReport, Operation, PartialListError
from tests.support.builders import make_desktop
from tests.support.engine_kinds import TIME, EngineKind
from tests.support.engines import EngineCase, listening, said
from tests.support.eventually import eventually

SMALL = Resources(cpus=1, memory_mib=2048)
HUGE = Resources(cpus=2, memory_mib=10_000_000)


async def the_machine(engine: Engine) -> Machine:
    [machine] = await engine.machines()
    return machine


@asynccontextmanager
async def one_ready(case: EngineCase) -> AsyncIterator[tuple[Engine, list[MachineReport]]]:
    """An engine with one machine that has just reported ready, and the reports after it."""
    async with listening(engine := case.start()) as heard:
        await engine.create(case.operation("job_1", make_desktop()))
        await eventually(lambda: heard)
        heard.clear()
        yield engine, heard


# ---------------------------------------------------------------------- suspend, resume


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_suspended_machine_does_not_run_and_keeps_what_is_on_it(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        if case.displays:
            await engine.console(make_desktop(), "ses_1")
        await engine.suspend(case.operation("job_2", make_desktop()))
        machine = await the_machine(engine)
        assert (machine.suspended, machine.running, machine.generation) == (True, False, 1)
        with pytest.raises(EngineError):
            await engine.console(make_desktop())
        await engine.resume(case.operation("job_3", make_desktop()))
        await eventually(lambda: heard)
        machine = await the_machine(engine)
        assert (machine.suspended, machine.running, machine.generation) == (False, True, 1)
        assert machine.users == (("ses_1",) if case.displays else ())


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_resumed_machine_reports_ready_and_names_the_resume(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.suspend(case.operation("job_2", make_desktop()))
        await engine.resume(case.operation("job_3", make_desktop()))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]
        assert heard[0].operation_id in {"job_3", ""}


@pytest.mark.needs(Feature.SUSPEND)
async def test_suspend_and_resume_repeated_do_nothing_twice(case: EngineCase) -> None:
    suspend = case.operation("job_2", make_desktop())
    resume = case.operation("job_3", make_desktop())
    async with one_ready(case) as (engine, heard):
        await engine.suspend(suspend)
        await engine.suspend(suspend)
        assert (await the_machine(engine)).suspended
        await engine.suspend(case.operation("job_4", make_desktop()))
        assert (await the_machine(engine)).suspended
        await engine.resume(resume)
        await engine.suspend(suspend)
        assert not (await the_machine(engine)).suspended
        await eventually(lambda: heard)
        heard.clear()
        await engine.resume(resume)
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]


@pytest.mark.needs(Feature.SUSPEND)
async def test_resuming_a_machine_that_runs_reports_it_ready(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.resume(case.operation("job_2", make_desktop()))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_machine_that_does_not_exist_is_neither_suspended_nor_resumed(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()):
        for verb in (engine.suspend, engine.resume):
            with pytest.raises(EngineError):
                await verb(case.operation("job_1", make_desktop()))


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_suspended_machine_can_be_made_fresh_and_removed(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.suspend(case.operation("job_2", make_desktop()))
        await engine.reset(case.operation("job_3", make_desktop(generation=2)))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 2, True)]
        await engine.suspend(case.operation("job_4", make_desktop(generation=2)))
        await engine.destroy(case.operation("job_5", make_desktop(generation=2)))
        assert await engine.machines() == ()


@pytest.mark.parametrize("state", [DesktopState.SUSPENDED, DesktopState.PARKED])
@pytest.mark.needs(Feature.SUSPEND)
async def test_a_suspended_machine_is_taken_up_suspended_after_a_restart(
    case: EngineCase, state: DesktopState
) -> None:
    async with one_ready(case) as (before, _):
        await before.suspend(case.operation("job_2", make_desktop()))
    async with listening(engine := case.start()) as heard:
        await engine.adopt(make_desktop(state=state), case.host)
        assert (await the_machine(engine)).suspended
        await engine.resume(case.operation("job_3", make_desktop()))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]


# ------------------------------------------------------------------------------- migrate


@pytest.mark.needs(Feature.MIGRATE)
async def test_a_migrated_machine_runs_on_at_the_other_host(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        if case.displays:
            await engine.console(make_desktop(), "ses_1")
        await engine.migrate(case.operation("job_2", make_desktop()), case.other)
        machine = await the_machine(engine)
        assert (machine.host_id, machine.running, machine.generation) == ("hst_2", True, 1)
        assert machine.users == (("ses_1",) if case.displays else ())
        assert heard == []


@pytest.mark.needs(Feature.MIGRATE)
async def test_a_migration_repeated_or_to_where_it_is_succeeds(case: EngineCase) -> None:
    move = case.operation("job_2", make_desktop())
    async with one_ready(case) as (engine, _):
        await engine.migrate(move, case.other)
        await engine.migrate(move, case.other)
        await engine.migrate(case.operation("job_3", make_desktop()), case.other)
        assert (await the_machine(engine)).host_id == "hst_2"


@pytest.mark.needs(Feature.MIGRATE)
async def test_a_full_host_refuses_a_migration_and_the_machine_stays_and_runs(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        with pytest.raises(EngineError):
            await engine.migrate(case.operation("job_2", make_desktop()), case.full)
        machine = await the_machine(engine)
        assert (machine.host_id, machine.running) == ("hst_1", True)
        assert heard == []


@pytest.mark.needs(Feature.MIGRATE, Feature.SUSPEND)
async def test_a_machine_that_is_suspended_or_missing_is_not_migrated(case: EngineCase) -> None:
    async with one_ready(case) as (engine, _):
        missing = case.operation("job_2", make_desktop(id="dsk_2"))
        with pytest.raises(EngineError):
            await engine.migrate(missing, case.other)
        await engine.suspend(case.operation("job_3", make_desktop()))
        with pytest.raises(EngineError):
            await engine.migrate(case.operation("job_4", make_desktop()), case.other)
        assert (await the_machine(engine)).host_id == "hst_1"


@pytest.mark.needs(Feature.MIGRATE)
async def test_a_migrated_machine_is_found_by_whoever_asks_at_its_old_host(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, heard):
        await engine.migrate(case.operation("job_2", make_desktop()), case.other)
        await engine.reset(case.operation("job_3", make_desktop(generation=2)))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 2, True)]
        await engine.destroy(case.operation("job_4", make_desktop(generation=2)))
        assert await engine.machines() == ()


# -------------------------------------------------------------------------------- resize


@pytest.mark.needs(Feature.RESIZE)
async def test_a_running_machine_is_resized_and_runs_on(case: EngineCase) -> None:
    resize = case.operation("job_2", make_desktop())
    async with one_ready(case) as (engine, heard):
        await engine.resize(resize, SMALL)
        await engine.resize(resize, SMALL)
        machine = await the_machine(engine)
        assert (machine.running, machine.generation) == (True, 1)
        assert heard == []


@pytest.mark.needs(Feature.RESIZE)
async def test_more_memory_than_its_host_has_is_refused_and_the_machine_runs_on(
    case: EngineCase,
) -> None:
    async with one_ready(case) as (engine, _):
        with pytest.raises(EngineError):
            await engine.resize(case.operation("job_2", make_desktop()), HUGE)
        assert (await the_machine(engine)).running


@pytest.mark.needs(Feature.RESIZE)
async def test_a_machine_that_does_not_exist_is_not_resized(case: EngineCase) -> None:
    async with listening(engine := case.start()):
        with pytest.raises(EngineError):
            await engine.resize(case.operation("job_1", make_desktop()), SMALL)


# --------------------------------------------------------------------------------- power


@pytest.mark.needs(Feature.HOST_POWER)
async def test_an_empty_host_goes_off_takes_nothing_and_comes_on_again(case: EngineCase) -> None:
    async with listening(engine := case.start()) as heard:
        for _ in range(2):
            await engine.power("job_1", case.host, on=False, deadline_s=60)
        with pytest.raises(EngineError):
            await engine.create(case.operation("job_2", make_desktop()))
        for _ in range(2):
            await engine.power("job_3", case.host, on=True, deadline_s=60)
        await engine.create(case.operation("job_4", make_desktop()))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_1", 1, True)]


@pytest.mark.needs(Feature.HOST_POWER)
async def test_a_host_on_which_a_machine_runs_does_not_go_off(case: EngineCase) -> None:
    async with one_ready(case) as (engine, heard):
        with pytest.raises(EngineError):
            await engine.power("job_2", case.host, on=False, deadline_s=60)
        assert (await the_machine(engine)).running
        await engine.create(case.operation("job_3", make_desktop(id="dsk_2")))
        await eventually(lambda: heard)
        assert said(heard) == [("dsk_2", 1, True)]


@pytest.mark.needs(Feature.HOST_POWER)
async def test_a_host_that_is_on_already_goes_on_at_once(case: EngineCase) -> None:
    async with one_ready(case) as (engine, _):
        await engine.power("job_2", case.host, on=True, deadline_s=60)
        assert (await the_machine(engine)).running


@pytest.mark.needs(Feature.HOST_POWER, TIME)
async def test_a_host_whose_power_takes_longer_than_the_deadline_is_asked_again(
    case: EngineCase,
) -> None:
    async with listening(engine := case.start()) as heard:
        await engine.power("job_1", case.host, on=False, deadline_s=60)
        with pytest.raises(EngineError):
            await engine.power("job_2", case.host, on=True, deadline_s=0.000_001)
        await engine.power("job_2", case.host, on=True, deadline_s=60)
        await engine.create(case.operation("job_3", make_desktop()))
        await eventually(lambda: heard)


# ------------------------------------------------------------------ restart, deadline


@pytest.mark.needs(Feature.SUSPEND)
async def test_a_suspend_repeated_after_a_restart_leaves_it_suspended(case: EngineCase) -> None:
    suspend = case.operation("job_2", make_desktop())
    async with one_ready(case) as (before, _):
        await before.suspend(suspend)
    async with listening(engine := case.start()):
        await engine.adopt(make_desktop(state=DesktopState.SUSPENDED), case.host)
        await engine.suspend(suspend)
        assert (await the_machine(engine)).suspended


@pytest.mark.needs(Feature.MIGRATE)
async def test_a_migration_repeated_after_a_restart_leaves_it_where_it_arrived(
    case: EngineCase,
) -> None:
    move = case.operation("job_2", make_desktop())
    async with one_ready(case) as (before, _):
        await before.migrate(move, case.other)
    async with listening(engine := case.start()):
        await engine.adopt(make_desktop(host_id="hst_2"), case.other)
        await engine.migrate(move, case.other)
        assert (await the_machine(engine)).host_id == "hst_2"


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=pytest.mark.needs(verb))
        for verb in (Feature.SUSPEND, Feature.MIGRATE, Feature.RESIZE)
    ],
)
@pytest.mark.needs(TIME)
async def test_what_runs_out_of_time_leaves_the_machine_as_it_was_and_can_be_repeated(
    case: EngineCase, verb: Feature
) -> None:
    async with one_ready(case) as (engine, _):
        before = await the_machine(engine)
        verbs: dict[Feature, Callable[[Operation], Awaitable[None]]] = {
            Feature.SUSPEND: engine.suspend,
            Feature.MIGRATE: lambda operation: engine.migrate(operation, case.other),
            Feature.RESIZE: lambda operation: engine.resize(operation, SMALL),
        }
        with pytest.raises(EngineError):
            await verbs[verb](case.operation("job_2", make_desktop(), deadline_s=0.000_001))
        assert await the_machine(engine) == before
        await verbs[verb](case.operation("job_2", make_desktop()))


# ------------------------------------------------------------------------- not claimed


async def test_what_an_engine_does_not_claim_it_refuses_at_once(case: EngineCase) -> None:
    async with one_ready(case) as (engine, _):
        operation = case.operation("job_2", make_desktop())
        verbs: dict[Feature, Callable[[], Awaitable[object]]] = {
            Feature.SUSPEND: lambda: engine.suspend(operation),
            Feature.MIGRATE: lambda: engine.migrate(operation, case.other),
            Feature.RESIZE: lambda: engine.resize(operation, SMALL),
            Feature.HOST_POWER: lambda: engine.power("j", case.host, on=True, deadline_s=60),
            Feature.SNAPSHOT: lambda: engine.snapshot(operation, "snp_1"),
        }
        assert set(verbs) == set(Feature)
        for feature in set(Feature) - engine.features(case.host):
            with pytest.raises(UnsupportedError):
                await verbs[feature]()
        assert (await the_machine(engine)).running


async def test_an_engine_claims_what_the_contract_holds_it_to(
    case: EngineCase, kind: EngineKind
) -> None:
    async with listening(engine := case.start()):
        assert engine.features(case.host) == kind.features


async def test_features_are_told_without_waiting_for_anything(case: EngineCase) -> None:
    engine = case.start()
    told = engine.features(case.host)
    async with listening(engine):
        await asyncio.sleep(0)
        assert engine.features(case.host) == told <= frozenset(Feature)


@pytest.mark.parametrize("before", [None, HostState.OFF, HostState.UP])
async def test_a_host_whose_profile_cannot_be_read_is_one_that_did_not_answer(
    case: EngineCase, before: HostState | None
) -> None:
    """A newer broker wrote it: what runs there this process cannot tell, whatever it knew of the
    host `before`. Otherwise its desktops would fail, and with them their sessions."""
    knob = "&" if "?" in case.host.profile else "?"
    strange = replace(case.host, profile=f"{case.host.profile}{knob}later_knob=1")
    async with listening(engine := case.start()):
        if before is not None:
            engine.features(replace(case.host, state=before))
        engine.features(strange)
        if not engine.profiles:
            assert await engine.machines() == (), "free text is always read"
            return
        with pytest.raises(PartialListError) as refused:
            await engine.machines()
        assert refused.value.silent == {case.host.id}
        assert "later_knob" in refused.value.detail
        for state in set(HostState) - HOST_RUNS:
            engine.features(replace(strange, state=state))
            assert await engine.machines() == (), "nothing runs on a host that is off or lost"
        engine.features(strange)
        engine.features(case.host)
        assert await engine.machines() == (), "its profile was put right"


async def test_a_profile_is_understood_or_refused_before_a_host_has_it(case: EngineCase) -> None:
    engine = case.start()
    for host in (case.host, case.other, case.full):
        engine.check_profile(host.profile)
    if engine.profiles:
        with pytest.raises(EngineError, match="hal9000"):
            engine.check_profile("hal9000")


@pytest.mark.needs(Feature.RESIZE)
async def test_new_weights_and_guarantees_reach_a_running_machine(case: EngineCase) -> None:
    """A resize to the size that it has carries them."""
    async with one_ready(case) as (engine, _):
        desktop = make_desktop()
        asked = replace(
            case.operation("job_2", desktop),
            weights=Share(cpus=4.0, memory=1.0, disk=2.0, network=2.0),
            guarantee=Share(cpus=0.25),
        )
        await engine.resize(asked, desktop.resources)
        await engine.resize(asked, desktop.resources)
        machine = await the_machine(engine)
        assert (machine.running, machine.generation) == (True, 1)
