"""Questions asked together: each gets its own answer, whoever asks and whoever gives up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest

from broker.services.together import Together


class Oracle:
    """Answers with the square; can be held back, and can fail."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False

    async def ask(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.asked.append(list(keys))
        await self.gate.wait()
        if self.failing:
            raise LookupError("no")
        return {key: key * key for key in keys if key >= 0}


async def test_alone_a_question_waits_for_nobody() -> None:
    oracle = Oracle()
    together = Together(oracle.ask, batch_max=10)
    assert await together.one(3) == 9
    assert await together.one(-1) is None
    assert oracle.asked == [[3], [-1]]


async def test_those_that_come_meanwhile_are_asked_as_one() -> None:
    oracle = Oracle()
    together = Together(oracle.ask, batch_max=10)
    oracle.gate.clear()
    first = asyncio.create_task(together.one(1))
    await asyncio.sleep(0.01)
    rest = [asyncio.create_task(together.one(key)) for key in (2, 3, 3, 4)]
    await asyncio.sleep(0.01)
    oracle.gate.set()
    assert list(await asyncio.gather(first, *rest)) == [1, 4, 9, 9, 16]
    assert oracle.asked == [[1], [2, 3, 4]]


async def test_a_batch_has_its_limit() -> None:
    oracle = Oracle()
    together = Together(oracle.ask, batch_max=2)
    oracle.gate.clear()
    tasks = [asyncio.create_task(together.one(key)) for key in range(6)]
    await asyncio.sleep(0.01)
    oracle.gate.set()
    assert list(await asyncio.gather(*tasks)) == [key * key for key in range(6)]
    assert max(map(len, oracle.asked)) <= 2


async def test_a_failure_reaches_everyone_of_its_batch_and_nobody_later() -> None:
    oracle = Oracle()
    together = Together(oracle.ask, batch_max=10)
    oracle.failing = True
    found = await asyncio.gather(*(together.one(n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(one, LookupError) for one in found)
    oracle.failing = False
    assert await together.one(5) == 25


async def test_whoever_gives_up_takes_nobody_with_him() -> None:
    oracle = Oracle()
    together = Together(oracle.ask, batch_max=4)
    chance = random.Random(7)
    for _ in range(300):
        oracle.gate.clear()
        tasks = {key: asyncio.create_task(together.one(key)) for key in range(8)}
        await asyncio.sleep(0)
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        gone = {key for key in tasks if chance.random() < 0.4}
        for key in gone:
            tasks[key].cancel()
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        oracle.gate.set()
        async with asyncio.timeout(30):
            await asyncio.wait(tasks.values())
        for key, task in tasks.items():
            if key in gone:
                continue
            assert task.result() == key * key
    assert await together.one(9) == 81


async def test_a_leader_who_gives_up_while_it_asks_leaves_no_one_waiting() -> None:
    oracle = Oracle()
    together = Together(oracle.ask, batch_max=10)
    oracle.gate.clear()
    leader = asyncio.create_task(together.one(1))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(together.one(2))
    third = asyncio.create_task(together.one(3))
    await asyncio.sleep(0.01)
    leader.cancel()
    oracle.gate.set()
    async with asyncio.timeout(30):
        assert list(await asyncio.gather(second, third)) == [4, 9]
    with pytest.raises(asyncio.CancelledError):
        await leader
