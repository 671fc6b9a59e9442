"""Guests whose agents all reach the broker by the network: for engines without ports into machines.

A machine is ready when its agent has said so for its present generation since it was last listened
to. Whoever waits for that is told once, by operation. Of one that nobody here waits for, it is told
all the same: who waits may be another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from broker.domain.errors import EngineError, GuestSilentError
from broker.domain.model import Desktop
from broker.engines.guest_asks import GuestAsks, state_of
from broker.engines.linked import LinkChannel
from broker.engines.reports import Reports
from broker.guest_wire import Ask, Done, FromGuest, Hello, Identify, State
from broker.limits import GUEST_IDENTIFY_S
from broker.ports import Chance, Clock, GuestAsk, GuestLinks, GuestState, MachineReport

_log = logging.getLogger("trivium.engines")
_WAITING_MAX: Final = 64
"""operations that wait for one machine's report"""
_PAUSE_S: Final = 0.5
"""longest until a link that was made anew is attended"""


@dataclass(slots=True, eq=False)
class _Guest:
    desktop_id: str
    name: str
    generation: int
    asks: GuestAsks
    ready: bool = False
    waiting: deque[str] = field(default_factory=lambda: deque(maxlen=_WAITING_MAX))
    told: GuestState | None = None
    boot: str = ""
    channel: LinkChannel | None = None
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class LinkedGuests:
    """Every guest that this process would attend, by desktop id."""

    def __init__(
        self, *, clock: Clock, chance: Chance, reports: Reports, links: GuestLinks | None
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._reports = reports
        self._links = links
        self._known: dict[str, _Guest] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks

    def end(self) -> None:
        """Attend nobody any more."""
        self._tasks = None
        for desktop_id in tuple(self._known):
            self.forget(desktop_id)

    # ------------------------------------------------------------------------ who is there

    def listen(self, desktop_id: str, name: str, generation: int) -> None:
        """It runs: attend its agent from now on."""
        before = self._known.get(desktop_id)
        if before is not None and before.generation == generation:
            return
        self.forget(desktop_id)
        guest = _Guest(desktop_id, name, generation, GuestAsks(name))
        self._known[desktop_id] = guest
        if self._tasks is not None:
            guest.task = self._tasks.create_task(self._tend(guest), name=f"guest {desktop_id}")

    def expect(self, desktop_id: str, operation_id: str) -> None:
        """That operation is answered as soon as the machine is ready, or now if it is."""
        guest = self._known[desktop_id]
        if guest.ready:
            self._say(guest, operation_id)
        else:
            guest.waiting.append(operation_id)

    def forget(self, desktop_id: str) -> None:
        """It does not run any more, or is another machine by now."""
        guest = self._known.pop(desktop_id, None)
        if guest is not None and guest.task is not None:
            guest.task.cancel()

    def heard(self) -> tuple[str, ...]:
        """See broker.ports.GuestAgents."""
        return tuple(one.desktop_id for one in self._known.values() if one.told is not None)

    def guest(self, desktop_id: str) -> GuestState | None:
        """See broker.ports.GuestAgents."""
        guest = self._known.get(desktop_id)
        return None if guest is None else guest.told

    async def ask(self, desktop: Desktop, ask: GuestAsk, deadline_s: float) -> None:
        """As GuestAgents.ask_guest."""
        guest = self._known.get(desktop.id)
        if guest is None or guest.told is None or guest.generation != desktop.generation:
            raise GuestSilentError("the desktop's guest agent is not heard here")
        there = guest

        async def send(said: Ask) -> None:
            # where the link is being renewed, it is said as soon as that is there
            if there.channel is not None:
                await there.channel.send(said)

        await there.asks.ask(ask, send, deadline_s)

    # --------------------------------------------------------------------------- listening

    async def _tend(self, guest: _Guest) -> None:
        while True:
            await self._attend(guest)
            await self._clock.sleep(self._chance.uniform(0.05, _PAUSE_S))

    async def _attend(self, guest: _Guest) -> None:
        """Until its link ends."""
        ended = asyncio.Event()

        def gone() -> None:
            ended.set()
            guest.wake.set()

        channel = LinkChannel(
            self._links,
            guest.desktop_id,
            guest.generation,
            lambda one: self._said(guest, one),
            gone,
        )
        try:
            await channel.open()
            guest.channel = channel
            await self._identify(guest, channel)
            await guest.asks.again(channel.send)
            while not ended.is_set():
                guest.wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GUEST_IDENTIFY_S):
                        await guest.wake.wait()
                if not ended.is_set() and guest.told is None:
                    await self._identify(guest, channel)
        except EngineError as error:
            _log.info("the guest of %s is not heard: %s", guest.desktop_id, error)
        finally:
            guest.channel = guest.told = None
            await channel.close()

    async def _identify(self, guest: _Guest, channel: LinkChannel) -> None:
        await channel.send(
            Identify(
                desktop_id=guest.desktop_id,
                generation=guest.generation,
                name=guest.name,
                time_ms=self._clock.now(),
            )
        )

    def _said(self, guest: _Guest, said: FromGuest) -> None:
        if isinstance(said, Done):
            guest.asks.done(said)
            return
        current = said.desktop_id == guest.desktop_id and said.generation == guest.generation
        if not current:
            guest.told = None
            guest.wake.set()
        elif isinstance(said, Hello):
            guest.boot = said.boot_id
        elif isinstance(said, State):
            guest.told = state_of(said, self._clock.now(), guest.boot)
            if said.ready:
                self._is_ready(guest)

    def _is_ready(self, guest: _Guest) -> None:
        if not guest.ready and not guest.waiting:
            self._say(guest, "")
        guest.ready = True
        while guest.waiting:
            self._say(guest, guest.waiting.popleft())

    def _say(self, guest: _Guest, operation_id: str) -> None:
        self._reports.say(
            MachineReport(
                desktop_id=guest.desktop_id,
                generation=guest.generation,
                ready=True,
                operation_id=operation_id,
            )
        )
