"""Circuit breakers as the processes share them."""

from __future__ import annotations

from broker.domain.planning.breaker import BreakerState, state_of
from broker.domain.settings import PoolSettings
from broker.ports import PageQuery
from broker.services.breakers import ERROR_CHARS_MAX, Breakers
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.store.memory import MemoryStore
from tests.support.brokers import HookedStore, fill, make_kit
from tests.support.builders import make_pool
from tests.support.world import HandClock

POOL = make_pool(settings=PoolSettings(failures_max=3, breaker_s=30))
KEY = (POOL.id, "hst_1")


async def _breakers() -> tuple[Breakers, Breakers, Kit, HandClock]:
    store, clock = MemoryStore(), HandClock()
    await fill(store, pools=(POOL,))
    kits = [make_kit(store, name, clock) for name in "ab"]
    first, second = (Breakers(kit, Pools(kit)) for kit in kits)
    return first, second, kits[0], clock


async def test_failures_of_all_processes_count_together_until_it_opens() -> None:
    first, second, _, clock = await _breakers()
    await first.outcome(*KEY, ok=False, detail="no disk")
    await second.outcome(*KEY, ok=False, detail="no disk")
    assert state_of((await first.all())[KEY], clock.now()) is BreakerState.CLOSED
    await first.outcome(*KEY, ok=False, detail="no disk")
    breaker = (await second.all())[KEY]
    assert state_of(breaker, clock.now()) is BreakerState.OPEN
    assert (breaker.failures, breaker.error) == (3, "no disk")
    assert (first.paused, second.paused) == (0, 1)


async def test_a_success_in_between_starts_the_count_again() -> None:
    first, _, _, clock = await _breakers()
    for ok in (False, False, True, False, False):
        await first.outcome(*KEY, ok=ok, detail="")
    assert state_of((await first.all())[KEY], clock.now()) is BreakerState.CLOSED


async def test_after_the_pause_a_success_closes_it_and_nothing_is_remembered() -> None:
    first, second, kit, clock = await _breakers()
    for _ in range(3):
        await first.outcome(*KEY, ok=False, detail="no disk")
    clock.advance(31)
    await second.begun(POOL, "hst_1")
    assert (await first.all())[KEY].trial_until is not None
    await second.outcome(*KEY, ok=True, detail="")
    assert await first.all() == {}
    trail = (await kit.store.audit.entries(PageQuery(limit=10))).items
    assert sorted(entry.action for entry in trail) == ["breaker.close", "breaker.open"]
    assert {(entry.pool_id, entry.host_id) for entry in trail} == {KEY}


async def test_a_failure_while_it_tries_opens_it_for_longer() -> None:
    first, _, _, clock = await _breakers()
    for _ in range(3):
        await first.outcome(*KEY, ok=False, detail="no disk")
    clock.advance(31)
    await first.outcome(*KEY, ok=False, detail="no disk")
    breaker = (await first.all())[KEY]
    assert breaker.until == clock.now() + 60_000


async def test_two_processes_that_tell_at_once_lose_no_failure() -> None:
    first, second, kit, clock = await _breakers()
    hooked, raced = HookedStore(kit.store), iter([True])

    async def the_other_tells(name: str) -> None:
        if name == "documents.document" and next(raced, False):
            await second.outcome(*KEY, ok=False, detail="second")

    hooked.after = the_other_tells
    kit = make_kit(hooked.as_store(), clock=clock)
    await Breakers(kit, Pools(kit)).outcome(*KEY, ok=False, detail="first")
    assert (await first.all())[KEY].failures == 2


async def test_pools_and_hosts_have_breakers_of_their_own_and_a_text_is_cut() -> None:
    first, _, _, _ = await _breakers()
    await first.outcome(POOL.id, "hst_1", ok=False, detail="x" * 10_000)
    await first.outcome(POOL.id, "hst_2", ok=False, detail="")
    await first.outcome("pol_gone", "hst_2", ok=False, detail="")
    breakers = await first.all()
    assert set(breakers) == {(POOL.id, "hst_1"), (POOL.id, "hst_2")}
    assert len(breakers[KEY].error) == ERROR_CHARS_MAX


async def test_what_opened_a_breaker_is_told_in_short_and_kept_whole() -> None:
    first, _, kit, _ = await _breakers()
    error = "no knob is called 'foo'; known: " + ", ".join(f"knob_{n}" for n in range(20))
    for _ in range(3):
        await first.outcome(*KEY, ok=False, detail=error)
    assert (await first.all())[KEY].error == error
    found = await kit.store.audit.entries(PageQuery(filters={"action": "breaker.open"}))
    (entry,) = found.items
    assert "after 3 failures: no knob is called 'foo'; known: knob_0" in entry.why
    assert entry.why.endswith("…")
    assert len(entry.why) < 200
