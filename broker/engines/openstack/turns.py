"""Turns with a cloud's servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.servers import Servers
from broker.engines.turns import DesktopTurns

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
        self._turns.begun(self._key, future)
        return await asyncio.shield(future)


class Turns(DesktopTurns):
    @asynccontextmanager
    async def next(self, key: str, deadline_s: float) -> AsyncIterator[Turn]:
        """The desktop's next turn. Past the deadline EngineError."""
        async with self.alone(key, deadline_s):
            yield Turn(self, key)
