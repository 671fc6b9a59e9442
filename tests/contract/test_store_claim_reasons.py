"""Each decision says why, to the help desk and to the person, in every store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.lifecycle import DesktopEvent, SessionEvent
from broker.domain.model import PoolKind
from broker.domain.policy.rules import Quota, QuotaScope
from broker.domain.settings import TakeOver
from broker.ports import PageQuery, Store
from tests.support.builders import NOW
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    claimed_session,
    fill,
    make_request,
    ready_desktops,
)

OWNED = replace(VDI, kind=PoolKind.DEDICATED)


async def entries(store: Store, **filters: str) -> list[AuditEntry]:
    """Oldest first."""
    page = await store.audit.entries(PageQuery(filters=filters))
    return list(reversed(page.items))


async def why(store: Store) -> str:
    """What the newest entry says."""
    return (await entries(store))[-1].why


async def test_a_claim_leaves_an_entry_about_everything(store: Store) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1])
    request = make_request(endpoint_id="ept_2", request_id="req_1", source="10.0.0.7")
    session = await claimed_session(store, request, NOW + 3)
    assert await entries(store) == [
        AuditEntry(
            id=f"{session.id}:claim:{request.ticket_id}",
            at=NOW + 3,
            actor="usr_1",
            action="session.connect",
            outcome=Outcome.DONE,
            why="given library-0001: the first ready desktop of Library by name",
            details={"state": "delivering", "new": True},
            user_id="usr_1",
            session_id=session.id,
            desktop_id=desktop.id,
            pool_id=VDI.id,
            host_id="hst_1",
            endpoint_id="ept_2",
            request_id="req_1",
            source="10.0.0.7",
        )
    ]
    assert session.why == (
        "you were given library-0001 because it was the first ready desktop of Library by name"
    )


async def test_somebody_else_may_have_asked(store: Store) -> None:
    await fill(store)
    await claim_one(store, make_request(actor="usr_7"))
    (entry,) = await entries(store)
    assert (entry.actor, entry.user_id) == ("usr_7", "usr_1")


async def test_ones_own_desktop_is_given_because_it_is_ones_own(store: Store) -> None:
    await fill(store)
    await store.directory.save_pool(OWNED, new=False)
    await ready_desktops(store, [1], owner_id="usr_1")
    session = await claimed_session(store, make_request(1, OWNED))
    assert await why(store) == "given library-0001: it is yours"
    assert session.why == "you were given library-0001 because it is yours"


async def test_an_endpoints_desktop_is_given_because_it_is_the_endpoints(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1], IDV)
    await claim_one(store, make_request(1, IDV, endpoint_id="ept_1"))
    assert await why(store) == "given laboratory-0001: it is the desktop of this endpoint"


async def test_who_waits_is_told_for_what_and_at_which_place(store: Store) -> None:
    await fill(store)
    first = await claimed_session(store, make_request(1))
    assert await why(store) == "waits: no desktop of Library is ready, place 1"
    assert first.why == "you wait because no desktop of Library is ready"
    await claim_one(store, make_request(2), NOW + 1)
    assert await why(store) == "waits: others wait for Library already, place 2"
    await claim_one(store, make_request(3, IDV, endpoint_id="ept_1"), NOW + 2)
    expected = "waits: the desktop of this endpoint in Library is not ready, place 1"
    assert await why(store) == expected


async def test_refusals_name_their_limit(store: Store) -> None:
    await fill(store)
    few = Quota(id="quo_1", name="Two each", scope=QuotaScope.USER, sessions_max=0)
    requests = [
        make_request(1, queue_limit=0),
        make_request(1, quotas=(few,)),
        make_request(1, idempotency_key="k", request_hash=b"1"),
        make_request(1, idempotency_key="k", request_hash=b"2"),
    ]
    await store.sessions.claim(requests, NOW)
    found = {one.id: one for one in await entries(store)}
    ids = [f"{one.session_id}:claim:{one.ticket_id}" for one in requests]
    assert [found[one].why for one in ids] == [
        "refused: 0 wait for Library already",
        "refused: quota 'Two each' allows 0",
        "waits: no desktop of Library is ready, place 1",
        "refused: the idempotency key was used for another request",
    ]
    assert [found[one].outcome is Outcome.REFUSED for one in ids] == [True, True, False, True]
    assert [found[one].session_id != "" for one in ids] == [False, False, True, False]


@pytest.mark.parametrize(
    ("take_over", "says", "outcome"),
    [
        (TakeOver.MOVE, "moved with library-0001 to the place that asked", Outcome.DONE),
        (TakeOver.ASK, "asked: the person at the first place must agree first", Outcome.DONE),
        (
            TakeOver.REFUSE,
            "refused: the session is in use at another place and does not move",
            Outcome.REFUSED,
        ),
    ],
)
async def test_a_take_over_leaves_an_entry(
    store: Store, take_over: TakeOver, says: str, outcome: Outcome
) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    await claim_one(store, make_request(endpoint_id="ept_1"))
    await claim_one(store, make_request(endpoint_id="ept_2", take_over=take_over), NOW + 1)
    newest = (await entries(store))[-1]
    assert (newest.why, newest.outcome, newest.endpoint_id) == (says, outcome, "ept_2")


async def test_who_was_served_from_the_queue_is_told_why_it_was_this_desktop(store: Store) -> None:
    await fill(store)
    session = await claimed_session(store, make_request())
    await ready_desktops(store, [1])
    (served,) = await store.sessions.serve_queue(VDI, [session.id], NOW + 9, NOW + 5)
    newest = (await entries(store))[-1]
    assert (newest.id, newest.action, newest.actor) == (
        f"{session.id}:2",
        "session.claimed",
        "broker",
    )
    assert newest.why == "given library-0001: the first ready desktop of Library by name"
    assert newest.details == {"from": "queued", "to": "delivering"}
    assert served.why.startswith("you were given library-0001 because ")


async def test_every_move_of_a_session_leaves_an_entry(store: Store) -> None:
    await fill(store)
    await ready_desktops(store, [1])
    session = await claimed_session(store, make_request(endpoint_id="ept_1"))
    await store.sessions.advance(
        session.id, SessionEvent.LOG_OFF, NOW + 5, why="ended by alice", actor="usr_9"
    )
    newest = (await entries(store, session_id=session.id))[-1]
    assert newest == AuditEntry(
        id=f"{session.id}:2",
        at=NOW + 5,
        actor="usr_9",
        action="session.log_off",
        outcome=Outcome.DONE,
        why="ended by alice",
        details={"from": "delivering", "to": "ending"},
        user_id="usr_1",
        session_id=session.id,
        desktop_id="dsk_library_1",
        pool_id=VDI.id,
        endpoint_id="ept_1",
    )


def entry(**changes: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "id": "ent_1",
        "at": NOW,
        "actor": "broker",
        "action": "desktop.asked",
        "outcome": Outcome.DONE,
    }
    return AuditEntry(**(values | changes))


async def test_a_desktops_move_takes_its_entry_along_or_leaves_none(store: Store) -> None:
    await fill(store)
    (desktop,) = await ready_desktops(store, [1])
    advance = store.desktops.advance
    with pytest.raises(Exception, match="does not take"):
        await advance(desktop.id, DesktopEvent.CREATED, NOW, entry=entry())
    assert await entries(store) == []
    await advance(desktop.id, DesktopEvent.DELETE_ASKED, NOW, entry=entry())
    assert await entries(store) == [entry()]
