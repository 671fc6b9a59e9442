"""Several broker processes plan over one store: together they make what is wanted, never more."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from broker.domain.model import Pool, WorkLease
from broker.domain.planning.commands import ClearDesktop, Command, NoRoom
from broker.domain.planning.view import View
from broker.limits import LEASE_S, LEASE_SKEW_S
from broker.ports import PageQuery, Store
from broker.services.reconciler.acting import Look
from broker.services.reconciler.machines import Machines
from broker.services.shared_work import LEASE_RENEW_S, SharedWork, Work
from tests.support.brokers import Broker, HookedStore, broker_on, desktops, fill
from tests.support.builders import make_pool

POOL = make_pool(spares_min=4, size_max=6)
TAKE_OVER_S = LEASE_S + LEASE_SKEW_S + LEASE_RENEW_S


async def _names(store: Store) -> list[str]:
    return [desktop.name for desktop in await desktops(store, pool_id=POOL.id)]


async def _together(first: Broker, second: Broker) -> None:
    """Both look at the same time, step by step beside each other."""

    async def let_others_run(_: str) -> None:
        await asyncio.sleep(0)

    for broker in (first, second):
        assert isinstance(broker.kit.store, HookedStore)
        broker.kit.store.before = broker.kit.store.after = let_others_run
    await asyncio.gather(first.services.reconciler.look(), second.services.reconciler.look())


async def test_two_that_plan_at_the_same_time_make_what_is_wanted_and_no_more(
    store: Store,
) -> None:
    await fill(store, pools=(POOL,))
    async with (
        broker_on(HookedStore(store).as_store(), process="a") as first,
        broker_on(HookedStore(store).as_store(), process="b") as second,
    ):
        await _together(first, second)
        assert len(await _names(store)) == POOL.spares_min
        leases = await store.leases.leases()
        assert [one.fence for one in leases if one.name == Work.PLANNER] == [1]


async def test_without_the_lease_they_would_make_too_many(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug planted: it shows that the test above can fail."""

    async def everybody_holds(_: SharedWork, work: Work) -> WorkLease:
        return WorkLease(name=work, holder="anybody", fence=1, until=2**60)

    async def own_name(_: object, pool: Pool) -> str:
        return f"{pool.name}-{next(numbers):03d}"

    numbers = itertools.count(1)
    monkeypatch.setattr(SharedWork, "hold", everybody_holds)
    # each takes names of its own, so that the unique name does not save the day
    monkeypatch.setattr(Machines, "_name", own_name)
    await fill(store, pools=(POOL,))
    async with (
        broker_on(HookedStore(store, fenced=False).as_store(), process="a") as first,
        broker_on(HookedStore(store, fenced=False).as_store(), process="b") as second,
    ):
        await _together(first, second)
        assert len(await _names(store)) > POOL.spares_min


async def test_a_planner_that_slept_while_another_took_over_makes_nothing(store: Store) -> None:
    await fill(store, pools=(POOL,))
    hooked = HookedStore(store)
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleep_before_making(name: str) -> None:
        if name == "desktops.add" and not awake.is_set():
            asleep.set()
            await awake.wait()

    hooked.before = sleep_before_making
    async with (
        broker_on(hooked.as_store(), process="a") as sleeper,
        broker_on(store, process="b") as other,
    ):
        look = asyncio.ensure_future(sleeper.services.reconciler.look())
        await asyncio.wait_for(asleep.wait(), 30)
        other.clock.advance(TAKE_OVER_S)
        await other.services.reconciler.look()
        assert len(await _names(store)) == POOL.spares_min
        # it wakes by its own clock in time, and its decision is as old as the lease
        awake.set()
        await look
        assert len(await _names(store)) == POOL.spares_min
        assert sleeper.services.shared.held.get("planner") is None
        planned = sleeper.services.reconciler.results
        assert not [1 for command, _ in planned if command == "MakeDesktop"]


async def test_a_planner_that_slept_carries_out_nothing_more_of_its_plan(store: Store) -> None:
    """Also what no fence guards: it looks at its own clock before each write."""
    await fill(store, pools=(POOL,))
    hooked = HookedStore(store)
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleep_while_telling(name: str) -> None:
        if name == "audit.append" and not awake.is_set():
            asleep.set()
            await awake.wait()

    async with (
        broker_on(hooked.as_store(), process="a") as sleeper,
        broker_on(store, process="b") as other,
    ):
        await sleeper.services.reconciler.look()
        lease = await sleeper.services.shared.hold(Work.PLANNER)
        plan: tuple[Command, ...] = (
            NoRoom(pool=POOL, missing=1, why="full"),
            *(ClearDesktop(desktop=one, why="surplus") for one in await desktops(store)),
        )
        view = View(now=sleeper.clock.now(), pools=(POOL,), counts={}, waiting={}, hosts=())
        hooked.before = sleep_while_telling
        acting = sleeper.services.reconciler._acting
        carrying = asyncio.ensure_future(acting.carry_out(plan, Look(view=view, lease=lease)))
        await asyncio.wait_for(asleep.wait(), 30)
        for broker in (sleeper, other):
            broker.clock.advance(TAKE_OVER_S)
        assert await other.services.shared.hold(Work.PLANNER) is not None
        awake.set()
        await carrying
        assert len(await _names(store)) == POOL.spares_min
        assert not acting.results["ClearDesktop", "done"]


async def test_a_standby_goes_on_where_a_dead_planner_stopped(store: Store) -> None:
    await fill(store, pools=(POOL,))
    async with broker_on(store, process="b") as standby:
        async with broker_on(store, process="a") as planner:
            await planner.services.reconciler.look()
            await standby.services.reconciler.look()
            assert len(await _names(store)) == POOL.spares_min
        await store.directory.save_pool(make_pool(spares_min=6, size_max=6), new=False)
        waited_s = 0.0
        while len(await _names(store)) < 6:
            standby.clock.advance(1.0)
            waited_s += 1.0
            await standby.services.reconciler.look()
            assert waited_s <= TAKE_OVER_S + 2
        assert waited_s > LEASE_S


async def test_a_standby_still_expires_and_serves_while_another_plans(store: Store) -> None:
    await fill(store, pools=(POOL,))
    async with (
        broker_on(store, process="a") as planner,
        broker_on(store, process="b") as standby,
    ):
        planner.engine.silent = True
        await planner.services.reconciler.look()
        for broker in (planner, standby):
            broker.clock.advance(3600)
        await planner.services.shared.hold(Work.PLANNER)
        await standby.services.reconciler.look()
        results = standby.services.reconciler.results
        assert results["ExpireDesktop", "done"] == POOL.spares_min
        assert not [1 for command, _ in results if command == "MakeDesktop"]


async def test_each_machine_is_made_together_with_why(store: Store) -> None:
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        await broker.services.reconciler.look()
    entries = (await store.audit.entries(PageQuery(filters={"action": "desktop.make"}))).items
    assert {entry.desktop_id for entry in entries} == {one.id for one in await desktops(store)}
    for entry in entries:
        assert "has most room" in entry.why
        assert (entry.pool_id, entry.host_id) == (POOL.id, "hst_1")
        assert entry.details["reasons"]
