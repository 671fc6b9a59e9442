"""Restarting one desktop: its disk, its session and its person's way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker import limits
from broker.domain.errors import ConflictError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Desktop, DesktopState, LogOff, PoolKind, Session, SessionState
from broker.domain.silence import SILENCE_DOCUMENT, Silence, plain
from broker.ports import MachineReport, PageQuery, StartOrder
from broker.services.origin import NOWHERE
from tests.support.world import World, make_world

D = DesktopState
STAFF = "usr_operator"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as world:
        await kept(world)
        await world.look(4)
        yield world


async def kept(world: World, grace_s: int = 600) -> None:
    pool = await world.pools.find("library")
    changed = replace(
        pool, kind=PoolKind.DEDICATED, log_off=LogOff.KEEP, disconnect_grace_s=grace_s
    )
    await world.kit.store.directory.save_pool(changed, new=False)
    world.pools.forget()


async def restart(world: World, desktop: Desktop) -> Desktop:
    return await world.services.desktop_restarts.restart(desktop.id, actor=STAFF, origin=NOWHERE)


async def read(world: World, desktop: Desktop) -> Desktop:
    found = await world.kit.store.desktops.desktop(desktop.id)
    assert found is not None
    return found


async def given(world: World) -> tuple[Desktop, Session]:
    """A desktop that is in front of its person, in a browser."""
    who = world.who("pupil0")
    asked = await world.connect.connect(who, "library")
    assert asked.desktop is not None
    await world.sessions.shown(asked.session, browser=who.token_id, display="dsp_1")
    return await read(world, asked.desktop), await session(world, asked.session)


async def session(world: World, one: Session) -> Session:
    found = await world.kit.store.sessions.session(one.id)
    assert found is not None
    return found


async def spare(world: World) -> Desktop:
    return next(one for one in await world.desktops(D.READY) if one.host_id is not None)


async def test_a_session_stays_and_its_desktop_is_back_as_it_was(world: World) -> None:
    desktop, live = await given(world)
    begun = await restart(world, desktop)
    assert (begun.state, begun.target) == (D.UNPARKING, D.ASSIGNED)
    assert begun.deadline_at == world.clock.now() + limits.BOOT_S * 1000
    await world.look(2)
    back, after = await read(world, desktop), await session(world, live)
    assert (back.state, back.generation) == (D.ASSIGNED, desktop.generation)
    assert (back.owner_id, back.note) == (desktop.owner_id, "")
    assert (after.state, after.desktop_id) == (SessionState.ACTIVE, desktop.id)
    assert world.engine.done.count(("restart", desktop.name)) == 1
    assert after.notice is not None
    assert "restarted" in after.notice.text


async def test_the_trail_says_who_restarted_what_under_whose_session(world: World) -> None:
    desktop, live = await given(world)
    await restart(world, desktop)
    query = PageQuery(filters={"session_id": live.id, "action": "desktop.restart"})
    [entry] = (await world.kit.store.audit.entries(query)).items
    assert (entry.actor, entry.desktop_id, entry.user_id) == (STAFF, desktop.id, live.user_id)


async def test_a_desktop_that_nobody_has_is_restarted_and_is_given_only_after(
    world: World,
) -> None:
    one = await spare(world)
    begun = await restart(world, one)
    assert (begun.state, begun.target) == (D.RESUMING, D.READY)
    asked = await world.connect.connect(world.who("pupil3"), "library")
    assert asked.session.desktop_id != one.id
    await world.look(2)
    assert (await read(world, one)).state is D.READY


async def test_a_late_report_of_the_boot_before_brings_nothing_back(world: World) -> None:
    desktop, _ = await given(world)
    world.engine.silent = True
    await restart(world, desktop)
    await world.look(2)
    world.engine.say(_report(desktop, "job_before"))
    await world.settle()
    assert (await read(world, desktop)).state is D.UNPARKING


def _report(desktop: Desktop, operation_id: str) -> MachineReport:
    return MachineReport(
        desktop_id=desktop.id,
        generation=desktop.generation,
        ready=True,
        operation_id=operation_id,
    )


# ------------------------------------------------------------------------------ races


async def test_of_two_orders_at_once_one_is_done(world: World) -> None:
    desktop, _ = await given(world)
    orders = (restart(world, desktop), restart(world, desktop))
    outcomes = await asyncio.gather(*orders, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [IllegalTransitionError]
    await world.look(2)
    assert world.engine.done.count(("restart", desktop.name)) == 1


async def test_a_person_who_logs_off_meanwhile_leaves_it_kept_and_ready(world: World) -> None:
    desktop, live = await given(world)
    world.engine.silent = True
    await restart(world, desktop)
    await world.look(1)
    await world.sessions.log_off(world.who("pupil0"), live.id)
    assert (await read(world, desktop)).state is D.RESUMING
    world.engine.silent = False
    [job] = (await world.kit.store.jobs.jobs(PageQuery(filters={"verb": "resume"}))).items
    world.engine.say(_report(desktop, job.id))
    await world.settle()
    now = await read(world, desktop)
    assert (now.state, now.owner_id) == (D.READY, "usr_pupil0")


async def test_one_that_is_made_fresh_at_log_off_is_not_started_from_the_old_disk(
    world: World,
) -> None:
    pool = await world.pools.find("library")
    floating = replace(pool, kind=PoolKind.FLOATING, log_off=LogOff.RESET)
    await world.kit.store.directory.save_pool(floating, new=False)
    world.pools.forget()
    desktop, live = await given(world)
    await restart(world, desktop)
    await world.sessions.log_off(world.who("pupil0"), live.id)
    await world.look(3)
    now = await read(world, desktop)
    assert (now.state, now.generation) == (D.READY, desktop.generation + 1)
    assert ("restart", desktop.name) not in world.engine.done
    assert ("reset", desktop.name) in world.engine.done


async def test_a_short_grace_does_not_end_the_session_while_its_desktop_starts(
    world: World,
) -> None:
    await kept(world, grace_s=1)
    desktop, live = await given(world)
    world.engine.silent = True
    begun = await restart(world, desktop)
    gone = await world.sessions.lost(await session(world, live), "closed", display="dsp_1")
    assert (gone.state, gone.deadline_at) == (SessionState.DISCONNECTED, begun.deadline_at)
    world.clock.advance(60)
    await world.look(2)
    assert (await session(world, live)).state is SessionState.DISCONNECTED
    back = await world.connect.connect(world.who("pupil0"), "library")
    assert (back.session.id, back.ticket is not None) == (live.id, True)


async def test_an_endpoint_gets_its_order_again_once_the_desktop_is_back(world: World) -> None:
    endpoint = await world.online("THIN-0")
    asked = await world.connect.connect(world.who("pupil0"), "library", "THIN-0")
    assert asked.desktop is not None
    await world.sessions.live(endpoint.id, asked.session.id, asked.session.generation)
    world.engine.silent = True
    await restart(world, asked.desktop)
    await world.look(1)
    await world.offline("THIN-0")
    await world.online("THIN-0")
    assert world.orders(endpoint.id, StartOrder) == []
    world.engine.silent = False
    [job] = (await world.kit.store.jobs.jobs(PageQuery(filters={"verb": "resume"}))).items
    world.engine.say(_report(asked.desktop, job.id))
    await world.settle()
    assert len(world.orders(endpoint.id, StartOrder)) == 1


async def test_one_that_does_not_come_up_again_fails_its_session_with_why(world: World) -> None:
    desktop, live = await given(world)
    world.engine.silent = True
    await restart(world, desktop)
    await world.look(1)
    world.clock.advance(limits.BOOT_S + 1)
    await world.look(1)
    failed = await session(world, live)
    assert failed.state is SessionState.FAILED
    assert "unparking took longer" in failed.why


# --------------------------------------------------------------------------- refused


async def refused(world: World, desktop: Desktop) -> str:
    with pytest.raises(IllegalTransitionError) as caught:
        await restart(world, desktop)
    assert await world.services.desktop_restarts.refusal(await read(world, desktop))
    return caught.value.detail


async def test_what_does_not_run_is_not_restarted(world: World) -> None:
    one = await spare(world)
    await world.works.lost(one, "it crashed")
    assert "has failed" in await refused(world, one)


async def test_a_snapshot_under_way_is_waited_for(world: World) -> None:
    desktop, _ = await given(world)
    await world.services.snapshots.take(desktop.id, "before", "", actor=STAFF)
    assert "'before'" in await refused(world, desktop)


async def test_a_host_that_is_down_or_silent_restarts_nothing(world: World) -> None:
    desktop, _ = await given(world)
    assert desktop.host_id is not None
    silent = {desktop.host_id: Silence(since=world.clock.now())}
    await world.kit.store.documents.save(SILENCE_DOCUMENT, plain(silent), revision=0)
    assert "does not answer" in await refused(world, desktop)
    await world.kit.store.directory.move_host(desktop.host_id, HostEvent.LOST, world.clock.now())
    assert "does not run" in await refused(world, desktop)


async def test_an_endpoints_own_and_one_that_is_not_there_are_refused(world: World) -> None:
    own = next(one for one in await world.desktops() if one.endpoint_id is not None)
    with pytest.raises(ConflictError, match="restart the endpoint"):
        await restart(world, own)
    with pytest.raises(NotFoundError):
        await restart(world, replace(own, id="dsk_none"))
