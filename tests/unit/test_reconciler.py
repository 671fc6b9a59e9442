"""The reconciler at work: spares, failures, retries, deadlines, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from broker import limits
from broker.domain.lifecycle import EndpointEvent
from broker.domain.model import DesktopState, EndpointState, JobState, SessionState
from broker.ports import FreshOrder, MachineReport, PageQuery
from tests.support.builders import make_host
from tests.support.eventually import eventually
from tests.support.world import World, make_world


async def _jobs(world: World, state: JobState) -> int:
    query = PageQuery(limit=500, filters={"state": state.value})
    return len((await world.kit.store.jobs.jobs(query)).items)


async def test_spares_are_made_once_and_not_again() -> None:
    async with make_world() as world:
        await world.look(4)
        ready = await world.desktops(DesktopState.READY)
        assert [desktop.name for desktop in ready] == ["library-001", "library-002"]
        assert len(world.engine.known) == 2


async def test_a_desktop_that_is_taken_is_replaced_by_a_new_spare() -> None:
    async with make_world() as world:
        await world.look(3)
        await world.connect.connect(world.who("pupil1"), "library")
        await world.look(2)
        assert len(await world.desktops(DesktopState.READY)) == 2
        assert len(await world.desktops(DesktopState.ASSIGNED)) == 1


async def test_a_failing_engine_is_asked_again_with_pauses_and_then_the_desktop_goes() -> None:
    async with make_world() as world:
        world.engine.failing.add("create")
        await world.look()
        for _ in range(40):
            world.clock.advance(10)
            await world.look()
        assert "create" not in {verb for verb, _ in world.engine.done}
        assert await _jobs(world, JobState.FAILED) >= 1
        world.engine.failing.clear()
        for _ in range(20):
            world.clock.advance(10)
            await world.look()
        ready = await world.desktops(DesktopState.READY)
        assert len(ready) == 2
        assert not await world.desktops(DesktopState.FAILED)


async def test_a_machine_that_never_reports_is_cleared_and_made_anew() -> None:
    async with make_world() as world:
        world.engine.silent = True
        await world.look(2)
        assert len(await world.desktops(DesktopState.STARTING)) == 2
        world.engine.silent = False
        world.clock.advance(limits.BOOT_S + 1)
        await world.look(4)
        assert len(await world.desktops(DesktopState.READY)) == 2
        assert len(await world.desktops(DesktopState.DELETED)) == 2
        assert len(world.engine.known) == 2


async def test_a_report_of_an_older_generation_does_not_make_a_desktop_ready() -> None:
    async with make_world() as world:
        world.engine.silent = True
        await world.look(2)
        [desktop, _] = await world.desktops(DesktopState.STARTING)
        world.engine.say(MachineReport(desktop_id=desktop.id, generation=0, ready=True))
        await world.settle()
        assert len(await world.desktops(DesktopState.STARTING)) == 2


async def test_a_machine_lost_under_its_session_fails_the_session() -> None:
    async with make_world() as world:
        await world.look(3)
        me = world.who("pupil1")
        answer = await world.connect.connect(me, "library")
        await world.sessions.live(answer.session.id, None, answer.session.generation)
        assert answer.session.desktop_id is not None
        world.engine.say(
            MachineReport(
                desktop_id=answer.session.desktop_id,
                generation=answer.session.generation,
                ready=False,
                detail="the host lost power",
            )
        )
        await world.settle()
        session = await world.sessions.get(me, answer.session.id)
        assert session.state is SessionState.FAILED
        assert "the host lost power" in session.why


async def test_a_removal_that_fails_is_asked_again_until_it_is_done() -> None:
    async with make_world() as world:
        world.engine.silent = True
        await world.look(2)
        world.engine.failing.add("destroy")
        world.clock.advance(limits.BOOT_S + 1)
        for _ in range(80):
            await world.look()
            world.clock.advance(10)
        assert len(await world.desktops(DesktopState.DELETING)) >= 2
        world.engine.failing.clear()
        for _ in range(40):
            world.clock.advance(10)
            await world.look()
        assert not await world.desktops(DesktopState.DELETING)


async def test_a_broker_that_died_in_the_middle_of_a_job_does_it_after_the_restart() -> None:
    async with make_world() as world:
        # taken, and then the process was gone: nobody carries it out
        await world.reconciler.look()
        now = world.clock.now()
        taken = await world.kit.store.jobs.take(now, now + limits.JOB_S * 1000, 10)
        assert len(taken) == 2
        await world.look()
        assert world.engine.done == []
        world.clock.advance(limits.JOB_S + 1)
        for _ in range(4):
            await world.look()
            world.clock.advance(20)
        assert sorted(world.engine.done) == [("create", "library-001"), ("create", "library-002")]


async def test_silent_endpoints_are_lost_and_their_desktops_not_given_away() -> None:
    async with make_world() as world:
        endpoint = await world.online("LAB-0")
        del world.link.orders[endpoint.id]
        world.clock.advance(limits.SILENT_S + 1)
        await world.look()
        now = await world.kit.store.endpoints.endpoint(endpoint.id)
        assert now is not None
        assert now.state is EndpointState.OFFLINE
        waiting = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        assert waiting.place == 1


async def test_a_fat_desktop_is_given_only_after_it_said_that_it_is_fresh() -> None:
    async with make_world() as world:
        endpoint_id = "ept_lab0"
        world.link.orders[endpoint_id] = []
        now = world.clock.now()
        await world.kit.store.endpoints.presence(
            endpoint_id, EndpointEvent.CONNECTED, now, fresh_deadline_at=now + 60_000
        )
        waiting = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        assert waiting.place == 1
        await world.delivery.refresh([endpoint_id])
        [order] = world.orders(endpoint_id, FreshOrder)
        await world.works.endpoint_fresh(endpoint_id, order.desktop_id, order.generation)
        await world.look()
        session = await world.sessions.get(world.who("pupil1"), waiting.session.id)
        assert session.state is SessionState.DELIVERING


async def test_a_fat_desktop_that_was_not_freshened_in_time_is_asked_again() -> None:
    async with make_world() as world:
        endpoint_id = "ept_lab0"
        world.link.orders[endpoint_id] = []
        now = world.clock.now()
        await world.kit.store.endpoints.presence(
            endpoint_id, EndpointEvent.CONNECTED, now, fresh_deadline_at=now + 60_000
        )
        world.clock.advance(61)
        await world.look(3)
        orders = world.orders(endpoint_id, FreshOrder)
        assert orders
        await world.answer_fresh(endpoint_id)
        ready = await world.desktops(DesktopState.READY)
        assert "LAB-0" in {desktop.name for desktop in ready}


async def test_a_host_whose_engine_is_not_here_gets_nothing_and_stops_nothing() -> None:
    async with make_world() as world:
        strange = make_host(id="hst_0", name="a-stranger", engine="unheard-of")
        await world.kit.store.directory.save_host(strange, new=True)
        await world.look(4)
        ready = await world.desktops(DesktopState.READY)
        assert {desktop.host_id for desktop in ready} == {"hst_1"}
        assert len(ready) == 2
        assert not world.reconciler.failures["look"]


async def test_a_look_that_fails_by_a_fault_of_the_broker_is_told_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_world() as world:
        counts, bugs = world.kit.store.desktops.counts, list[BaseException]()
        broken = iter([True])

        async def breaks_once(*, owned: bool = False) -> Mapping[tuple[str, str], int]:
            if next(broken, False):
                raise ZeroDivisionError
            return await counts(owned=owned)

        monkeypatch.setattr(world.kit.store.desktops, "counts", breaks_once)
        monkeypatch.setattr(limits, "RECONCILE_S", 0.01)
        world.reconciler.tell_bugs(bugs.append)
        running = asyncio.ensure_future(world.reconciler.run((world.engine,)))
        await eventually(lambda: len(world.engine.known) == 2)
        running.cancel()
        assert [type(bug) for bug in bugs] == [ZeroDivisionError]
        assert world.reconciler.failures["look"] == 1
