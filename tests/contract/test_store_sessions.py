"""Moving sessions, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.errors import AlreadyExistsError, IllegalTransitionError, NotFoundError
from broker.domain.lifecycle import SESSION, DesktopEvent, SessionEvent
from broker.domain.model import (
    DesktopState,
    JobVerb,
    PhaseReport,
    Session,
    SessionState,
    Traffic,
)
from broker.limits import PHASES_MAX
from broker.ports import Release, SessionChange, Store
from tests.support.builders import NOW
from tests.support.stores import claimed_session, fill, make_job, make_request, ready_desktops

PATHS: dict[SessionState, tuple[SessionEvent, ...]] = {
    SessionState.DELIVERING: (),
    SessionState.ACTIVE: (SessionEvent.REPORTED_LIVE,),
    SessionState.DISCONNECTED: (SessionEvent.DISCONNECTED,),
    SessionState.ENDING: (SessionEvent.LOG_OFF,),
    SessionState.ENDED: (SessionEvent.LOG_OFF, SessionEvent.FINISHED),
    SessionState.FAILED: (SessionEvent.FAILED,),
}
"""how a delivering session gets to each state"""


async def delivering(store: Store) -> Session:
    await fill(store)
    await ready_desktops(store, [1])
    return await claimed_session(store, make_request())


async def queued(store: Store) -> Session:
    await fill(store)
    return await claimed_session(store, make_request())


async def in_state(store: Store, state: SessionState) -> Session:
    if state is SessionState.QUEUED:
        return await queued(store)
    if state is SessionState.CANCELLED:
        session = await queued(store)
        return await store.sessions.advance(session.id, SessionEvent.CANCELLED, NOW, why="")
    session = await delivering(store)
    for event in PATHS[state]:
        session = await store.sessions.advance(session.id, event, NOW, why="")
    assert session.state is state
    return session


@pytest.mark.parametrize("event", list(SessionEvent))
@pytest.mark.parametrize("state", list(SessionState))
async def test_a_session_moves_exactly_along_its_table(
    store: Store, state: SessionState, event: SessionEvent
) -> None:
    session = await in_state(store, state)
    # a queued session is claimed together with a desktop, through serve_queue alone
    if event is SessionEvent.CLAIMED or not SESSION.allows(state, event):
        with pytest.raises(IllegalTransitionError):
            await store.sessions.advance(session.id, event, NOW + 50, why="x")
        assert await store.sessions.session(session.id) == session
        return
    moved = await store.sessions.advance(
        session.id, event, NOW + 50, why="because", deadline_at=NOW + 77
    )
    to = SESSION.table[state, event].to
    live_at = session.live_at
    if to is SessionState.ACTIVE and live_at is None:
        live_at = NOW + 50
    assert moved == replace(
        session,
        state=to,
        revision=session.revision + 1,
        why="because",
        deadline_at=NOW + 77,
        live_at=live_at,
        ended_at=NOW + 50 if to in SESSION.terminal else None,
    )
    assert await store.sessions.session(session.id) == moved


async def test_an_unknown_session_is_not_found(store: Store) -> None:
    assert await store.sessions.session("ses_9") is None
    with pytest.raises(NotFoundError):
        await store.sessions.advance("ses_9", SessionEvent.FAILED, NOW, why="")


async def test_a_report_of_another_generation_is_refused(store: Store) -> None:
    session = await delivering(store)
    advance = store.sessions.advance
    with pytest.raises(IllegalTransitionError):
        await advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="", generation=2)
    moved = await advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="", generation=1)
    assert moved.state is SessionState.ACTIVE


async def test_the_first_live_instant_stays_and_a_lease_is_kept_until_renewed(
    store: Store,
) -> None:
    session = await delivering(store)

    async def advance(event: SessionEvent, now: int, lease: int | None = None) -> Session:
        return await store.sessions.advance(session.id, event, now, why="", lease_until=lease)

    await advance(SessionEvent.REPORTED_LIVE, NOW + 1, NOW + 1000)
    await advance(SessionEvent.DISCONNECTED, NOW + 2)
    back = await advance(SessionEvent.REPORTED_LIVE, NOW + 3)
    assert (back.live_at, back.lease_until, back.deadline_at) == (NOW + 1, NOW + 1000, None)
    await advance(SessionEvent.DISCONNECTED, NOW + 4)
    renewed = await advance(SessionEvent.REPORTED_LIVE, NOW + 5, NOW + 5000)
    assert (renewed.lease_until, renewed.revision) == (NOW + 5000, 6)


async def test_leaving_the_endpoint_clears_it(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id="ept_1"))
    stays = await store.sessions.advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="")
    assert stays.endpoint_id == "ept_1"
    left = await store.sessions.advance(
        session.id, SessionEvent.DISCONNECTED, NOW, why="", change=SessionChange(move=True)
    )
    assert left.endpoint_id is None


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (DesktopEvent.RELEASED_RESET, DesktopState.RESETTING),
        (DesktopEvent.RELEASED_KEEP, DesktopState.READY),
        (DesktopEvent.RELEASED_DELETE, DesktopState.DELETING),
        (DesktopEvent.FAILED, DesktopState.FAILED),
    ],
)
async def test_the_desktop_is_released_with_its_session(
    store: Store, event: DesktopEvent, state: DesktopState
) -> None:
    session = await in_state(store, SessionState.ENDING)
    job = make_job(verb=JobVerb.RESET, desktop_id="dsk_library_1", generation=0)
    release = Release(event=event, fresh=True, deadline_at=NOW + 300, job=job)
    ended = await store.sessions.advance(
        session.id, SessionEvent.FINISHED, NOW + 9, why="done", release=release
    )
    assert (ended.state, ended.desktop_id) == (SessionState.ENDED, "dsk_library_1")
    desktop = await store.desktops.desktop("dsk_library_1")
    assert desktop is not None
    assert (desktop.state, desktop.generation) == (state, 2)
    passing = state in {DesktopState.RESETTING, DesktopState.DELETING}
    assert (desktop.deadline_at, desktop.changed_at) == (NOW + 300 if passing else None, NOW + 9)
    target = {DesktopState.RESETTING: "ready", DesktopState.DELETING: "deleted"}.get(state)
    assert desktop.target == target
    assert await store.jobs.job(job.id) == replace(job, generation=2)


async def test_a_release_waits_until_the_session_lets_go(store: Store) -> None:
    session = await delivering(store)
    release = Release(event=DesktopEvent.RELEASED_RESET, fresh=True, deadline_at=None)
    await store.sessions.advance(session.id, SessionEvent.LOG_OFF, NOW, why="", release=release)
    desktop = await store.desktops.desktop("dsk_library_1")
    assert desktop is not None
    assert (desktop.state, desktop.generation) == (DesktopState.ASSIGNED, 1)


async def test_a_release_without_a_desktop_does_nothing(store: Store) -> None:
    session = await queued(store)
    job = make_job(desktop_id="dsk_library_1")
    release = Release(event=DesktopEvent.FAILED, fresh=True, deadline_at=None, job=job)
    await store.sessions.advance(session.id, SessionEvent.CANCELLED, NOW, why="", release=release)
    assert await store.jobs.job(job.id) is None


async def test_a_lost_desktop_does_not_keep_its_session_from_ending(store: Store) -> None:
    session = await delivering(store)
    await store.desktops.advance("dsk_library_1", DesktopEvent.FAILED, NOW)
    job = make_job(desktop_id="dsk_library_1")
    release = Release(event=DesktopEvent.FAILED, fresh=True, deadline_at=None, job=job)
    ended = await store.sessions.advance(
        session.id, SessionEvent.FAILED, NOW, why="lost", release=release
    )
    assert ended.state is SessionState.FAILED
    desktop = await store.desktops.desktop("dsk_library_1")
    assert desktop is not None
    assert (desktop.state, desktop.generation) == (DesktopState.FAILED, 1)
    assert await store.jobs.job(job.id) is None


async def test_a_release_that_cannot_be_stored_moves_nothing(store: Store) -> None:
    session = await in_state(store, SessionState.ENDING)
    job = make_job(desktop_id="dsk_library_1")
    await store.desktops.add([], [job])
    release = Release(event=DesktopEvent.RELEASED_RESET, fresh=True, deadline_at=None, job=job)
    with pytest.raises(AlreadyExistsError):
        await store.sessions.advance(
            session.id, SessionEvent.FINISHED, NOW, why="", release=release
        )
    assert await store.sessions.session(session.id) == session
    desktop = await store.desktops.desktop("dsk_library_1")
    assert desktop is not None
    assert desktop.state is DesktopState.ASSIGNED


async def test_of_many_reports_at_once_exactly_one_moves_the_session(store: Store) -> None:
    session = await delivering(store)

    async def report() -> bool:
        try:
            await store.sessions.advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="")
        except IllegalTransitionError:
            return False
        return True

    moved = await asyncio.gather(*(report() for _ in range(30)))
    assert sum(moved) == 1
    found = await store.sessions.session(session.id)
    assert found is not None
    assert found.revision == session.revision + 1


async def test_phases_are_appended_and_traffic_added(store: Store) -> None:
    session = await delivering(store)
    boot = PhaseReport(name="boot", took_ms=12.5, bytes_down=2**40)
    logon = PhaseReport(name="logon", took_ms=0.25, bytes_up=3)
    note = store.sessions.note_phases
    await note(session.id, [boot], Traffic(control=1, display=2, image=2**50))
    await note(session.id, [logon], Traffic(control=10))
    await note(session.id, [], Traffic(display=5))
    assert await store.sessions.session(session.id) == replace(
        session,
        phases=(boot, logon),
        traffic=Traffic(control=11, display=7, image=2**50),
        revision=session.revision + 2,
    )


async def test_only_the_newest_phases_are_kept(store: Store) -> None:
    session = await delivering(store)
    reports = [PhaseReport(name=f"p{n}", took_ms=float(n)) for n in range(PHASES_MAX + 5)]
    for at in range(0, len(reports), 10):
        await store.sessions.note_phases(session.id, reports[at : at + 10], Traffic())
    found = await store.sessions.session(session.id)
    assert found is not None
    assert found.phases == tuple(reports[-PHASES_MAX:])


async def test_notes_of_an_unknown_session_are_ignored(store: Store) -> None:
    await store.sessions.note_phases("ses_9", [PhaseReport(name="x", took_ms=1)], Traffic())
    await store.sessions.note_phases("ses_9", [], Traffic(control=1))


async def test_traffic_of_many_reports_at_once_is_all_counted(store: Store) -> None:
    session = await delivering(store)
    phase = PhaseReport(name="x", took_ms=1)
    note = store.sessions.note_phases
    await asyncio.gather(
        *(note(session.id, [], Traffic(display=1)) for _ in range(20)),
        *(note(session.id, [phase], Traffic(display=1)) for _ in range(10)),
    )
    found = await store.sessions.session(session.id)
    assert found is not None
    assert (found.traffic.display, len(found.phases)) == (30, 10)


async def test_expired_sessions_come_oldest_deadline_first(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, range(6))
    sessions = []
    for user, deadline_at in ((1, NOW + 30), (2, NOW + 10), (3, NOW + 20), (4, NOW + 40)):
        request = make_request(user, deliver_deadline_at=deadline_at)
        sessions.append(await claimed_session(store, request))
    live = await claimed_session(store, make_request(5, deliver_deadline_at=NOW + 1))
    await store.sessions.advance(live.id, SessionEvent.REPORTED_LIVE, NOW, why="")
    one, two, three, _ = sessions
    assert await store.sessions.expired(NOW + 30, 10) == (two, three, one)
    assert await store.sessions.expired(NOW + 30, 2) == (two, three)
    assert await store.sessions.expired(NOW + 9, 10) == ()


async def test_sessions_at_endpoints_are_found_by_state(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, range(4))
    one = await claimed_session(store, make_request(1, endpoint_id="ept_1"))
    two = await claimed_session(store, make_request(2, endpoint_id="ept_2"))
    await claimed_session(store, make_request(3))
    two = await store.sessions.advance(two.id, SessionEvent.REPORTED_LIVE, NOW, why="")
    at = store.sessions.at_endpoints
    both = (SessionState.DELIVERING, SessionState.ACTIVE)
    assert set(await at(["ept_1", "ept_2", "ept_9"], both)) == {one, two}
    assert await at(["ept_1", "ept_2"], [SessionState.ACTIVE]) == (two,)
    assert await at([], both) == ()
    assert await at(["ept_1"], []) == ()


async def test_sessions_with_desktops_are_found_by_state(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, range(3))
    one, two, three = [await claimed_session(store, make_request(user)) for user in (1, 2, 3)]
    two = await store.sessions.advance(two.id, SessionEvent.REPORTED_LIVE, NOW, why="")
    having = store.sessions.with_desktops
    both = (SessionState.DELIVERING, SessionState.ACTIVE)
    desktops = [session.desktop_id or "" for session in (one, two)]
    assert set(await having([*desktops, "dsk_9"], both)) == {one, two}
    assert await having([*desktops, three.desktop_id or ""], [SessionState.ACTIVE]) == (two,)
    assert await having([], both) == ()
    assert await having(desktops, []) == ()


async def test_some_sessions_are_read_together(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, range(3))
    one, two, _ = [await claimed_session(store, make_request(user)) for user in (1, 2, 3)]
    assert set(await store.sessions.some([two.id, "ses_none", one.id, one.id])) == {one, two}
    assert await store.sessions.some(["ses_none"]) == ()
    assert await store.sessions.some([]) == ()
