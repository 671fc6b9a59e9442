"""Quotas hold within the claim's own transaction, in every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from broker.domain.lifecycle import SessionEvent
from broker.domain.policy.rules import Quota, QuotaScope
from broker.ports import ClaimOutcome, Store
from tests.support.builders import NOW, make_pool
from tests.support.stores import (
    IDV,
    VDI,
    claim_one,
    claimed_session,
    fill,
    make_request,
    ready_desktops,
)

OFFICE = make_pool(id="pol_3", name="office", group_ids=("grp_1",))


def quota(scope: QuotaScope, sessions_max: int, **changes: Any) -> Quota:
    values: dict[str, Any] = {
        "id": "quo_1",
        "name": "Few",
        "scope": scope,
        "sessions_max": sessions_max,
    }
    return Quota(**(values | changes))


async def test_a_person_gets_no_more_sessions_than_a_quota_allows(store: Store) -> None:
    await fill(store)
    await store.directory.save_pool(OFFICE, new=True)
    await ready_desktops(store, [1])
    quotas = (quota(QuotaScope.USER, 2),)
    assert (await claim_one(store, make_request(1, VDI, quotas=quotas))).new
    # one who waits counts as well
    assert (await claim_one(store, make_request(1, IDV, quotas=quotas))).new
    third = make_request(1, OFFICE, quotas=quotas, idempotency_key="k")
    assert await claim_one(store, third) == ClaimOutcome(over_quota="Few")
    assert await store.sessions.session(third.session_id) is None
    # the refusal used up neither the key nor anybody else's room
    assert (await claim_one(store, replace(third, quotas=()))).new
    assert (await claim_one(store, make_request(2, OFFICE, quotas=quotas))).new


async def test_a_quota_over_some_pools_counts_sessions_of_those_alone(store: Store) -> None:
    await fill(store)
    await store.directory.save_pool(OFFICE, new=True)
    quotas = (quota(QuotaScope.USER, 1, pool_ids=(VDI.id, OFFICE.id)),)
    assert (await claim_one(store, make_request(1, IDV, quotas=quotas))).new
    assert (await claim_one(store, make_request(1, VDI, quotas=quotas))).new
    assert (await claim_one(store, make_request(1, OFFICE, quotas=quotas))).over_quota == "Few"


async def test_a_session_that_is_there_already_is_over_no_quota(store: Store) -> None:
    await fill(store)
    quotas = (quota(QuotaScope.USER, 1), quota(QuotaScope.POOL, 1, id="quo_2"))
    session = await claimed_session(store, make_request(1, quotas=quotas))
    again = await claim_one(store, make_request(1, quotas=quotas))
    assert again.session is not None
    assert again.session.id == session.id


async def test_a_group_shares_its_quota_within_a_batch_and_between_them(store: Store) -> None:
    await fill(store)
    quotas = (quota(QuotaScope.GROUP, 3, group_id="grp_1"),)
    outcomes = await store.sessions.claim(
        [make_request(user, quotas=quotas) for user in (1, 2)], NOW
    )
    assert [one.new for one in outcomes] == [True, True]
    outcomes = await store.sessions.claim(
        [
            make_request(3, quotas=quotas, group_id="grp_2"),
            make_request(4, IDV, quotas=quotas),
            make_request(5, quotas=quotas),
        ],
        NOW,
    )
    # the one of another group neither counts nor is refused
    assert [(one.new, one.over_quota) for one in outcomes] == [
        (True, ""),
        (True, ""),
        (False, "Few"),
    ]
    assert await store.sessions.counts(quotas) == {"quo_1": 3}


async def test_room_under_a_quota_comes_back_when_a_session_ends(store: Store) -> None:
    await fill(store)
    quotas = (quota(QuotaScope.POOL, 1, pool_ids=(VDI.id,)),)
    session = await claimed_session(store, make_request(1, quotas=quotas))
    assert (await claim_one(store, make_request(2, quotas=quotas))).over_quota == "Few"
    await store.sessions.advance(session.id, SessionEvent.CANCELLED, NOW, why="left")
    assert (await claim_one(store, make_request(2, quotas=quotas))).new


async def test_a_quota_that_is_off_refuses_nobody(store: Store) -> None:
    await fill(store)
    for scope in QuotaScope:
        off = quota(scope, 0, enabled=False, group_id="grp_1")
        outcome = await claim_one(store, make_request(1, quotas=(off,)))
        assert outcome.session is not None


async def test_quotas_are_counted_by_group_and_by_pool(store: Store) -> None:
    await fill(store)
    for user, pool, group_id in (
        (1, VDI, "grp_1"),
        (1, IDV, "grp_2"),
        (2, VDI, "grp_2"),
        (3, VDI, "grp_2"),
    ):
        await claim_one(store, make_request(user, pool, group_id=group_id))
    quotas = [
        quota(QuotaScope.GROUP, 9, id="quo_1", group_id="grp_2"),
        quota(QuotaScope.GROUP, 9, id="quo_2", group_id="grp_2", pool_ids=(VDI.id,)),
        quota(QuotaScope.POOL, 9, id="quo_3", pool_ids=(VDI.id,)),
        quota(QuotaScope.POOL, 9, id="quo_4", pool_ids=(VDI.id, IDV.id)),
        quota(QuotaScope.POOL, 9, id="quo_5"),
        quota(QuotaScope.USER, 9, id="quo_6"),
    ]
    assert await store.sessions.counts(quotas) == {
        "quo_1": 3,
        "quo_2": 2,
        "quo_3": 3,
        "quo_4": 4,
        "quo_5": 4,
    }
    assert await store.sessions.counts([]) == {}


async def test_claims_at_once_never_pass_a_quota(store: Store) -> None:
    await fill(store, users=30)
    await ready_desktops(store, range(1, 21))
    quotas = (quota(QuotaScope.GROUP, 7, group_id="grp_1"),)
    outcomes = await asyncio.gather(
        *(claim_one(store, make_request(user, quotas=quotas)) for user in range(1, 31))
    )
    assert sum(one.new for one in outcomes) == 7
    assert {one.over_quota for one in outcomes if not one.new} == {"Few"}
