"""The series of the overview page lives through a store that is away."""

from __future__ import annotations

import asyncio

from broker.domain.errors import UnavailableError
from broker.ports import Overview
from broker.services.overview import Overviews
from broker.services.tally import SAMPLE_S, Tally
from broker.store.memory import MemoryStore
from tests.support.brokers import make_kit
from tests.support.world import HandClock


class Away(MemoryStore):
    away = True

    async def overview(self) -> Overview:
        if self.away:
            raise UnavailableError("the store is away")
        return await super().overview()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_store_that_is_away_leaves_a_gap_and_ends_nothing() -> None:
    store, clock = Away(), HandClock()
    overviews = Overviews(make_kit(store, clock=clock), Tally())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(overviews.run())
        await turns()
        assert not running.done()
        points = [len(overviews.series)]
        store.away = False
        clock.advance(SAMPLE_S)
        await turns()
        points.append(len(overviews.series))
        assert points == [0, 1]
        running.cancel()
