"""A person asks for a live session from another endpoint, in every store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.lifecycle import SessionEvent
from broker.domain.model import Session, SessionState, Wish
from broker.domain.settings import TakeOver
from broker.ports import ClaimOutcome, ClaimRequest, SessionChange, Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    claim_one,
    claimed_session,
    fill,
    make_request,
    ready_desktops,
)


async def live(store: Store, endpoint_id: str | None = "ept_1") -> Session:
    """An active session of user 1."""
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id=endpoint_id))
    return await store.sessions.advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="live")


def asks(endpoint_id: str | None, take_over: TakeOver, **changes: Any) -> ClaimRequest:
    return make_request(
        endpoint_id=endpoint_id,
        take_over=take_over,
        wish_id="wsh_1",
        wish_until=NOW + 60_000,
        deliver_deadline_at=NOW + 99,
        **changes,
    )


async def has_ticket(store: Store, request: ClaimRequest) -> bool:
    return await store.credentials.redeem_ticket(request.ticket_secret_hash, NOW) is not None


@pytest.mark.parametrize("other", ["ept_2", None])
async def test_a_live_session_moves_to_where_its_person_is(store: Store, other: str | None) -> None:
    session = await live(store)
    request = asks(other, TakeOver.MOVE)
    outcome = await claim_one(store, request, NOW + 5)
    moved = replace(
        session,
        state=SessionState.DELIVERING,
        endpoint_id=other,
        deadline_at=NOW + 99,
        revision=session.revision + 1,
        why="your session moved to the endpoint where you are now",
    )
    assert outcome == ClaimOutcome(
        session=moved, desktop=outcome.desktop, ticket_stored=True, left_endpoint="ept_1"
    )
    assert outcome.desktop is not None
    assert outcome.desktop.id == session.desktop_id
    assert await store.sessions.session(session.id) == moved
    assert await has_ticket(store, request)


async def test_a_session_that_is_still_delivered_moves_too(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id="ept_1"))
    outcome = await claim_one(store, asks("ept_2", TakeOver.MOVE))
    assert outcome.session is not None
    assert (outcome.session.endpoint_id, outcome.session.revision) == ("ept_2", 2)
    assert outcome.left_endpoint == "ept_1"
    assert session.id == outcome.session.id


async def test_two_endpoints_in_one_batch_leave_the_session_at_the_second(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    first, second = await store.sessions.claim(
        [asks("ept_1", TakeOver.MOVE), asks("ept_2", TakeOver.MOVE)], NOW
    )
    assert first.new
    assert second.session is not None
    assert (second.new, second.left_endpoint, second.session.revision) == (False, "ept_1", 2)
    assert await store.sessions.session(second.session.id) == second.session


@pytest.mark.parametrize("take_over", list(TakeOver))
async def test_asking_again_at_the_same_endpoint_changes_nothing(
    store: Store, take_over: TakeOver
) -> None:
    session = await live(store)
    request = asks("ept_1", take_over)
    outcome = await claim_one(store, request)
    assert outcome == ClaimOutcome(session=session, desktop=outcome.desktop, ticket_stored=True)
    assert await has_ticket(store, request)


async def test_a_session_that_may_not_move_stays_and_gives_no_ticket_away(store: Store) -> None:
    session = await live(store)
    request = asks("ept_2", TakeOver.REFUSE)
    outcome = await claim_one(store, request)
    assert outcome == ClaimOutcome(session=session, desktop=outcome.desktop, elsewhere=True)
    assert await store.sessions.session(session.id) == session
    assert not await has_ticket(store, request)


async def test_where_consent_is_needed_the_wish_is_kept_and_no_ticket_given(store: Store) -> None:
    session = await live(store)
    request = asks("ept_2", TakeOver.ASK)
    outcome = await claim_one(store, request)
    asked = replace(
        session,
        revision=session.revision + 1,
        why="the person at the first endpoint is asked whether the session may move",
        wish=Wish(id="wsh_1", endpoint_id="ept_2", until=NOW + 60_000),
    )
    assert outcome == ClaimOutcome(session=asked, desktop=outcome.desktop)
    assert await store.sessions.session(session.id) == asked
    assert not await has_ticket(store, request)


async def test_a_pending_wish_stands_until_it_is_over_or_comes_from_elsewhere(store: Store) -> None:
    await live(store)
    first = await claim_one(store, asks("ept_2", TakeOver.ASK))
    again = await claim_one(store, replace(asks("ept_2", TakeOver.ASK), wish_id="wsh_2"), NOW + 5)
    assert again.session == first.session
    other = await claim_one(store, replace(asks("ept_3", TakeOver.ASK), wish_id="wsh_3"), NOW + 5)
    assert other.session is not None
    assert other.session.wish == Wish(id="wsh_3", endpoint_id="ept_3", until=NOW + 60_000)
    late = replace(asks("ept_3", TakeOver.ASK), wish_id="wsh_4", wish_until=NOW + 120_000)
    outcome = await claim_one(store, late, NOW + 60_000)
    assert outcome.session is not None
    assert outcome.session.wish == Wish(id="wsh_4", endpoint_id="ept_3", until=NOW + 120_000)


async def test_moving_a_session_settles_a_wish(store: Store) -> None:
    await live(store)
    await claim_one(store, asks("ept_2", TakeOver.ASK))
    outcome = await claim_one(store, asks("ept_3", TakeOver.MOVE))
    assert outcome.session is not None
    assert (outcome.session.wish, outcome.session.endpoint_id) == (None, "ept_3")
    assert await store.sessions.session(outcome.session.id) == outcome.session


async def test_coming_back_settles_a_wish(store: Store) -> None:
    session = await live(store)
    await claim_one(store, asks("ept_2", TakeOver.ASK))
    left = SessionChange(move=True)
    await store.sessions.advance(session.id, SessionEvent.DISCONNECTED, NOW, why="", change=left)
    outcome = await claim_one(store, asks("ept_3", TakeOver.REFUSE))
    assert outcome.session is not None
    assert (outcome.session.wish, outcome.session.endpoint_id) == (None, "ept_3")
    assert await store.sessions.session(session.id) == outcome.session


async def test_a_repeated_request_does_not_take_a_session_back(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    await claim_one(store, make_request(endpoint_id="ept_1", idempotency_key="k"))
    moved = await claim_one(store, asks("ept_2", TakeOver.MOVE))
    late = make_request(endpoint_id="ept_1", idempotency_key="k")
    outcome = await claim_one(store, late)
    assert outcome == ClaimOutcome(session=moved.session, desktop=moved.desktop, elsewhere=True)
    assert not await has_ticket(store, late)


async def test_a_desktop_on_a_fat_endpoint_does_not_move(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], IDV)
    session = await claimed_session(store, make_request(1, IDV, endpoint_id="ept_1"))
    outcome = await claim_one(store, make_request(1, IDV, endpoint_id="ept_2"))
    assert (outcome.session, outcome.left_endpoint) == (session, None)


async def test_who_waits_is_served_where_he_asked_last(store: Store) -> None:
    await fill(store)
    session = await claimed_session(store, make_request(endpoint_id="ept_1"))
    outcome = await claim_one(store, asks("ept_2", TakeOver.REFUSE), NOW + 5)
    assert outcome.session == replace(session, endpoint_id="ept_2", revision=2, active_at=NOW + 5)
    assert await store.sessions.session(session.id) == outcome.session
    assert outcome.place == 1


async def test_two_endpoints_of_one_user_in_one_batch_find_the_ready_one(store: Store) -> None:
    """The first one's desktop is not ready and there is no room to wait; the second one's is."""
    await fill(store)
    await ready_desktops(store, [2], IDV)
    first, second = await store.sessions.claim(
        [
            make_request(1, IDV, endpoint_id="ept_1", queue_limit=0),
            make_request(1, IDV, endpoint_id="ept_2", queue_limit=0),
        ],
        NOW,
    )
    assert first.queue_full
    assert second.desktop is not None
    assert second.desktop.endpoint_id == "ept_2"
