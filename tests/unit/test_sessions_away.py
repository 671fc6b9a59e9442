"""A person walks away: the grace, suspending and resuming, and what is lost under a session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import ResumingError
from broker.domain.lifecycle import DesktopEvent, HostEvent
from broker.domain.model import Desktop, DesktopState, JobVerb, SessionState
from broker.domain.settings import AfterGrace, PoolSettings
from broker.gateway.desk import Desk
from broker.ports import PageQuery, StartOrder
from broker.services.jobs import desktop_job
from tests.support.seats import expire_due, read, set_pool, sit_down, thin
from tests.support.world import World, make_world

SUSPEND = PoolSettings(after_grace=AfterGrace.SUSPEND, keep_suspended_s=3600)
GRACE_S = 600


async def desktop_of(world: World, session_id: str) -> Desktop:
    session = await read(world, session_id)
    desktop = await world.kit.store.desktops.desktop(session.desktop_id or "")
    assert desktop is not None
    return desktop


async def walked_away(world: World, endpoint: str | None) -> str:
    """A session whose person left; its desktop is suspended once the grace is over."""
    begun = await sit_down(world, "pupil1", endpoint)
    await world.sessions.disconnect(world.who("pupil1"), begun.session.id)
    world.clock.advance(GRACE_S)
    await expire_due(world)
    return begun.session.id


async def test_after_the_grace_the_desktop_is_suspended_and_the_session_kept() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, None)
        assert (await desktop_of(world, session_id)).state is DesktopState.PARKING
        session = await read(world, session_id)
        assert session.state is SessionState.DISCONNECTED
        assert session.deadline_at == world.clock.now() + SUSPEND.keep_suspended_s * 1000
        await world.look(2)
        assert (await desktop_of(world, session_id)).state is DesktopState.PARKED
        assert ("suspend", "library-001") in world.engine.done


async def test_a_person_who_comes_back_in_a_browser_waits_for_the_desktop_and_gets_it() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, None)
        await world.look(2)
        desk = Desk(
            world.kit,
            world.sessions,
            {"simulated": world.engine}.__getitem__,
            world.services.showing,
        )
        back = await world.connect.connect(world.who("pupil1"), "library")
        assert back.session.id == session_id
        assert back.ticket is not None
        with pytest.raises(ResumingError) as early:
            await desk.redeem(back.ticket, session_id, "tok")
        assert early.value.retry_after_s == limits.RESUME_RETRY_S
        await world.look(2)
        again = await world.connect.connect(world.who("pupil1"), "library")
        assert again.ticket is not None
        leave = await desk.redeem(again.ticket, session_id, "tok")
        await desk.opened(leave)
        assert (await read(world, session_id)).state is SessionState.ACTIVE
        assert (await desktop_of(world, session_id)).state is DesktopState.ASSIGNED


async def test_a_desktop_whose_host_is_off_waits_for_it_and_is_not_lost() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, None)
        await world.look(2)
        host_id = (await desktop_of(world, session_id)).host_id or ""
        directory, now = world.kit.store.directory, world.clock.now()
        for event in (HostEvent.POWER_OFF_ASKED, HostEvent.POWERED_OFF):
            await directory.move_host(host_id, event, now)
        world.engine.off.add(host_id)
        await world.connect.connect(world.who("pupil1"), "library")
        await world.look(2)
        assert (await desktop_of(world, session_id)).state is DesktopState.PARKED
        world.engine.off.clear()
        for event in (HostEvent.POWER_ON_ASKED, HostEvent.POWERED_ON):
            await directory.move_host(host_id, event, now)
        await world.look(3)
        assert (await desktop_of(world, session_id)).state is DesktopState.ASSIGNED


async def test_an_endpoint_gets_its_order_once_the_desktop_runs_and_not_before() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, "THIN-0")
        await world.look(2)
        before = len(world.orders(endpoint, StartOrder))
        await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        assert len(world.orders(endpoint, StartOrder)) == before
        await world.look(2)
        assert (await desktop_of(world, session_id)).state is DesktopState.ASSIGNED
        assert len(world.orders(endpoint, StartOrder)) == before + 1


async def test_who_comes_back_while_the_desktop_is_being_suspended_gets_it_once_it_is() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, "THIN-0")
        assert (await desktop_of(world, session_id)).state is DesktopState.PARKING
        await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        started = len(world.orders(endpoint, StartOrder))
        for _ in range(6):
            await world.look(2)
            world.clock.advance(6)
        assert (await desktop_of(world, session_id)).state is DesktopState.ASSIGNED
        assert len(world.orders(endpoint, StartOrder)) == started + 1
        assert (await read(world, session_id)).state is SessionState.DELIVERING


async def test_a_suspended_session_that_nobody_came_back_to_is_logged_off() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, None)
        await world.look(2)
        world.clock.advance(SUSPEND.keep_suspended_s)
        await expire_due(world)
        assert (await read(world, session_id)).state is SessionState.ENDED
        # woken for its reset it would take room that others may have by now
        assert (await desktop_of(world, session_id)).state is DesktopState.DELETING


async def test_where_the_host_cannot_suspend_the_session_is_logged_off_and_says_so() -> None:
    async with make_world() as world:
        await world.look(3)
        world.engine.can = frozenset()
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, None)
        over = await read(world, session_id)
        assert over.state is SessionState.ENDED
        assert "server-1 cannot suspend machines" in over.why


@pytest.mark.parametrize("late", [False, True])
async def test_who_is_away_is_logged_off_and_told_when_the_desktop_cannot_be_suspended(
    late: bool,
) -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        if not late:
            world.engine.failing.add("suspend")
        session_id = await walked_away(world, None)
        before = await desktop_of(world, session_id)
        assert before.state is DesktopState.PARKING
        if late:
            world.clock.advance(limits.SUSPEND_S + 1)
            await world.reconciler.look()
        else:
            for attempts in range(1, limits.JOB_ATTEMPTS_MAX + 1):
                await world.look()
                world.clock.advance(1.5 * limits.JOB_PAUSE_S * attempts)
            assert world.clock.now() < (before.deadline_at or 0)
        session = await read(world, session_id)
        assert session.state is SessionState.ENDED
        assert "library-001 could not be suspended" in session.why
        # as the pool has it at log-off: fresh for the next person, not thrown away
        after = await world.kit.store.desktops.desktop(before.id)
        assert after is not None
        assert after.generation == before.generation + 1
        assert after.state in {DesktopState.RESETTING, DesktopState.READY}


async def test_without_suspending_the_session_is_logged_off_after_the_grace() -> None:
    async with make_world() as world:
        await world.look(3)
        session_id = await walked_away(world, None)
        assert (await read(world, session_id)).state is SessionState.ENDED


async def test_a_broker_that_died_between_suspending_and_writing_it_down_is_made_good() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        begun = await sit_down(world, "pupil1", None)
        session_id = begun.session.id
        await world.sessions.disconnect(world.who("pupil1"), session_id)
        world.clock.advance(GRACE_S)
        desktop, now = await desktop_of(world, session_id), world.clock.now()
        await world.kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.SUSPEND_ASKED,
            now,
            deadline_at=now + 1000,
            job=desktop_job(world.kit, desktop, JobVerb.SUSPEND),
        )
        await expire_due(world)
        session = await read(world, session_id)
        assert session.state is SessionState.DISCONNECTED
        assert session.deadline_at == now + SUSPEND.keep_suspended_s * 1000


async def test_an_endpoint_that_comes_back_does_not_wake_a_desktop_that_rests() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        await set_pool(world, "library", SUSPEND)
        begun = await sit_down(world, "pupil1", "THIN-0")
        await world.offline("THIN-0")
        world.clock.advance(GRACE_S)
        await expire_due(world)
        await world.look(2)
        await world.online("THIN-0")
        session = await read(world, begun.session.id)
        assert (session.state, session.endpoint_id) == (SessionState.DISCONNECTED, None)
        assert (await desktop_of(world, session.id)).state is DesktopState.PARKED
        assert world.orders(endpoint, StartOrder) == []


async def test_who_leaves_again_before_it_was_resumed_keeps_the_suspended_time() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        session_id = await walked_away(world, None)
        await world.connect.connect(world.who("pupil1"), "library")
        await world.sessions.disconnect(world.who("pupil1"), session_id)
        session = await read(world, session_id)
        assert session.deadline_at == world.clock.now() + SUSPEND.keep_suspended_s * 1000


async def test_nobody_keeps_a_desktop_beyond_the_maximum_time_by_walking_away() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", replace(SUSPEND, session_max_s=300))
        begun = await sit_down(world, "pupil1", None)
        await world.sessions.disconnect(world.who("pupil1"), begun.session.id)
        session = await read(world, begun.session.id)
        assert session.deadline_at == world.clock.now() + 300_000
        world.clock.advance(300)
        await expire_due(world)
        assert (await read(world, begun.session.id)).state is SessionState.ENDED


async def test_a_delivery_that_fails_keeps_the_desktop_that_its_person_had_before() -> None:
    async with make_world() as world:
        await world.look(3)
        endpoint = await thin(world, 0)
        begun = await sit_down(world, "pupil1", None)
        moved = await world.connect.connect(world.who("pupil1"), "library", "THIN-0")
        await world.sessions.could_not(
            begun.session.id, endpoint, moved.session.generation, "display.timeout"
        )
        kept = await read(world, begun.session.id)
        assert kept.state is SessionState.DISCONNECTED
        again = await world.connect.connect(world.who("pupil1"), "library")
        assert again.session.id == begun.session.id
        world.clock.advance(limits.DELIVER_S)
        await expire_due(world)
        assert (await read(world, begun.session.id)).state is SessionState.DISCONNECTED


@pytest.mark.parametrize(
    ("online", "state"), [(True, SessionState.FAILED), (False, SessionState.DISCONNECTED)]
)
async def test_an_endpoint_out_of_reach_keeps_its_own_desktop_until_the_lease_ends(
    online: bool,
    state: SessionState,
) -> None:
    async with make_world() as world:
        endpoint = await world.online("ART-0")
        begun = await world.connect.connect(world.who("pupil1"), "art", "ART-0")
        await world.sessions.live(begun.session.id, endpoint.id, begun.session.generation)
        await world.offline("ART-0")
        await world.connect.connect(world.who("pupil1"), "art", "ART-0")
        assert (await read(world, begun.session.id)).state is SessionState.DELIVERING
        if online:
            await world.online("ART-0")
        world.clock.advance(limits.DELIVER_S)
        await expire_due(world)
        found = await read(world, begun.session.id)
        assert found.state is state
        if not online:
            assert found.lease_until is not None
            assert found.deadline_at == found.lease_until


async def test_who_waits_for_a_pool_of_endpoints_is_not_told_that_he_is_elsewhere() -> None:
    async with make_world() as world:
        waits = await world.connect.connect(world.who("pupil1"), "lab", "LAB-1")
        assert waits.session.state is SessionState.QUEUED
        again = await world.connect.connect(world.who("pupil1"), "lab", "LAB-0")
        assert again.session.id == waits.session.id


async def test_a_lost_desktop_fails_its_session_and_the_person_may_connect_again_at_once() -> None:
    async with make_world() as world:
        await world.look(3)
        begun = await sit_down(world, "pupil1", None)
        await world.sessions.desktop_lost(begun.session.desktop_id or "", 1, "the host died")
        failed = await read(world, begun.session.id)
        assert failed.state is SessionState.FAILED
        assert failed.why == "its desktop was lost: the host died"
        again = await world.connect.connect(world.who("pupil1"), "library")
        assert again.new
        assert again.session.desktop_id != begun.session.desktop_id


async def test_jobs_of_a_walk_away_are_one_suspend_and_one_resume() -> None:
    async with make_world() as world:
        await world.look(3)
        await set_pool(world, "library", SUSPEND)
        await walked_away(world, None)
        await world.look(2)
        for _ in range(3):
            await world.connect.connect(world.who("pupil1"), "library")
        await world.look(2)
        for verb in (JobVerb.SUSPEND, JobVerb.RESUME):
            query = PageQuery(filters={"verb": verb.value})
            assert len((await world.kit.store.jobs.jobs(query)).items) == 1
