"""What the engine knows of each machine's guest, and how it keeps listening to it.

A machine is ready when its guest has said so for its present generation, since it was last
started or resumed. Whoever waits for that is told once, by operation; so is everybody when a
machine that was ready stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from broker.domain.errors import EngineError, GuestSilentError
from broker.engines.guest_asks import GuestAsks, state_of
from broker.engines.libvirt.channel import GuestChannel
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.kinds import Agent
from broker.engines.linked import LinkChannel
from broker.engines.reports import Reports
from broker.guest_wire import Ask, Done, FromGuest, Hello, Identify, State
from broker.limits import GUEST_IDENTIFY_S, LIBVIRT_PAUSE_S_MAX
from broker.ports import Chance, Clock, GuestAsk, GuestLinks, GuestState, Ids, MachineReport

_log = logging.getLogger("trivium.libvirt")
_WAITING_MAX: Final = 64
"""operations that wait for one machine's report"""
_IDENTIFY_PAUSE_S: Final = 0.2
"""between two identifications of one guest that does not take its name"""


@dataclass(slots=True, eq=False)
class Guest:
    """One running machine. `ready`: what it last said, since it was started or resumed.
    `waiting`: operations that its next word of being ready answers."""

    desktop_id: str
    name: str
    uuid: str
    generation: int
    host: HostConnection
    host_id: str
    ready: bool = False
    waiting: deque[str] = field(default_factory=lambda: deque(maxlen=_WAITING_MAX))
    state: State | None = None
    """what it said last over the channel that is open"""
    told: GuestState | None = None
    """the same, as others are told it"""
    boot: str = ""
    asks: GuestAsks = field(init=False)
    channel: GuestChannel | LinkChannel | None = None
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    forced: bool = False
    """the next attempt takes the port from whoever has it"""

    def __post_init__(self) -> None:
        self.asks = GuestAsks(self.name)


