"""What machines say, kept until whoever takes an engine's reports has time for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from broker.limits import ENGINE_REPORTS_MAX
from broker.ports import MachineReport


class Reports:
    """Reports for a consumer that may be away for a while."""

    def __init__(self) -> None:
        self._pending: deque[MachineReport] = deque(maxlen=ENGINE_REPORTS_MAX)
        self._changed = asyncio.Event()
        self._closed = False

    def say(self, report: MachineReport) -> None:
        self._pending.append(report)
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    async def stream(self) -> AsyncIterator[MachineReport]:
        while not self._closed:
            self._changed.clear()
            while self._pending and not self._closed:
                yield self._pending.popleft()
            if not self._closed:
                await self._changed.wait()
