"""Machines that are not what they should be: seen twice, told once, and told when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from broker import limits
from broker.domain.drift import Difference
from broker.domain.errors import (
    ConflictError,
    EngineError,
    NotFoundError,
    UnsupportedError,
)
from broker.ports import Operation, PageQuery, Store
from broker.services.drifts import Drifts
from broker.store.memory import MemoryStore
from tests.support.brokers import Broker, broker_on, desktops, fill
from tests.support.builders import make_pool
from tests.support.prompt_engine import PromptEngine

POOL = make_pool(spares_min=2, size_max=6)
CPUS = Difference(what="CPUs", found="4", wanted="2")
DISK = Difference(what="disk vdb", found="/x", wanted="")
NAMES = {"simulated"}


class Comparing(PromptEngine):
    """One that compares. `changed`: desktop id -> what somebody changed; `away`: it does not
    answer."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[str, tuple[Difference, ...]] = {}
        self.away = False
        self.asked: list[Operation] = []
        self.hangs = False

    async def drift(self, operation: Operation) -> tuple[Difference, ...]:
        self.asked.append(operation)
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise EngineError("the host does not answer")
        return self.changed.get(operation.desktop.id, ())


async def look(broker: Broker, times: int = 1) -> None:
    for _ in range(times):
        broker.clock.advance(limits.DRIFT_S)
        await drifts(broker).look(NAMES)


def drifts(broker: Broker) -> Drifts:
    return broker.services.drifts


async def told(store: Store) -> list[tuple[str, list[str]]]:
    """(why, reasons) of the entries about drift, oldest first."""
    entries = (await store.audit.entries(PageQuery(limit=100))).items
    return [
        (one.why, list(_reasons(one.details)))
        for one in reversed(entries)
        if one.action == "machine.drift"
    ]


def _reasons(details: Mapping[str, object]) -> list[str]:
    found = details.get("reasons", [])
    assert isinstance(found, list)
    return found


async def test_what_differs_twice_alike_is_told_once_and_its_end_once() -> None:
    store, engine = MemoryStore(), Comparing()
    await fill(store, pools=(POOL,))
    async with broker_on(store, engine=engine) as broker:
        await broker.look(3)
        first, _ = await desktops(store, state="ready")
        engine.changed = {first.id: (CPUS,)}
        await look(broker)
        assert await told(store) == []
        assert (await drifts(broker).report()).count == 0
        await look(broker)
        wrong = ("its machine is not what it should be", ["CPUs: 4 instead of 2"])
        assert await told(store) == [wrong]
        report = await drifts(broker).report()
        assert (report.count, drifts(broker).count) == (1, 1)
        assert report.desktops[first.id].differences == (CPUS,)
        assert report.desktops[first.id].generation == first.generation
        await look(broker, 3)
        assert await told(store) == [wrong]
        engine.changed = {}
        await look(broker, 2)
        assert await told(store) == [wrong, ("its machine is again what it should be", [])]
        assert (await drifts(broker).report()).desktops == {}


async def test_what_changes_from_look_to_look_is_on_its_way_and_not_told() -> None:
    store, engine = MemoryStore(), Comparing()
    await fill(store, pools=(POOL,))
    async with broker_on(store, engine=engine) as broker:
        await broker.look(3)
        first, second = await desktops(store, state="ready")
        for found in ((CPUS,), (DISK,), (), (CPUS,), (), (CPUS,)):
            engine.changed = {first.id: found}
            await look(broker)
        assert await told(store) == []
        assert {one.desktop.id for one in engine.asked} == {first.id, second.id}


async def test_a_broker_that_takes_over_does_not_tell_again() -> None:
    store, engine = MemoryStore(), Comparing()
    await fill(store, pools=(POOL,))
    async with broker_on(store, engine=engine) as broker:
        await broker.look(3)
        first, _ = await desktops(store, state="ready")
        engine.changed = {first.id: (CPUS,)}
        await look(broker, 2)
        clock = broker.clock
    clock.advance(limits.LEASE_S + limits.LEASE_SKEW_S + 1)
    async with broker_on(store, process="b", clock=clock, engine=engine) as broker:
        await look(broker, 3)
        assert len(await told(store)) == 1
        assert (await drifts(broker).report()).count == 1


async def test_only_one_broker_compares() -> None:
    store, engine = MemoryStore(), Comparing()
    await fill(store, pools=(POOL,))
    async with (
        broker_on(store, engine=engine) as one,
        broker_on(store, process="b", clock=one.clock, engine=engine) as other,
    ):
        await one.look(3)
        await look(one)
        count = len(engine.asked)
        await drifts(other).look(NAMES)
        assert len(engine.asked) == count
        assert drifts(other).count is None


async def test_a_big_site_is_looked_at_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRIFT_BATCH_MAX", 2)
    store, engine = MemoryStore(), Comparing()
    await fill(store, pools=(make_pool(spares_min=5, size_max=6),))
    async with broker_on(store, engine=engine) as broker:
        await broker.look(4)
        every = {one.id for one in await desktops(store, state="ready")}
        assert len(every) == 5
        await look(broker, 3)
        assert {one.desktop.id for one in engine.asked} == every
        assert len(engine.asked) == 5


async def test_hosts_that_do_not_answer_or_hang_stop_nothing_and_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, engine = MemoryStore(), Comparing()
    await fill(store, pools=(POOL,))
    async with broker_on(store, engine=engine) as broker:
        await broker.look(3)
        engine.away = True
        await look(broker)
        assert drifts(broker).failures == {"compare": 2}
        engine.away, engine.hangs = False, True
        monkeypatch.setattr(limits, "DRIFT_ONE_S", 0.01)
        await look(broker)
        assert drifts(broker).failures == {"compare": 4}
        assert await told(store) == []


async def test_engines_that_cannot_compare_are_not_asked_for_ever() -> None:
    store = MemoryStore()
    await fill(store, pools=(POOL,))
    async with broker_on(store) as broker:
        async with asyncio.timeout(10):
            await drifts(broker).run((broker.engine,))
        await broker.look(3)
        first, _ = await desktops(store, state="ready")
        with pytest.raises(UnsupportedError):
            await drifts(broker).compare(first.id)


async def test_one_desktop_is_compared_when_somebody_asks() -> None:
    store, engine = MemoryStore(), Comparing()
    await fill(store, pools=(POOL,))
    async with broker_on(store, engine=engine) as broker:
        await broker.look(3)
        first, _ = await desktops(store, state="ready")
        engine.changed = {first.id: (CPUS, DISK)}
        desktop, found = await drifts(broker).compare(first.id)
        assert (desktop.id, found) == (first.id, (CPUS, DISK))
        assert engine.asked[-1].limits == POOL.settings.limits
        with pytest.raises(NotFoundError):
            await drifts(broker).compare("dsk_nowhere")
        engine.failing = {"create"}
        await store.directory.save_pool(make_pool(spares_min=3, size_max=6), new=False)
        broker.services.pools.forget()
        await broker.look(1)
        [coming] = await desktops(store, state="creating")
        with pytest.raises(ConflictError):
            await drifts(broker).compare(coming.id)
