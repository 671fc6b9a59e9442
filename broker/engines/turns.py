"""One at a time for each desktop, also past the end of whoever waited."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from broker.domain.errors import EngineError
from broker.limits import ENGINE_OPERATIONS_REMEMBERED


class DesktopTurns:
    """What engines that call something slow build their turns on. A call that whoever had the turn
    left behind is waited for by the next; finished operations are known again."""

    def __init__(self, installation_id: str) -> None:
        self.installation_id = installation_id
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._under_way: dict[str, asyncio.Future[Any]] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()

    @asynccontextmanager
    async def alone(self, key: str, deadline_s: float | None) -> AsyncIterator[None]:
        """Nobody else has this desktop's turn within. Past the deadline EngineError."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        try:
            async with asyncio.timeout(deadline_s), lock:
                while (before := self._under_way.get(key)) is not None:
                    await asyncio.wait([before])
                    self._over(key, before)
                yield
        except TimeoutError:
            raise EngineError(f"no answer within {deadline_s:g} s") from None

    def begun(self, key: str, call: asyncio.Future[Any]) -> None:
        """This call belongs to the desktop's turn, however long it takes."""
        self._under_way[key] = call
        call.add_done_callback(lambda done: self._over(key, done))

    def _over(self, key: str, call: asyncio.Future[Any]) -> None:
        if self._under_way.get(key) is call:
            del self._under_way[key]

    def is_busy(self, key: str) -> bool:
        lock = self._locks.get(key)
        return lock is not None and lock.locked()

    def is_finished(self, operation_id: str) -> bool:
        return operation_id in self._finished

    def remember(self, operation_id: str) -> None:
        self._finished[operation_id] = None
        if len(self._finished) > ENGINE_OPERATIONS_REMEMBERED:
            self._finished.popitem(last=False)
