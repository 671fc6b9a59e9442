"""One at a time for each desktop, also past the end of whoever waited."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from broker.domain.errors import EngineError
from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.servers import Servers
from broker.limits import ENGINE_OPERATIONS_REMEMBERED

_T = TypeVar("_T")


class Turn:
    """One caller's turn with one desktop. A call of the cloud runs on when the caller leaves."""

    def __init__(self, turns: Turns, key: str) -> None:
        self._turns = turns
        self._key = key

    async def do(self, cloud: Cloud, work: Callable[[Servers], _T]) -> _T:
        """`work` with the servers of that cloud."""
        installation_id = self._turns.installation_id
        future = cloud.call(lambda connection: work(Servers(connection, installation_id)))
        self._turns.under_way[self._key] = future
        return await asyncio.shield(future)


class Turns:
    """`under_way`: the latest call of each desktop that has, or had, a turn."""

    def __init__(self, installation_id: str) -> None:
        self.installation_id = installation_id
        self.under_way: dict[str, asyncio.Future[Any]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._finished: OrderedDict[str, None] = OrderedDict()

    @asynccontextmanager
    async def next(self, key: str, deadline_s: float) -> AsyncIterator[Turn]:
        """The desktop's next turn. Past the deadline EngineError."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        try:
            async with asyncio.timeout(deadline_s), lock:
                before = self.under_way.get(key)
                if before is not None:
                    await asyncio.wait([before])
                try:
                    yield Turn(self, key)
                finally:
                    call = self.under_way.get(key)
                    if call is not None and call.done():
                        del self.under_way[key]
        except TimeoutError:
            raise EngineError(f"no answer within {deadline_s:g} s") from None

    def is_busy(self, key: str) -> bool:
        lock = self._locks.get(key)
        return lock is not None and lock.locked()

    def is_finished(self, operation_id: str) -> bool:
        return operation_id in self._finished

    def remember(self, operation_id: str) -> None:
        self._finished[operation_id] = None
        if len(self._finished) > ENGINE_OPERATIONS_REMEMBERED:
            self._finished.popitem(last=False)
