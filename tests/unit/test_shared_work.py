"""Shared work: one process at a time does it, and another takes over in bounded time."""

from __future__ import annotations

import pytest

from broker.domain.errors import UnavailableError
from broker.domain.model import Instant, WorkLease
from broker.limits import LEASE_S, LEASE_SKEW_S
from broker.services.shared_work import LEASE_MARGIN_S, LEASE_RENEW_S, SharedWork, Work
from broker.store.memory import MemoryStore
from tests.support.brokers import make_kit
from tests.support.world import HandClock


class Processes:
    """Two brokers over one store, whose clocks may be set apart."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self.store = MemoryStore()
        self.clocks = (HandClock(), HandClock())
        self.clocks[1].ms += ahead_ms
        self.first, self.second = (
            SharedWork(make_kit(self.store, name, clock))
            for name, clock in zip("ab", self.clocks, strict=True)
        )

    def pass_s(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.advance(seconds)


async def test_one_process_holds_the_work_and_the_other_does_not() -> None:
    two = Processes()
    lease = await two.first.hold(Work.PLANNER)
    assert lease is not None
    assert await two.second.hold(Work.PLANNER) is None
    assert two.first.held == {"planner": 1}
    assert two.second.held == {}


async def test_a_holder_that_goes_on_working_keeps_it_for_ever() -> None:
    two = Processes()
    lease = await two.first.hold(Work.PLANNER)
    assert lease is not None
    for _ in range(100):
        two.pass_s(1.0)
        assert await two.first.keep(lease)
        assert await two.second.hold(Work.PLANNER) is None


@pytest.mark.parametrize("ahead_ms", [0, 4_000, -4_000])
async def test_a_standby_takes_over_in_bounded_time_whatever_the_clocks_differ_by(
    ahead_ms: int,
) -> None:
    two = Processes(ahead_ms)
    await two.first.hold(Work.PLANNER)
    assert await two.second.hold(Work.PLANNER) is None
    waited_s = 0.0
    while await two.second.hold(Work.PLANNER) is None:
        two.pass_s(0.5)
        waited_s += 0.5
        # never two at once
        assert not (two.first.mine(Work.PLANNER) and two.second.mine(Work.PLANNER))
    assert waited_s <= LEASE_S + 2 * LEASE_SKEW_S + LEASE_RENEW_S
    assert two.second.held == {"planner": 2}


async def test_a_paused_holder_that_wakes_late_knows_that_it_lost_the_work() -> None:
    two = Processes()
    old = await two.first.hold(Work.PLANNER)
    assert old is not None
    two.pass_s(LEASE_S + LEASE_SKEW_S + 1)
    assert not two.first.mine(Work.PLANNER)
    assert await two.second.hold(Work.PLANNER) is not None
    assert not await two.first.keep(old)
    assert not await two.first.confirm(old)


async def test_work_that_went_to_another_and_came_back_is_not_the_same_work() -> None:
    two = Processes()
    old = await two.first.hold(Work.PLANNER)
    assert old is not None
    two.pass_s(LEASE_S + LEASE_SKEW_S + 1)
    await two.second.hold(Work.PLANNER)
    await two.second.stop()
    two.pass_s(LEASE_RENEW_S)
    # held again, but what was decided under the old fence is old
    assert await two.first.hold(Work.PLANNER) is not None
    assert not await two.first.keep(old)


async def test_a_holder_gives_up_before_its_lease_ends() -> None:
    two = Processes()
    await two.first.hold(Work.PLANNER)
    two.pass_s(LEASE_S - LEASE_MARGIN_S - 0.1)
    assert two.first.mine(Work.PLANNER)
    two.pass_s(0.1)
    assert not two.first.mine(Work.PLANNER)


async def test_a_clean_stop_gives_everything_back_at_once() -> None:
    two = Processes()
    await two.first.hold(Work.PLANNER)
    await two.first.hold(Work.SEALER)
    await two.first.stop()
    assert await two.second.hold(Work.PLANNER) is not None
    assert await two.second.hold(Work.SEALER) is not None
    two.pass_s(LEASE_RENEW_S)
    assert await two.first.hold(Work.PURGE) is None


async def test_the_only_process_inherits_what_one_that_died_left() -> None:
    two = Processes()
    await two.first.hold(Work.PLANNER)
    await two.second.inherit()
    lease = await two.second.hold(Work.PLANNER)
    assert lease is not None
    assert lease.fence == 2


class _Away:
    """Leases that do not answer while `away`; `slow_s` passes on the clock before an answer."""

    def __init__(self, store: MemoryStore, clock: HandClock) -> None:
        self._acquire = store.leases.acquire
        self._clock = clock
        self.away = False
        self.slow_s = 0.0

    async def acquire(
        self, name: str, holder: str, now: Instant, until: Instant
    ) -> WorkLease | None:
        if self.away:
            raise UnavailableError("the store is away")
        self._clock.advance(self.slow_s)
        return await self._acquire(name, holder, now, until)


async def test_a_renewal_that_fails_does_not_cost_the_lease_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = Processes()
    lease = await two.first.hold(Work.PLANNER)
    assert lease is not None
    leases = _Away(two.store, two.clocks[0])
    monkeypatch.setattr(two.store.leases, "acquire", leases.acquire)
    leases.away = True
    two.pass_s(LEASE_RENEW_S)
    assert await two.first.keep(lease)
    two.pass_s(LEASE_S)
    with pytest.raises(UnavailableError):
        await two.first.keep(lease)


async def test_an_answer_that_took_longer_than_the_lease_lives_is_no_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = Processes()
    leases = _Away(two.store, two.clocks[0])
    monkeypatch.setattr(two.store.leases, "acquire", leases.acquire)
    leases.slow_s = LEASE_S
    assert await two.first.hold(Work.PLANNER) is None
