"""What the engine knows of each machine's guest, and how it keeps listening to it.

Whoever waits for a machine to be ready is told once, by operation; so is everybody when one that
was ready stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.domain.errors import EngineError
from broker.engines.guest_asks import state_of
from broker.engines.guest_book import BookedGuest, GuestBook
from broker.engines.libvirt.channel import GuestChannel
from broker.engines.libvirt.connection import HostConnection
from broker.engines.libvirt.kinds import Agent
from broker.engines.linked import LinkChannel
from broker.engines.reports import Reports
from broker.guest_wire import Done, FromGuest, Hello, Identify, State
from broker.limits import GUEST_IDENTIFY_S, LIBVIRT_PAUSE_S_MAX
from broker.ports import Chance, Clock, GuestLinks, Ids

_log = logging.getLogger("trivium.libvirt")
_IDENTIFY_PAUSE_S: Final = 0.2
"""between two identifications of one guest that does not take its name"""


@dataclass(slots=True, eq=False, kw_only=True)
class Guest(BookedGuest):
    """`state`: what it said last over the channel that is open. `forced`: the next attempt takes
    the port from whoever has it. `woken`: it goes on from saved memory, and was not told yet."""

    uuid: str
    host: HostConnection
    host_id: str
    state: State | None = None
    forced: bool = False
    woken: bool = False


class Guests(GuestBook[Guest]):
    """Every guest that this process listens to, by desktop id."""

    def __init__(
        self, *, clock: Clock, chance: Chance, ids: Ids, reports: Reports,
        guest_links: GuestLinks | None = None,
    ) -> None:  # fmt: skip
        super().__init__(clock, reports)
        self._links = guest_links
        self._chance = chance
        self._ids = ids
        self.on_said: Callable[[Guest, FromGuest], object] = lambda _guest, _said: None

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
        guest.forced = force
        silent = guest.host.place.agent is Agent.NONE
        guest.ready |= silent
        self._keep(guest, tended=not silent)
        return guest

    def stopped(self, guest: Guest, why: str) -> None:
        """It stopped by itself: told, and not listened to any more."""
        self.forget(guest.desktop_id)
        self._say(guest, guest.waiting[-1] if guest.waiting else "", ready=False, detail=why)

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
                await self._tell_time(guest, channel)
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
                woken=guest.woken,
            )
        )
        guest.woken = False

    def _said(self, guest: Guest, message: FromGuest) -> None:
        self.on_said(guest, message)
        match message:
            case Done():
                guest.asks.done(message)
            case Hello() if not self._is_current(guest, message):
                self._unknown(guest)
            case Hello():
                guest.boot = message.boot_id
            case State() if self._is_current(guest, message):
                guest.state = message
                self._hears(guest, state_of(message, self._clock.now(), guest.boot))
                if message.ready:
                    self._is_ready(guest, unasked=self._links_up(guest))
            case State():
                self._unknown(guest)

    def _unknown(self, guest: Guest) -> None:
        """It was started anew on the port that is open, or never told who it is: what it said
        before is not so any more, and it is told now."""
        guest.state = guest.told = None
        guest.wake.set()

    def _links_up(self, guest: Guest) -> bool:
        return guest.host.place.agent is Agent.WEBSOCKET

    def _is_current(self, guest: Guest, said: Hello | State | None) -> bool:
        return (
            said is not None
            and said.desktop_id == guest.desktop_id
            and said.generation == guest.generation
        )
