"""Leases for shared work: one holder at a time, and a fence that tells the old one apart."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from broker.domain.model import WorkLease
from broker.limits import LEASE_SKEW_S
from broker.ports import Store
from tests.support.builders import NOW

SKEW = LEASE_SKEW_S * 1000
LATER = NOW + 15_000


async def test_a_free_lease_is_taken(store: Store) -> None:
    lease = await store.leases.acquire("reconciler", "a", NOW, LATER)
    assert lease == WorkLease(name="reconciler", holder="a", fence=1, until=LATER)
    assert await store.leases.leases() == (lease,)


async def test_its_holder_renews_it_under_the_same_fence(store: Store) -> None:
    await store.leases.acquire("reconciler", "a", NOW, LATER)
    renewed = await store.leases.acquire("reconciler", "a", LATER + 60_000, LATER + 75_000)
    assert renewed == WorkLease(name="reconciler", holder="a", fence=1, until=LATER + 75_000)


async def test_nobody_takes_what_another_holds_even_by_a_clock_that_is_ahead(
    store: Store,
) -> None:
    await store.leases.acquire("reconciler", "a", NOW, LATER)
    assert await store.leases.acquire("reconciler", "b", NOW, LATER) is None
    assert await store.leases.acquire("reconciler", "b", LATER, LATER * 2) is None
    assert await store.leases.acquire("reconciler", "b", LATER + SKEW - 1, LATER * 2) is None
    (lease,) = await store.leases.leases()
    assert (lease.holder, lease.fence, lease.until) == ("a", 1, LATER)


async def test_one_that_ran_out_passes_on_under_the_next_fence(store: Store) -> None:
    await store.leases.acquire("reconciler", "a", NOW, LATER)
    taken = await store.leases.acquire("reconciler", "b", LATER + SKEW, LATER * 2)
    assert taken == WorkLease(name="reconciler", holder="b", fence=2, until=LATER * 2)
    assert await store.leases.acquire("reconciler", "a", LATER + SKEW, LATER * 2) is None


async def test_one_that_was_given_back_is_free_at_once(store: Store) -> None:
    lease = await store.leases.acquire("reconciler", "a", NOW, LATER)
    assert lease is not None
    await store.leases.release(lease)
    (free,) = await store.leases.leases()
    assert (free.holder, free.fence) == ("", 1)
    taken = await store.leases.acquire("reconciler", "a", NOW, LATER)
    assert taken is not None
    assert taken.fence == 2


async def test_only_the_lease_itself_is_given_back(store: Store) -> None:
    first = await store.leases.acquire("reconciler", "a", NOW, LATER)
    assert first is not None
    second = await store.leases.acquire("reconciler", "b", LATER + SKEW, LATER * 2)
    assert second is not None
    for other in (first, replace(second, fence=1), replace(second, name="sealer")):
        await store.leases.release(other)
    assert await store.leases.leases() == (second,)


async def test_leases_do_not_know_each_other(store: Store) -> None:
    for name, holder in (("b", "x"), ("a", "y"), ("c", "x")):
        assert await store.leases.acquire(name, holder, NOW, LATER) is not None
    assert [one.name for one in await store.leases.leases()] == ["a", "b", "c"]


async def test_of_many_takers_at_once_one_wins(store: Store) -> None:
    for fence in (1, 2, 3):
        now = NOW + fence * 10**6
        answers = await asyncio.gather(
            *(store.leases.acquire("x", f"{fence}-{n}", now, now + 1000) for n in range(8))
        )
        (winner,) = [one for one in answers if one is not None]
        assert winner.fence == fence
