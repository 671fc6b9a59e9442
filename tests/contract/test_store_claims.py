"""Claims: who gets which desktop, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.errors import AlreadyExistsError, ConflictError
from broker.domain.lifecycle import DesktopEvent, EndpointEvent, SessionEvent
from broker.domain.model import Desktop, DesktopState, PoolKind, Session, SessionState
from broker.limits import CLAIM_BATCH_MAX
from broker.ports import ClaimOutcome, Release, SessionChange, Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    claimed_session,
    fill,
    make_ready,
    make_request,
    new_desktop,
    ready_desktops,
)

OWNED = replace(VDI, kind=PoolKind.DEDICATED)


async def redeemable(store: Store, outcome: ClaimOutcome, secret_hash: bytes) -> bool:
    ticket = await store.credentials.redeem_ticket(secret_hash, NOW)
    if ticket is not None:
        assert outcome.session is not None
        assert (ticket.session_id, ticket.user_id) == (outcome.session.id, outcome.session.user_id)
    return ticket is not None


async def test_a_claim_assigns_the_ready_desktop_of_the_lowest_name(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [3, 1, 2])
    request = make_request()
    outcome = await claim_one(store, request, NOW + 7)
    session, desktop = outcome.session, outcome.desktop
    assert session == Session(
        id=request.session_id,
        user_id="usr_1",
        pool_id=VDI.id,
        architecture=VDI.architecture,
        desktop_id="dsk_library_1",
        endpoint_id=None,
        group_id="grp_1",
        state=SessionState.DELIVERING,
        deadline_at=request.deliver_deadline_at,
        generation=1,
        revision=1,
        why="you were given library-0001 because it was the first ready desktop of Library by name",
        requested_at=NOW + 7,
        assigned_at=NOW + 7,
        live_at=None,
        ended_at=None,
        lease_until=None,
    )
    assert desktop is not None
    assert desktop.state is DesktopState.ASSIGNED
    assert (desktop.owner_id, desktop.changed_at) == (None, NOW + 7)
    assert (outcome.new, outcome.place) == (True, None)
    assert await store.sessions.session(request.session_id) == session
    assert await store.desktops.desktop("dsk_library_1") == desktop
    assert outcome.ticket_stored
    assert await redeemable(store, outcome, request.ticket_secret_hash)


async def test_a_claim_carries_the_desktops_generation(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], generation=6)
    assert (await claimed_session(store, make_request())).generation == 6


async def test_asking_again_answers_the_same_session_with_a_ticket_of_its_own(
    store: Store,
) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    first = await claim_one(store, make_request())
    request = make_request()
    again = await claim_one(store, request)
    assert again == ClaimOutcome(session=first.session, desktop=first.desktop, ticket_stored=True)
    assert await redeemable(store, again, request.ticket_secret_hash)
    assert (await store.desktops.counts())[VDI.id, "ready"] == 1


async def test_a_user_may_have_a_session_in_each_pool(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    await ready_desktops(store, [1], IDV)
    await claimed_session(store, make_request())
    other = await claim_one(store, make_request(1, IDV, endpoint_id="ept_1"))
    assert other.new


async def test_without_a_ready_desktop_people_wait_and_are_told_their_fair_place(
    store: Store,
) -> None:
    await fill(store)
    groups = ["grp_1", "grp_1", "grp_2", None]
    outcomes = await store.sessions.claim(
        [make_request(n, group_id=group) for n, group in enumerate(groups, start=1)], NOW
    )
    assert [one.place for one in outcomes] == [1, 4, 2, 3]
    for outcome in outcomes:
        session = outcome.session
        assert session is not None
        assert session.state is SessionState.QUEUED
        assert (session.desktop_id, session.generation, session.assigned_at) == (None, 0, None)
        assert session.deadline_at == NOW + 1_800_000
        assert (outcome.desktop, outcome.ticket_stored, outcome.new) == (None, False, True)


async def test_who_waits_is_told_the_place_again_and_gets_no_ticket(store: Store) -> None:
    await fill(store)
    await claim_one(store, make_request(1))
    waiting = await claim_one(store, make_request(2))
    request = make_request(2)
    again = await claim_one(store, request, NOW + 5)
    assert waiting.session is not None
    assert waiting.session.active_at == NOW
    assert again == ClaimOutcome(session=replace(waiting.session, active_at=NOW + 5), place=2)
    assert await store.sessions.session(waiting.session.id) == again.session
    assert await store.credentials.redeem_ticket(request.ticket_secret_hash, NOW) is None


async def test_nobody_overtakes_those_who_wait(store: Store) -> None:
    await fill(store)
    await claim_one(store, make_request(1))
    await ready_desktops(store, [1])
    outcome = await claim_one(store, make_request(2))
    assert outcome.place == 2
    assert (await store.desktops.counts())[VDI.id, "ready"] == 1


async def test_a_full_queue_refuses_and_stores_nothing(store: Store) -> None:
    await fill(store)
    requests = [make_request(n, queue_limit=2, idempotency_key="k") for n in (1, 2, 3)]
    outcomes = await store.sessions.claim(requests, NOW)
    assert [one.queue_full for one in outcomes] == [False, False, True]
    assert outcomes[2] == ClaimOutcome(queue_full=True)
    assert await store.sessions.session(requests[2].session_id) is None
    assert len(await store.sessions.waiting(VDI.id)) == 2
    await ready_desktops(store, [1])
    later = await claim_one(store, replace(requests[2], queue_limit=3))
    assert later.new


async def test_a_disconnected_session_is_taken_up_from_another_endpoint(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id="ept_1"))
    await store.sessions.advance(session.id, SessionEvent.DISCONNECTED, NOW, why="away")
    request = make_request(endpoint_id="ept_2", deliver_deadline_at=NOW + 99)
    outcome = await claim_one(store, request, NOW + 9)
    back = outcome.session
    assert back == replace(
        session,
        endpoint_id="ept_2",
        deadline_at=NOW + 99,
        revision=3,
        why="you are back at library-0001, which was kept for you",
    )
    assert not outcome.new
    assert await store.sessions.session(session.id) == back
    # an endpoint gets its ticket with its order
    assert not outcome.ticket_stored
    assert await store.credentials.redeem_ticket(request.ticket_secret_hash, NOW) is None


async def test_a_disconnected_session_is_taken_up_in_another_browser(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id="ept_1"))
    await store.sessions.advance(session.id, SessionEvent.DISCONNECTED, NOW, why="away")
    request = make_request(browser="tok_2")
    outcome = await claim_one(store, request, NOW + 9)
    assert outcome.session is not None
    assert (outcome.session.endpoint_id, outcome.session.browser) == (None, "tok_2")
    assert await store.sessions.session(session.id) == outcome.session
    assert await redeemable(store, outcome, request.ticket_secret_hash)


async def test_a_disconnected_session_on_a_fat_endpoint_stays_there(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], IDV)
    session = await claimed_session(store, make_request(1, IDV, endpoint_id="ept_1"))
    await store.sessions.advance(
        session.id, SessionEvent.DISCONNECTED, NOW, why="left", change=SessionChange(move=True)
    )
    outcome = await claim_one(store, make_request(1, IDV, endpoint_id="ept_2"))
    assert outcome.session is not None
    assert outcome.session.id == session.id
    assert outcome.session.endpoint_id == "ept_1"
    assert outcome.session.state is SessionState.DELIVERING


async def test_an_endpoints_own_desktop_is_given_and_no_other(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2], IDV)
    bound = await claim_one(store, make_request(1, IDV, endpoint_id="ept_2"))
    assert bound.session is not None
    assert bound.session.desktop_id == "dsk_laboratory_2"
    taken = await claim_one(store, make_request(2, IDV, endpoint_id="ept_2"))
    assert taken.place == 1


async def test_an_endpoints_own_desktop_is_given_though_others_wait(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2], IDV)
    await claim_one(store, make_request(1, IDV, endpoint_id="ept_1"))
    await claim_one(store, make_request(2, IDV, endpoint_id="ept_1"))
    outcome = await claim_one(store, make_request(3, IDV, endpoint_id="ept_2"))
    assert outcome.desktop is not None
    assert outcome.desktop.endpoint_id == "ept_2"


async def test_an_endpoints_desktop_is_given_to_nobody_who_names_no_endpoint(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2], IDV)
    session = await claimed_session(store, make_request(1, IDV))
    assert (session.state, session.desktop_id) == (SessionState.QUEUED, None)


async def test_a_thin_endpoint_of_the_request_stays_with_the_session(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id="ept_3"))
    assert session.endpoint_id == "ept_3"


async def own(store: Store, user: int, desktop: Desktop) -> None:
    """Let the user use the desktop of a dedicated pool once and log off."""
    session = await claimed_session(store, make_request(user, OWNED))
    assert session.desktop_id == desktop.id
    await store.sessions.advance(session.id, SessionEvent.LOG_OFF, NOW, why="bye")
    await store.sessions.advance(
        session.id,
        SessionEvent.FINISHED,
        NOW,
        why="bye",
        release=Release(event=DesktopEvent.RELEASED_KEEP, fresh=False, deadline_at=None),
    )


async def test_a_dedicated_desktop_stays_its_first_users(store: Store) -> None:
    await fill(store)
    await store.directory.save_pool(OWNED, new=False)
    first, second = await ready_desktops(store, [1, 2])
    await own(store, 1, first)
    kept = await store.desktops.desktop(first.id)
    assert kept is not None
    assert (kept.owner_id, kept.state) == ("usr_1", DesktopState.READY)
    outcomes = await store.sessions.claim([make_request(user, OWNED) for user in (2, 3, 1)], NOW)
    got = [one.desktop.id if one.desktop else None for one in outcomes]
    # the third is given what is his own: it serves nobody else who waits
    assert got == [second.id, None, first.id]
    assert outcomes[1].place == 1


async def test_a_users_own_desktop_goes_before_a_free_one_of_a_lower_name(store: Store) -> None:
    await fill(store)
    await store.directory.save_pool(OWNED, new=False)
    (second,) = await ready_desktops(store, [2])
    await own(store, 1, second)
    await ready_desktops(store, [1])
    outcome = await claim_one(store, make_request(1, OWNED))
    assert outcome.desktop is not None
    assert outcome.desktop.id == second.id


async def test_a_floating_pool_gives_no_desktop_that_somebody_owns(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], owner_id="usr_5")
    assert (await claim_one(store, make_request(1))).place == 1


async def test_a_desktop_whose_lost_session_is_not_ended_yet_is_not_given(store: Store) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1], IDV)
    await claimed_session(store, make_request(1, IDV, endpoint_id="ept_1"))
    await store.desktops.advance(desktop.id, DesktopEvent.FAILED, NOW)
    await store.endpoints.presence("ept_1", EndpointEvent.CONNECTED, NOW)
    back = await store.desktops.advance(desktop.id, DesktopEvent.REPORTED_READY, NOW)
    assert back.state is DesktopState.READY
    outcome = await claim_one(store, make_request(2, IDV, endpoint_id="ept_1"))
    assert outcome.place == 1


# ------------------------------------------------------------------------- idempotency keys


async def test_a_repeated_key_answers_what_it_made_even_when_that_is_over(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    request = make_request(idempotency_key="k", request_hash=b"h")
    session = await claimed_session(store, request)
    await store.sessions.advance(session.id, SessionEvent.FAILED, NOW, why="broken")
    replay = make_request(idempotency_key="k", request_hash=b"h")
    outcome = await claim_one(store, replay)
    assert outcome.session is not None
    assert outcome.session.id == session.id
    assert outcome.session.state is SessionState.FAILED
    assert (outcome.new, outcome.desktop, outcome.ticket_stored) == (False, None, False)
    assert await store.credentials.redeem_ticket(replay.ticket_secret_hash, NOW) is None


async def test_a_key_used_for_something_else_is_a_mismatch(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    await claim_one(store, make_request(idempotency_key="k", request_hash=b"h"))
    outcome = await claim_one(store, make_request(idempotency_key="k", request_hash=b"other"))
    assert outcome == ClaimOutcome(mismatch=True)


async def test_keys_of_two_users_have_nothing_to_do_with_each_other(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    one = await claim_one(store, make_request(1, idempotency_key="k", request_hash=b"1"))
    two = await claim_one(store, make_request(2, idempotency_key="k", request_hash=b"2"))
    assert one.new
    assert two.new


@pytest.mark.parametrize("key", ["", " ", "\x00", "\udcff", "键" * 200])
async def test_whatever_a_key_is_made_of_it_works_and_harms_nobody(store: Store, key: str) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    requests = [make_request(1), make_request(2, idempotency_key=key)]
    outcomes = await store.sessions.claim(requests, NOW)
    assert all(one.new for one in outcomes)
    replay = make_request(2, idempotency_key=key, request_hash=b"other")
    assert (await claim_one(store, replay)).mismatch


async def test_a_key_that_met_a_live_session_stays_with_it(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    session = await claimed_session(store, make_request())
    await claim_one(store, make_request(idempotency_key="k", request_hash=b"h"))
    await store.sessions.advance(session.id, SessionEvent.FAILED, NOW, why="broken")
    replay = await claim_one(store, make_request(idempotency_key="k", request_hash=b"h"))
    assert replay.session is not None
    assert replay.session.id == session.id


async def test_a_repeated_key_of_one_who_waits_tells_the_place(store: Store) -> None:
    await fill(store)
    await claim_one(store, make_request(1))
    await claim_one(store, make_request(2, idempotency_key="k"))
    assert (await claim_one(store, make_request(2, idempotency_key="k"))).place == 2


# --------------------------------------------------------------------------------- batches


async def test_a_batch_is_decided_in_the_order_given(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    requests = [
        make_request(1),
        make_request(1),
        make_request(2, idempotency_key="k", request_hash=b"h"),
        make_request(2, idempotency_key="k", request_hash=b"h"),
        make_request(2, idempotency_key="k", request_hash=b"other"),
        make_request(3),
    ]
    outcomes = await store.sessions.claim(requests, NOW)
    got = [one.session.id if one.session else None for one in outcomes]
    first, second, last = requests[0].session_id, requests[2].session_id, requests[5].session_id
    assert got == [first, first, second, second, None, last]
    assert [one.new for one in outcomes] == [True, False, True, False, False, True]
    assert outcomes[4].mismatch
    assert outcomes[5].place == 1
    assert [one.ticket_stored for one in outcomes] == [True, True, True, True, False, False]


async def test_a_batch_of_the_largest_size_gives_each_a_desktop_of_its_own(store: Store) -> None:
    await fill(store, users=CLAIM_BATCH_MAX)
    await store.desktops.add([new_desktop(n) for n in range(CLAIM_BATCH_MAX)], [])
    for number in range(CLAIM_BATCH_MAX):
        await make_ready(store, new_desktop(number))
    requests = [make_request(user, VDI) for user in range(1, CLAIM_BATCH_MAX + 1)]
    outcomes = await store.sessions.claim(requests, NOW)
    got = [one.desktop.name for one in outcomes if one.desktop is not None]
    assert got == [f"library-{number:04d}" for number in range(CLAIM_BATCH_MAX)]
    with pytest.raises(ValueError, match="128"):
        await store.sessions.claim([*requests, make_request()], NOW)


async def test_an_empty_batch_is_answered(store: Store) -> None:
    assert await store.sessions.claim([], NOW) == ()


async def test_a_batch_over_several_pools_is_decided_at_once(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    await ready_desktops(store, [1, 2], IDV)
    outcomes = await store.sessions.claim(
        [
            make_request(1),
            make_request(1, IDV, endpoint_id="ept_2"),
            make_request(2, IDV),
            make_request(2),
        ],
        NOW,
    )
    got = [one.desktop.id if one.desktop else None for one in outcomes]
    assert got == ["dsk_library_1", "dsk_laboratory_2", None, None]


async def test_a_batch_with_an_unknown_person_stores_nothing(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    requests = [make_request(1), make_request(99)]
    with pytest.raises(ConflictError):
        await store.sessions.claim(requests, NOW)
    assert await store.sessions.session(requests[0].session_id) is None
    assert (await store.desktops.counts()) == {(VDI.id, "ready"): 1}


async def test_a_session_id_is_used_once(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    request = make_request(1)
    await claim_one(store, request)
    with pytest.raises(AlreadyExistsError):
        await claim_one(store, replace(make_request(2), session_id=request.session_id))
    assert (await store.desktops.counts())[VDI.id, "ready"] == 1


async def test_many_claims_at_once_give_nobody_two_and_no_desktop_twice(store: Store) -> None:
    await fill(store, users=30)
    await ready_desktops(store, range(20))
    outcomes = await asyncio.gather(
        *(claim_one(store, make_request(user)) for user in range(1, 31) for _ in range(3))
    )
    sessions = {one.session.id: one.session for one in outcomes if one.session is not None}
    assert len(sessions) == 30
    assert sum(one.new for one in outcomes) == 30
    held = [one.desktop_id for one in sessions.values() if one.desktop_id is not None]
    assert len(held) == len(set(held)) == 20
