"""Machines that wait for their turn to be made fresh, and failed ones, in every store."""

from __future__ import annotations

import pytest

from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import DesktopEvent, EndpointEvent, SessionEvent
from broker.domain.model import Desktop, DesktopState, JobState, JobVerb
from broker.ports import PageQuery, Release, Store
from tests.support.builders import NOW, make_host
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    fill,
    make_job,
    make_request,
    ready_desktops,
)

RESET = Release(event=DesktopEvent.RELEASED_RESET, fresh=True, deadline_at=None)


async def released(store: Store, number: int) -> Desktop:
    """A desktop whose session has ended."""
    await ready_desktops(store, [number])
    outcome = await claim_one(store, make_request(number))
    session, desktop = outcome.session, outcome.desktop
    assert session is not None
    assert desktop is not None
    for event in (SessionEvent.REPORTED_LIVE, SessionEvent.LOG_OFF, SessionEvent.FINISHED):
        release = RESET if event is SessionEvent.FINISHED else None
        await store.sessions.advance(session.id, event, NOW, why="", release=release)
    after = await store.desktops.desktop(desktop.id)
    assert after is not None
    return after


async def test_one_that_was_given_back_waits_and_is_not_counted_as_starting(store: Store) -> None:
    await fill(store)
    desktop = await released(store, 1)
    assert (desktop.state, desktop.deadline_at) == (DesktopState.RESETTING, None)
    (load,) = await store.directory.host_loads()
    assert (load.starting, load.resets_waiting, load.running) == (0, 1, 1)
    assert await store.desktops.resets_waiting([], 5) == (desktop,)
    assert await store.desktops.resets_waiting(["hst_1"], 5) == ()
    assert await store.desktops.resets_waiting(["hst_2"], 5) == (desktop,)


async def test_when_its_turn_comes_it_gets_its_deadline_and_its_job(store: Store) -> None:
    await fill(store)
    desktop = await released(store, 1)
    job = make_job(desktop_id=desktop.id, verb=JobVerb.RESET)
    begun = await store.desktops.begin_reset(desktop.id, desktop.generation, NOW + 9, job)
    assert (begun.state, begun.deadline_at) == (DesktopState.RESETTING, NOW + 9)
    assert await store.desktops.desktop(desktop.id) == begun
    (stored,) = (await store.jobs.jobs(PageQuery(filters={"desktop_id": desktop.id}))).items
    assert (stored.state, stored.generation) == (JobState.QUEUED, desktop.generation)
    (load,) = await store.directory.host_loads()
    assert (load.starting, load.resets_waiting) == (1, 0)
    assert await store.desktops.resets_waiting([], 5) == ()


async def test_its_turn_comes_once_and_for_its_generation_only(store: Store) -> None:
    await fill(store)
    desktop = await released(store, 1)
    with pytest.raises(IllegalTransitionError):
        await store.desktops.begin_reset(desktop.id, desktop.generation - 1, NOW, make_job())
    job = make_job(desktop_id=desktop.id)
    await store.desktops.begin_reset(desktop.id, desktop.generation, NOW + 9, job)
    with pytest.raises(IllegalTransitionError):
        await store.desktops.begin_reset(
            desktop.id, desktop.generation, NOW + 10, make_job(id="job_other")
        )
    assert len((await store.jobs.jobs(PageQuery())).items) == 1


async def test_only_what_waits_has_a_turn(store: Store) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1])
    with pytest.raises(IllegalTransitionError):
        await store.desktops.begin_reset(desktop.id, desktop.generation, NOW, make_job())


async def test_those_that_wait_longest_come_first_and_no_more_than_asked(store: Store) -> None:
    await fill(store)
    desktops = [await released(store, number) for number in (1, 2, 3)]
    assert await store.desktops.resets_waiting([], 2) == tuple(desktops[:2])


async def test_a_desktop_that_was_being_resumed_waits_without_its_old_deadline(
    store: Store,
) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    outcome = await claim_one(store, make_request(1))
    session, desktop = outcome.session, outcome.desktop
    assert session is not None
    assert desktop is not None
    for event in (DesktopEvent.SUSPEND_ASKED, DesktopEvent.SUSPENDED):
        await store.desktops.advance(desktop.id, event, NOW, deadline_at=NOW + 7)
    await store.desktops.advance(desktop.id, DesktopEvent.RESUME_ASKED, NOW, deadline_at=NOW + 7)
    await store.sessions.advance(session.id, SessionEvent.FAILED, NOW, why="", release=RESET)
    (waiting,) = await store.desktops.resets_waiting([], 5)
    assert waiting.deadline_at is None


async def test_loads_tell_spares_from_what_is_used_or_owned_or_asleep(store: Store) -> None:
    await fill(store)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    _, used, asleep, moving = await ready_desktops(store, [1, 2, 3, 4])
    await store.desktops.advance(used.id, DesktopEvent.CLAIMED, NOW)
    for event in (DesktopEvent.SUSPEND_ASKED, DesktopEvent.SUSPENDED):
        await store.desktops.advance(asleep.id, event, NOW)
    await ready_desktops(store, [5], owner_id="usr_1")
    await store.desktops.begin_move(moving.id, "hst_2", 1, make_job(desktop_id=moving.id))
    here, there = await store.directory.host_loads()
    assert (here.spares_by_pool, here.running) == ({VDI.id: 2}, 4)
    assert (there.spares_by_pool, there.running) == ({}, 1)


async def test_failed_desktops_of_absent_endpoints_hide_nobody(store: Store) -> None:
    await fill(store)
    absent, present = await ready_desktops(store, [1, 2], IDV)
    (machine,) = await ready_desktops(store, [1])
    assert absent.endpoint_id is not None
    await store.endpoints.presence(absent.endpoint_id, EndpointEvent.LOST, NOW)
    for event in (DesktopEvent.ENDPOINT_BACK, DesktopEvent.DEADLINE_PASSED):
        await store.desktops.advance(absent.id, event, NOW)
    for desktop in (present, machine):
        await store.desktops.advance(desktop.id, DesktopEvent.FAILED, NOW + 1)
    found = await store.desktops.failed(1)
    assert [one.id for one in found] == [machine.id, present.id]
