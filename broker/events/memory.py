"""Hints within one process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from broker.ports import Hint, Subscription

MISSED: Final = "missed"
"""topic of the hint that says: some were lost, look at everything"""


class MemorySubscription:
    """One listener's queue. One consumer; iterating ends when it is closed."""

    def __init__(self, queue_max: int, on_close: Callable[[MemorySubscription], None]) -> None:
        self._queue: deque[Hint] = deque(maxlen=queue_max)
        self._on_close = on_close
        self._missed = False
        self._closed = False
        self._wake = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Hint]:
        while not self._closed:
            if self._missed:
                self._missed = False
                yield Hint(topic=MISSED, data={})
            elif self._queue:
                yield self._queue.popleft()
            else:
                self._wake.clear()
                await self._wake.wait()

    def offer(self, hint: Hint) -> None:
        """Queue it; the oldest goes when there is no room, and that is told once."""
        if len(self._queue) == self._queue.maxlen:
            self._missed = True
        self._queue.append(hint)
        self._wake.set()

    def miss(self) -> None:
        """Hints were lost on the way here."""
        self._missed = True
        self._wake.set()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._wake.set()
            self._on_close(self)


class MemoryEvents:
    """The Events port for one process. Used on its loop only."""

    def __init__(self) -> None:
        self._by_topic: dict[str, dict[MemorySubscription, None]] = {}
        self._closed = False

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Every subscription ends, and those made from now on are ended already."""
        self._closed = True
        for subscription in self._every():
            subscription.close()

    def publish(self, topic: str, **data: Any) -> None:
        self.deliver(Hint(topic=topic, data=data))

    def deliver(self, hint: Hint) -> None:
        """Give a hint to everybody who listens to its topic."""
        for subscription in self._by_topic.get(hint.topic, ()):
            subscription.offer(hint)

    def missed(self) -> None:
        """Tell every listener that hints were lost."""
        for subscription in self._every():
            subscription.miss()

    def subscribe(self, *topics: str, queue_max: int = 1000) -> Subscription:
        """See the port. Raises ValueError without a topic or without room for a hint."""
        if not topics or queue_max < 1:
            raise ValueError("a subscription needs a topic and room for one hint")

        def forget(closed: MemorySubscription) -> None:
            for topic in dict.fromkeys(topics):
                listeners = self._by_topic[topic]
                listeners.pop(closed, None)
                if not listeners:
                    self._by_topic.pop(topic)

        subscription = MemorySubscription(queue_max, forget)
        for topic in topics:
            self._by_topic.setdefault(topic, {})[subscription] = None
        if self._closed:
            subscription.close()
        return subscription

    def _every(self) -> dict[MemorySubscription, None]:
        return {one: None for listeners in self._by_topic.values() for one in listeners}
