"""What the endpoints of one process have in common, and what the parts of a shell know of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.core import commands, events
from agents.core.identity import Identity
from agents.tally import Tally
from agents.tokens import TokenPool
from agents.transport import Transport
from agents.wheel import Wheel


class Shell(Protocol):
    """One endpoint's shell, as its parts see it."""

    @property
    def shared(self) -> Shared: ...

    def feed(self, event: events.Event) -> None:
        """Tell the core what happened."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that the process owns."""

    def task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Likewise, for one that may be cancelled."""


@dataclass(slots=True, kw_only=True)
class Shared:
    """One for a process. `gate` bounds the handshakes and enrolments under way; `save` keeps an
    identity for the next run; `finished` hears of an agent that ended. `running`: tasks of
    endpoints that have not ended."""

    transport: Transport
    wheel: Wheel
    tally: Tally
    tokens: TokenPool
    tasks: asyncio.TaskGroup
    gate: asyncio.Semaphore
    monotonic: Callable[[], float]
    save: Callable[[Identity], None]
    finished: Callable[[str, commands.Finish], None]
    running: int = 0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)

    def task_began(self) -> None:
        self.running += 1

    def task_ended(self) -> None:
        self.running -= 1
        if self.running == 0:
            self.quiet.set()

    async def wait_until_quiet(self) -> None:
        """Until no endpoint has a task left."""
        while self.running:
            self.quiet.clear()
            await self.quiet.wait()
