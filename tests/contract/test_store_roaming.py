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


async def live(
    store: Store, endpoint_id: str | None = "ept_1", browser: str | None = None
) -> Session:
    """An active session of user 1."""
    await fill(store)
    await ready_desktops(store, [1])
    request = make_request(endpoint_id=endpoint_id, browser=browser)
    session = await claimed_session(store, request)
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


@pytest.mark.parametrize(("other", "browser"), [("ept_2", None), (None, "tok_1")])
async def test_a_live_session_moves_to_where_its_person_is(
    store: Store, other: str | None, browser: str | None
) -> None:
    session = await live(store)
    request = asks(other, TakeOver.MOVE, browser=browser)
    outcome = await claim_one(store, request, NOW + 5)
    moved = replace(
        session,
        state=SessionState.DELIVERING,
        endpoint_id=other,
        browser=browser,
        deadline_at=NOW + 99,
        revision=session.revision + 1,
        why="your session moved to where you are now",
    )
    assert outcome == ClaimOutcome(
        session=moved,
        desktop=outcome.desktop,
        ticket_stored=browser is not None,
        left_endpoint="ept_1",
    )
    assert outcome.desktop is not None
    assert outcome.desktop.id == session.desktop_id
    assert await store.sessions.session(session.id) == moved
    # an endpoint gets a ticket of its own with its order
    assert await has_ticket(store, request) is (browser is not None)


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
    assert outcome == ClaimOutcome(session=session, desktop=outcome.desktop)
    assert not await has_ticket(store, request)


@pytest.mark.parametrize("take_over", list(TakeOver))
async def test_the_browser_where_it_is_opens_it_again_without_being_asked(
    store: Store, take_over: TakeOver
) -> None:
    session = await live(store, None, "tok_1")
    request = asks(None, take_over, browser="tok_1")
    outcome = await claim_one(store, request)
    assert outcome == ClaimOutcome(session=session, desktop=outcome.desktop, ticket_stored=True)
    assert await has_ticket(store, request)


async def test_another_browser_takes_over_asks_or_is_refused(store: Store) -> None:
    session = await live(store, None, "tok_1")
    shown = SessionChange(display="tkt_shown")
    session = await store.sessions.advance(
        session.id, SessionEvent.NOTED, NOW, why=session.why, change=shown
    )
    assert session.display == "tkt_shown"
    refused = await claim_one(store, asks(None, TakeOver.REFUSE, browser="tok_2"))
    assert (refused.elsewhere, refused.session) == (True, session)
    asked = await claim_one(store, asks(None, TakeOver.ASK, browser="tok_2"))
    wish = Wish(id="wsh_1", endpoint_id=None, until=NOW + 60_000, browser="tok_2")
    assert asked.session is not None
    assert (asked.session.wish, asked.ticket_stored) == (wish, False)
    third = replace(asks(None, TakeOver.ASK, browser="tok_3"), wish_id="wsh_3")
    assert (await claim_one(store, third)).session != asked.session
    request = asks(None, TakeOver.MOVE, browser="tok_2")
    moved = await claim_one(store, request)
    assert moved.session is not None
    assert (moved.session.browser, moved.session.display, moved.session.wish) == (
        "tok_2",
        None,
        None,
    )
    assert moved.session.state is SessionState.DELIVERING
    assert await store.sessions.session(session.id) == moved.session
    assert await has_ticket(store, request)


@pytest.mark.parametrize("take_over", list(TakeOver))
async def test_a_session_that_is_nowhere_goes_to_the_browser_that_asks(
    store: Store, take_over: TakeOver
) -> None:
    """As one that was live before browsers were told apart."""
    session = await live(store, None)
    outcome = await claim_one(store, asks(None, take_over, browser="tok_1"))
    assert outcome.session is not None
    assert (outcome.session.id, outcome.session.browser) == (session.id, "tok_1")
    assert outcome.ticket_stored


async def test_a_move_takes_browser_and_display_along_and_a_display_changes_nothing_else(
    store: Store,
) -> None:
    session = await live(store, None, "tok_1")
    change = SessionChange(display="tkt_9")
    shown = await store.sessions.advance(
        session.id, SessionEvent.NOTED, NOW, why=session.why, change=change
    )
    assert shown == replace(session, revision=session.revision + 1, display="tkt_9")
    noted = await store.sessions.advance(session.id, SessionEvent.NOTED, NOW, why=session.why)
    assert (noted.browser, noted.display) == ("tok_1", "tkt_9")
    to_browser = SessionChange(move=True, move_to_browser="tok_2")
    moved = await store.sessions.advance(
        session.id, SessionEvent.TAKEN_OVER, NOW, why="", change=to_browser
    )
    assert (moved.endpoint_id, moved.browser, moved.display) == (None, "tok_2", None)
    to_endpoint = SessionChange(move=True, move_to="ept_2")
    moved = await store.sessions.advance(
        session.id, SessionEvent.TAKEN_OVER, NOW, why="", change=to_endpoint
    )
    assert (moved.endpoint_id, moved.browser, moved.display) == ("ept_2", None, None)
    assert await store.sessions.session(session.id) == moved


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
        why="the person at the first place is asked whether the session may move",
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


async def test_who_waits_keeps_the_browser_and_the_address_that_asked_last(store: Store) -> None:
    await fill(store)
    first = make_request(browser="tok_1", source="10.0.0.1", idempotency_key="k")
    session = await claimed_session(store, first)
    assert (session.browser, session.source) == ("tok_1", "10.0.0.1")
    request = asks(None, TakeOver.REFUSE, browser="tok_2", source="10.0.0.2")
    outcome = await claim_one(store, request, NOW + 5)
    assert outcome.session == replace(
        session, browser="tok_2", source="10.0.0.2", revision=2, active_at=NOW + 5
    )
    assert await store.sessions.session(session.id) == outcome.session
    late = make_request(browser="tok_1", source="10.0.0.1", idempotency_key="k")
    repeated = await claim_one(store, late, NOW + 6)
    assert repeated.session is not None
    assert (repeated.session.browser, repeated.session.source) == ("tok_2", "10.0.0.2")


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
