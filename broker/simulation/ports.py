"""One broker process's way to the shared store and to the other processes: slow, lossy, mortal.

The memory store carries out every call at once and whole, as a transaction. What is around the
call can fail: it is slow, it does not happen, it happens and nobody is told, or the process dies
before or after it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from broker.domain.errors import UnavailableError
from broker.events.memory import MemoryEvents
from broker.ports import Hint
from broker.simulation.history import History
from broker.simulation.loop import SimLoop
from broker.simulation.weather import Weather
from broker.store.memory import MemoryStore

STORE_S: Final = 0.004
"""longest ordinary store call"""
STORE_SLOW_S: Final = 3.0
HINT_LATE_S: Final = 4.0
_WAITS_BEFORE: Final = 0.2
"""share of store calls that wait before they are carried out"""
_WAITS: Final = 0.4
"""and of those that wait before or after"""
_YIELDS: Final = 0.7
"""and of those that wait, or let others run first"""


class Mortal(Protocol):
    """A process, as its ports see it."""

    name: str
    loop: SimLoop
    chance: Random
    history: History
    store_away_until_s: float
    weather: Weather

    async def point(self, what: str) -> None:
        """A place where the process may die, be cancelled or see an error."""


Saw = Callable[[Mortal, str, tuple[Any, ...], Any], None]
"""told (process, "store.method", arguments, result) of each call that was carried out"""


def _wrapped(
    process: Mortal, name: str, method: Callable[..., Awaitable[Any]], saw: Saw
) -> Callable[..., Awaitable[Any]]:
    loop, draw = process.loop, process.chance.random

    async def call(*args: Any, **kwargs: Any) -> Any:
        await process.point(name)
        waits = draw()
        if waits < _WAITS_BEFORE:
            await asyncio.sleep(STORE_S * draw())
        elif _WAITS < waits < _YIELDS:
            await asyncio.sleep(0)
        if loop.time() < process.store_away_until_s:
            await asyncio.sleep(STORE_S)
            raise UnavailableError("the store is away")
        weather, fate = process.weather, draw()
        if fate < weather.store_fails:
            process.history.fault("store call fails", f"{process.name} {name}")
            raise UnavailableError("the store did not answer")
        result = await method(*args, **kwargs)
        saw(process, name, args, result)
        if _WAITS_BEFORE < waits < _WAITS:
            await asyncio.sleep(STORE_S * draw())
        await process.point(name)
        if fate > 1 - weather.store_reply_lost:
            process.history.fault("store reply lost", f"{process.name} {name}")
            raise UnavailableError("the store's answer was lost")
        if 1 - fate - weather.store_reply_lost < weather.store_slow:
            process.history.fault("store call slow", f"{process.name} {name}")
            await asyncio.sleep(STORE_SLOW_S * draw())
        return result

    return call


class _Part:
    """One part of the store (sessions, desktops, …) with every method wrapped."""

    def __init__(self, process: Mortal, name: str, part: object, saw: Saw) -> None:
        for method_name, method in inspect.getmembers(part, inspect.iscoroutinefunction):
            if not method_name.startswith("_"):
                wrapped = _wrapped(process, f"{name}.{method_name}", method, saw)
                setattr(self, method_name, wrapped)


class StoreProxy:
    """The Store port of one process, over the store that all share. Every part that the store
    has is there, also one that is new: they are found by looking."""

    def __init__(self, process: Mortal, store: MemoryStore, saw: Saw) -> None:
        for name in dir(type(store)):
            if name.startswith("_"):
                continue
            found = getattr(store, name)
            if inspect.iscoroutinefunction(found):
                setattr(self, name, _wrapped(process, name, found, saw))
            elif not callable(found):
                setattr(self, name, _Part(process, name, found, saw))


@dataclass(slots=True)
class Bus:
    """Hints between processes. Within one process nothing is lost."""

    ends: list[SimEvents]

    def others(self, end: SimEvents) -> list[SimEvents]:
        return [one for one in self.ends if one is not end]


class SimEvents(MemoryEvents):
    """The Events port of one process."""

    def __init__(self, process: Mortal, bus: Bus) -> None:
        super().__init__()
        self._process = process
        self._bus = bus
        bus.ends.append(self)

    def listens(self, topic: str) -> bool:
        return bool(self._by_topic.get(topic))

    def publish(self, topic: str, **data: Any) -> None:
        self.deliver(Hint(topic=topic, data=data))
        for other in self._bus.others(self):
            if other.listens(topic):
                self._send(other, topic, data)

    def _send(self, other: SimEvents, topic: str, data: Mapping[str, Any]) -> None:
        process = self._process
        weather, draw = process.weather, process.chance.random
        if draw() < weather.hint_lost:
            process.history.fault("hint lost", f"{process.name} {topic}")
            return
        times = 1
        if draw() < weather.hint_doubled:
            process.history.fault("hint doubled", f"{process.name} {topic}")
            times = 2
        for _ in range(times):
            late = draw() < weather.hint_late
            delay = draw() * (HINT_LATE_S if late else STORE_S)
            process.loop.call_later(delay, other.deliver, Hint(topic=topic, data=data))

    def leave(self) -> None:
        """The process is dead."""
        self._bus.ends.remove(self)
