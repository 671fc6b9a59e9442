"""The guests whose agents an engine hears, whatever carries their words.

A machine is ready when its agent has said so for its present generation since it was last listened
to. Whoever waits for that is told once, by operation.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from broker.domain.errors import GuestSilentError
from broker.domain.model import Desktop
from broker.engines.guest_asks import GuestAsks
from broker.engines.reports import Reports
from broker.guest_wire import Ask, Identify, Time
from broker.limits import GUEST_CLOCK_S
from broker.ports import Clock, GuestAsk, GuestState, MachineReport

_WAITING_MAX: Final = 64
"""operations that wait for one machine's report"""


class Carrier(Protocol):
    """An open way to an agent. Raises EngineError."""

    def send(self, said: Ask | Identify | Time) -> Awaitable[None]: ...


@dataclass(slots=True, eq=False, kw_only=True)
class BookedGuest:
    """One running machine. `ready`: what it last said, since it is listened to. `waiting`:
    operations that its next word of being ready answers. `told`: what it said last over the
    channel that is open, as others are told it. `time_due_s`: when it is to be told the time
    (monotonic). `wake`: whoever attends it looks again."""

    desktop_id: str
    name: str
    generation: int
    ready: bool = False
    waiting: deque[str] = field(default_factory=lambda: deque(maxlen=_WAITING_MAX))
    told: GuestState | None = None
    boot: str = ""
    time_due_s: float = 0.0
    asks: GuestAsks = field(init=False)
    channel: Carrier | None = None
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.asks = GuestAsks(self.name)


G = TypeVar("G", bound=BookedGuest)


class GuestBook(ABC, Generic[G]):
    """Every guest that this process listens to, by desktop id. `_tend` listens to one until it is
    cancelled."""

    def __init__(self, clock: Clock, reports: Reports) -> None:
        self._clock = clock
        self._reports = reports
        self._known: dict[str, G] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks

    def end(self) -> None:
        """Listen to nobody any more."""
        self._tasks = None
        for desktop_id in tuple(self._known):
            self.forget(desktop_id)

    def get(self, desktop_id: str) -> G | None:
        return self._known.get(desktop_id)

    def expect(self, guest: G, operation_id: str) -> None:
        """That operation is answered as soon as the machine is ready, or now if it is."""
        if guest.ready:
            self._say(guest, operation_id, ready=True)
        else:
            guest.waiting.append(operation_id)

    def forget(self, desktop_id: str) -> G | None:
        """It does not run any more, or is another machine by now."""
        guest = self._known.pop(desktop_id, None)
        if guest is not None and guest.task is not None:
            guest.task.cancel()
        return guest

    def heard(self) -> tuple[str, ...]:
        """Desktops whose agents speak here now, as the present ones."""
        return tuple(one.desktop_id for one in self._known.values() if one.told is not None)

    def guest(self, desktop_id: str) -> GuestState | None:
        """What its agent says; None: it is not heard here."""
        guest = self._known.get(desktop_id)
        return None if guest is None else guest.told

    async def ask(self, desktop: Desktop, ask: GuestAsk, deadline_s: float) -> None:
        """Raises as GuestAgents.ask_guest does."""
        guest = self._known.get(desktop.id)
        if guest is None or guest.told is None or guest.generation != desktop.generation:
            raise GuestSilentError("the desktop's guest agent is not heard here")
        there = guest

        async def send(said: Ask) -> None:
            # where the way is being opened anew, it is said as soon as that is done
            if there.channel is not None:
                await there.channel.send(said)

        await there.asks.ask(ask, send, deadline_s)

    def tell_time(self, desktop_id: str) -> None:
        """Its machine stood still, or may have: its agent is told the time as soon as it can be,
        where it is heard here."""
        guest = self._known.get(desktop_id)
        if guest is not None:
            guest.time_due_s = 0.0
            guest.wake.set()

    async def _tell_time(self, guest: G, carrier: Carrier) -> None:
        """Where that is due, and the agent has spoken as the present one: a line that waits for it
        to start would be old by then. Raises EngineError."""
        now_s = self._clock.monotonic()
        if guest.told is not None and now_s >= guest.time_due_s:
            guest.time_due_s = now_s + GUEST_CLOCK_S
            await carrier.send(Time(time_ms=self._clock.now()))

    def _hears(self, guest: G, told: GuestState) -> None:
        """Its agent speaks as the present one."""
        if guest.told is None:
            self.tell_time(guest.desktop_id)
        guest.told = told

    def _keep(self, guest: G, *, tended: bool = True) -> None:
        self._known[guest.desktop_id] = guest
        if tended and self._tasks is not None:
            name = f"guest {guest.desktop_id}"
            guest.task = self._tasks.create_task(self._tend(guest), name=name)

    @abstractmethod
    async def _tend(self, guest: G) -> None: ...

    def _is_ready(self, guest: G, *, unasked: bool) -> None:
        """Its agent says so. `unasked`: the first time is told even where nobody here waits, for
        who waits may be another process."""
        if unasked and not guest.ready and not guest.waiting:
            self._say(guest, "", ready=True)
        guest.ready = True
        while guest.waiting:
            self._say(guest, guest.waiting.popleft(), ready=True)

    def _say(self, guest: G, operation_id: str, *, ready: bool, detail: str = "") -> None:
        self._reports.say(
            MachineReport(
                desktop_id=guest.desktop_id,
                generation=guest.generation,
                ready=ready,
                detail=detail,
                operation_id=operation_id,
            )
        )
