"""The virtual-time loop: asyncio as it is, in an order that the seed decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from broker.simulation.loop import SimLoop, StuckError

MADE: list[SimLoop] = []


@pytest.fixture(autouse=True)
def sweep() -> Iterator[None]:
    """Nothing is destroyed while it waits."""
    yield
    while MADE:
        MADE.pop().sweep_up(20)


def loop_of(seed: int) -> SimLoop:
    def fault(message: str, error: BaseException | None) -> None:
        raise AssertionError(message) from error

    MADE.append(SimLoop.seeded(Random(seed), fault))
    return MADE[-1]


class Mortal:
    alive = True


def test_time_jumps_and_costs_nothing() -> None:
    loop = loop_of(1)

    async def work() -> float:
        await asyncio.sleep(3600 * 24)
        return asyncio.get_running_loop().time()

    assert loop.run(work(), callbacks_max=100) == 3600 * 24


def test_timeouts_task_groups_and_queues_work() -> None:
    loop = loop_of(1)

    async def work() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(2)

        async def fill() -> None:
            for number in range(10):
                await queue.put(number)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(2)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fill())
            return [await queue.get() for _ in range(10)]

    assert loop.run(work(), callbacks_max=1000) == list(range(10))


def order(seed: int) -> list[int]:
    loop, done = loop_of(seed), []

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(6):
                tasks.create_task(one(number))

    loop.run(work(), callbacks_max=1000)
    return done


def test_the_seed_decides_the_order() -> None:
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 10


def test_the_dead_do_nothing_more_not_even_finally() -> None:
    loop, owner, done = loop_of(1), Mortal(), []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            done.append("woke")
        finally:
            done.append("finally")

    async def main() -> None:
        loop.spawn(work(), owner)
        await asyncio.sleep(0.5)
        owner.alive = False
        await asyncio.sleep(10)
        assert done == []

    loop.run(main(), callbacks_max=100)
    loop.sweep_up(10)
    assert loop.tasks == []


def test_a_loop_that_can_never_go_on_says_so() -> None:
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(StuckError):
        loop_of(1).run(work(), callbacks_max=100)


def test_a_loop_that_goes_round_for_ever_says_so() -> None:
    async def work() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(StuckError):
        loop_of(1).run(work(), callbacks_max=1000)
