"""Asks together what many want to know at the same time.

While one question is under way, those that come wait and are asked as one, next. Alone, a
question waits for nobody; under load one call answers many, which costs one hand-over to the
store's threads instead of one for each. There is no task behind it: of those who wait, one asks
for all, and hands that on to one of those who came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")


class _Turn:
    """What a waiter is told when it is to ask for all who wait."""


_TURN = _Turn()


class Together(Generic[Key, Found]):
    def __init__(
        self, ask: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Found]]], *, batch_max: int
    ) -> None:
        self._ask = ask
        self._batch_max = batch_max
        self._waiting: deque[tuple[Key, asyncio.Future[Found | _Turn | None]]] = deque()
        self._busy = False

    async def one(self, key: Key) -> Found | None:
        """What `ask` answers for this key, None if nothing. Raises what `ask` raises."""
        future: asyncio.Future[Found | _Turn | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if not self._busy:
            self._busy = True
            future.set_result(_TURN)
        try:
            told = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result() is _TURN:
                self._hand_on()
            raise
        if not isinstance(told, _Turn):
            return told
        return await self._lead(key, future)

    async def _lead(self, key: Key, own: asyncio.Future[Found | _Turn | None]) -> Found | None:
        batch: list[tuple[Key, asyncio.Future[Found | _Turn | None]]] = []
        others = 0
        while self._waiting and others < self._batch_max:
            one = self._waiting.popleft()
            if one[1] is own or not one[1].done():
                batch.append(one)
                others += 1
        keys = list(dict.fromkeys([key, *(each for each, _ in batch)]))
        try:
            found = await self._ask(keys)
        except asyncio.CancelledError:
            # only this one's caller has gone: the others are asked for by somebody else
            self._waiting.extendleft(reversed([one for one in batch if one[1] is not own]))
            raise
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            raise
        else:
            for each, future in batch:
                if not future.done():
                    future.set_result(found.get(each))
            return found.get(key)
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        """Let the first who still waits ask for all."""
        for _, future in self._waiting:
            if not future.done():
                future.set_result(_TURN)
                return
        self._waiting.clear()
        self._busy = False
