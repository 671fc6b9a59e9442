"""What else changes when a session moves, and signs of life, in every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.errors import ConflictError, IllegalTransitionError
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import Notice, Session, Wish
from broker.ports import PageQuery, SessionChange, Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    VDI,
    claimed_session,
    fill,
    make_request,
    ready_desktops,
)

WISH = Wish(id="wsh_1", endpoint_id=None, until=NOW + 60)
NOTICE = Notice(id="ntc_1", text='Save "everything" now – até já', sender="alice", at=NOW)


async def live(store: Store) -> Session:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id="ept_1"))
    return await store.sessions.advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="live")


async def noted(store: Store, session: Session, change: SessionChange) -> Session:
    moved = await store.sessions.advance(
        session.id, SessionEvent.NOTED, NOW + 1, why="noted", change=change
    )
    assert await store.sessions.session(session.id) == moved
    return moved


async def test_what_is_given_is_stored_and_the_rest_stays(store: Store) -> None:
    session = await live(store)
    change = SessionChange(ends_at=NOW + 5, active_at=NOW + 2, notice=NOTICE, wish=WISH)
    moved = await noted(store, session, change)
    assert moved == replace(
        session,
        why="noted",
        revision=session.revision + 1,
        ends_at=NOW + 5,
        active_at=NOW + 2,
        notice=NOTICE,
        wish=WISH,
    )
    again = await noted(store, session, SessionChange())
    assert again == replace(moved, revision=moved.revision + 1)


async def test_a_wish_is_cleared_and_a_notice_replaced(store: Store) -> None:
    session = await live(store)
    await noted(store, session, SessionChange(notice=NOTICE, wish=WISH))
    other = replace(NOTICE, id="ntc_2", text="Bye")
    moved = await noted(store, session, SessionChange(notice=other, clear_wish=True))
    assert (moved.notice, moved.wish) == (other, None)


@pytest.mark.parametrize("to", ["ept_2", None])
async def test_a_session_moves_to_another_endpoint_or_to_none(store: Store, to: str | None) -> None:
    session = await live(store)
    moved = await store.sessions.advance(
        session.id,
        SessionEvent.TAKEN_OVER,
        NOW,
        why="agreed",
        change=SessionChange(move=True, move_to=to),
    )
    assert moved.endpoint_id == to
    assert await store.sessions.session(session.id) == moved


async def test_a_session_does_not_move_to_an_endpoint_that_is_not_there(store: Store) -> None:
    session = await live(store)
    with pytest.raises(ConflictError):
        await store.sessions.advance(
            session.id,
            SessionEvent.TAKEN_OVER,
            NOW,
            why="agreed",
            change=SessionChange(move=True, move_to="ept_99"),
        )
    assert await store.sessions.session(session.id) == session
    assert len((await store.audit.entries(PageQuery())).items) == 2


async def test_a_session_of_another_revision_is_left_alone(store: Store) -> None:
    session = await live(store)
    advance = store.sessions.advance
    with pytest.raises(IllegalTransitionError, match="revision"):
        await advance(session.id, SessionEvent.LOG_OFF, NOW, why="", revision=session.revision - 1)
    assert await store.sessions.session(session.id) == session
    await advance(session.id, SessionEvent.LOG_OFF, NOW, why="", revision=session.revision)


# --------------------------------------------------------------------------- signs of life


async def test_activity_is_written_down_and_never_goes_backwards(store: Store) -> None:
    session = await live(store)
    await store.sessions.active({session.id: NOW + 9, "ses_unknown": NOW})
    await store.sessions.active({session.id: NOW + 4})
    assert await store.sessions.session(session.id) == replace(session, active_at=NOW + 9)
    await store.sessions.active({})


async def test_those_whose_client_went_silent_are_found_oldest_first(store: Store) -> None:
    await fill(store)
    first, second, third = [
        await claimed_session(store, make_request(user), NOW + user) for user in (1, 2, 3)
    ]
    abandoned = store.sessions.abandoned
    assert await abandoned(NOW + 3, 10) == (first, second)
    assert await abandoned(NOW + 9, 1) == (first,)
    # a client that asks again, and one that is heard of otherwise, are there
    again = await claimed_session(store, make_request(1), NOW + 8)
    assert again == replace(first, active_at=NOW + 8)
    await store.sessions.active({second.id: NOW + 7})
    assert [one.id for one in await abandoned(NOW + 100, 10)] == [third.id, second.id, first.id]
    await store.sessions.advance(third.id, SessionEvent.CANCELLED, NOW, why="silent")
    assert [one.id for one in await abandoned(NOW + 100, 10)] == [second.id, first.id]


async def test_who_has_a_desktop_is_not_abandoned(store: Store) -> None:
    session = await live(store)
    await store.sessions.active({session.id: NOW})
    assert await store.sessions.abandoned(NOW + 100, 10) == ()


async def test_live_sessions_whose_display_is_of_no_given_sign_are_dark(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2, 3, 4])
    shown = ["broker:1.1.tkt_1", "broker:1.10.tkt_2", "broker%1.1.tkt_3", None]
    found = []
    for user, display in enumerate(shown, 1):
        claimed = await claimed_session(store, make_request(user), NOW + user)
        change = SessionChange(display=display)
        event = SessionEvent.REPORTED_LIVE
        found.append(
            await store.sessions.advance(claimed.id, event, NOW, why="live", change=change)
        )
    by_id = sorted(found[:3], key=lambda one: one.id)
    assert await store.sessions.dark([], 10) == tuple(by_id)
    assert await store.sessions.dark([], 2) == tuple(by_id[:2])
    living = ["broker:1.1", "broker_1.1"]
    assert await store.sessions.dark(living, 10) == tuple(one for one in by_id if one != found[0])
    for one in found:
        await store.sessions.advance(one.id, SessionEvent.DISCONNECTED, NOW, why="")
    assert await store.sessions.dark([], 10) == ()


async def test_a_display_at_an_endpoint_is_not_dark(store: Store) -> None:
    session = await live(store)
    await noted(store, session, SessionChange(display="broker:1.1.tkt_1"))
    assert await store.sessions.dark([], 10) == ()


async def test_the_lengths_of_queues_are_told(store: Store) -> None:
    await fill(store)
    assert await store.sessions.queue_lengths() == {}
    for user, pool in ((1, VDI), (2, VDI), (1, IDV)):
        await claimed_session(store, make_request(user, pool))
    assert await store.sessions.queue_lengths() == {VDI.id: 2, IDV.id: 1}


async def test_a_move_that_somebody_asked_for_says_by_which_request_and_from_where(
    store: Store,
) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(1))
    advance = store.sessions.advance
    await advance(
        session.id, SessionEvent.LOG_OFF, NOW, why="bye", request_id="req_1", source="10.0.0.9"
    )
    await advance(session.id, SessionEvent.FINISHED, NOW, why="bye")
    query = PageQuery(filters={"session_id": session.id})
    found = {
        one.action: (one.request_id, one.source) for one in (await store.audit.entries(query)).items
    }
    assert found["session.log_off"] == ("req_1", "10.0.0.9")
    assert found["session.finished"] == ("", "")