class Guests:
    """Every guest that this process listens to, by desktop id."""

    def __init__(
        self, *, clock: Clock, chance: Chance, ids: Ids, reports: Reports,
        guest_links: GuestLinks | None = None,
    ) -> None:  # fmt: skip
        self._links = guest_links
        self._clock = clock
        self._chance = chance
        self._ids = ids
        self._reports = reports
        self._known: dict[str, Guest] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.on_said: Callable[[Guest, FromGuest], object] = lambda _guest, _said: None

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks

    def end(self) -> None:
        """Listen to nobody any more."""
        self._tasks = None
        for desktop_id in tuple(self._known):
            self.forget(desktop_id)

    def get(self, desktop_id: str) -> Guest | None:
        return self._known.get(desktop_id)

    def by_uuid(self, uuid: str) -> Guest | None:
        return next((one for one in self._known.values() if one.uuid == uuid), None)

    def at(self, host_id: str) -> list[Guest]:
        return [one for one in self._known.values() if one.host_id == host_id]

    # ----------------------------------------------------------------- who waits

    def listen(self, guest: Guest, *, force: bool) -> Guest:
        """Listen to it from now on; one that is listened to as it is stays."""
        before = self._known.get(guest.desktop_id)
        if (
            before is not None
            and before.generation == guest.generation
            and before.host is guest.host
        ):
            before.forced |= force
            return before
        if before is not None:
            self.forget(before.desktop_id)
        self._known[guest.desktop_id] = guest
        guest.forced = force
        if guest.host.place.agent is Agent.NONE:
            guest.ready = True
        elif self._tasks is not None:
            name = f"guest {guest.desktop_id}"
            guest.task = self._tasks.create_task(self._tend(guest), name=name)
        return guest

    def expect(self, guest: Guest, operation_id: str) -> None:
        """That operation is answered as soon as the machine is ready, or now if it is."""
        if guest.ready:
            self._say(guest, operation_id, ready=True)
        else:
            guest.waiting.append(operation_id)

    def forget(self, desktop_id: str) -> Guest | None:
        """It does not run any more, or is another machine by now."""
        guest = self._known.pop(desktop_id, None)
        if guest is not None and guest.task is not None:
            guest.task.cancel()
        return guest

    def stopped(self, guest: Guest, why: str) -> None:
        """It stopped by itself: told, and not listened to any more."""
        self.forget(guest.desktop_id)
        self._say(guest, guest.waiting[-1] if guest.waiting else "", ready=False, detail=why)

    def heard(self) -> tuple[str, ...]:
        """Desktops whose agents speak here now, as the present ones."""
        return tuple(one.desktop_id for one in self._known.values() if one.told is not None)

    async def ask(self, desktop_id: str, generation: int, ask: GuestAsk, deadline_s: float) -> None:
        """Raises as GuestAgents.ask_guest does."""
        guest = self._known.get(desktop_id)
        if guest is None or guest.told is None or guest.generation != generation:
            raise GuestSilentError("the desktop's guest agent is not heard here")
        there = guest

        async def send(said: Ask) -> None:
            # where the channel is being renewed, it is said as soon as that is open
            if there.channel is not None:
                await there.channel.send(said)

        await there.asks.ask(ask, send, deadline_s)

    def _say(self, guest: Guest, operation_id: str, *, ready: bool, detail: str = "") -> None:
        self._reports.say(
            MachineReport(
                desktop_id=guest.desktop_id,
                generation=guest.generation,
                ready=ready,
                detail=detail,
                operation_id=operation_id,
            )
        )

    # ------------------------------------------------------------------- listening

    async def _tend(self, guest: Guest) -> None:
        """Have its port open, for as long as the machine is listened to."""
        failures = 0
        while True:
            if await self._attend(guest):
                failures = 0
            failures += 1
            most_s = min(LIBVIRT_PAUSE_S_MAX, 0.25 * 2.0 ** min(failures, 10))
            await self._clock.sleep(self._chance.uniform(0.05, most_s))

    async def _attend(self, guest: Guest) -> bool:
        """Until the port closes. Answers whether anything was heard."""
        ended = asyncio.Event()
        heard = False

        def said(message: FromGuest) -> None:
            nonlocal heard
            heard = True
            self._said(guest, message)

        channel = self._channel(guest, said, ended.set)
        # a connection that breaks does not tell its streams; links do not go through it
        over = (ended,) if isinstance(channel, LinkChannel) else (ended, guest.host.lost)
        try:
            if isinstance(channel, LinkChannel):
                await channel.open()
            else:
                force, guest.forced = guest.forced, False
                await channel.open(guest.uuid, force=force)
            guest.channel = channel
            await self._identify(guest, channel)
            await guest.asks.again(channel.send)
            while not any(one.is_set() for one in over):
                guest.wake.clear()
                await self._next(*over, guest.wake)
                if not ended.is_set() and not self._is_current(guest, guest.state):
                    await self._identify(guest, channel)
                    await self._clock.sleep(_IDENTIFY_PAUSE_S)
        except EngineError as error:
            _log.info("the guest of %s is not heard: %s", guest.desktop_id, error)
        finally:
            guest.channel = None
            guest.state = guest.told = None
            with contextlib.suppress(EngineError):
                await channel.close()
        return heard

    def _channel(
        self, guest: Guest, said: Callable[[FromGuest], object], ended: Callable[[], object]
    ) -> GuestChannel | LinkChannel:
        if guest.host.place.agent is Agent.WEBSOCKET:
            return LinkChannel(self._links, guest.desktop_id, guest.generation, said, ended)
        return GuestChannel(guest.host, said, ended)

    async def _next(self, *events: asyncio.Event) -> None:
        """Until one of these, or until it is time to look."""
        async with asyncio.TaskGroup() as tasks:
            waits = [
                tasks.create_task(self._clock.sleep(GUEST_IDENTIFY_S)),
                *(tasks.create_task(event.wait()) for event in events),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _identify(self, guest: Guest, channel: GuestChannel | LinkChannel) -> None:
        seed = hashlib.sha256(self._ids.secret().encode()).hexdigest()
        await channel.send(
            Identify(
                desktop_id=guest.desktop_id,
                generation=guest.generation,
                name=guest.name,
                time_ms=self._clock.now(),
                seed=seed,
            )
        )

    def _said(self, guest: Guest, message: FromGuest) -> None:
        self.on_said(guest, message)
        match message:
            case Done():
                guest.asks.done(message)
            case Hello() if not self._is_current(guest, message):
                guest.wake.set()
            case Hello():
                guest.boot = message.boot_id
            case State() if self._is_current(guest, message):
                guest.state = message
                guest.told = state_of(message, self._clock.now(), guest.boot)
                if message.ready:
                    if not guest.ready and not guest.waiting and self._links_up(guest):
                        # who waits for it may be another process
                        self._say(guest, "", ready=True)
                    guest.ready = True
                    while guest.waiting:
                        self._say(guest, guest.waiting.popleft(), ready=True)
            case State():
                guest.wake.set()

    def _links_up(self, guest: Guest) -> bool:
        return guest.host.place.agent is Agent.WEBSOCKET

    def _is_current(self, guest: Guest, said: Hello | State | None) -> bool:
        return (
            said is not None
            and said.desktop_id == guest.desktop_id
            and said.generation == guest.generation
        )
