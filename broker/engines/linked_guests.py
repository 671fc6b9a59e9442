"""Guests whose agents all reach the broker by the network: for engines without ports into machines.

Of a machine that nobody here waits for it is told all the same that it is ready: who waits may be
another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from broker.domain.errors import EngineError
from broker.engines.guest_asks import state_of
from broker.engines.guest_book import BookedGuest, GuestBook
from broker.engines.linked import LinkChannel
from broker.engines.reports import Reports
from broker.guest_wire import Done, FromGuest, Hello, Identify, State
from broker.limits import GUEST_IDENTIFY_S
from broker.ports import Chance, Clock, GuestLinks

_log = logging.getLogger("trivium.engines")
_PAUSE_S: Final = 0.5
"""longest until a link that was made anew is attended"""


class LinkedGuests(GuestBook[BookedGuest]):
    """Every guest that this process would attend."""

    def __init__(
        self, *, clock: Clock, chance: Chance, reports: Reports, links: GuestLinks | None
    ) -> None:
        super().__init__(clock, reports)
        self._chance = chance
        self._links = links

    def listen(self, desktop_id: str, name: str, generation: int) -> BookedGuest:
        """It runs: attend its agent from now on."""
        before = self._known.get(desktop_id)
        if before is not None and before.generation == generation:
            return before
        self.forget(desktop_id)
        guest = BookedGuest(desktop_id=desktop_id, name=name, generation=generation)
        self._keep(guest)
        return guest

    async def _tend(self, guest: BookedGuest) -> None:
        while True:
            await self._attend(guest)
            await self._clock.sleep(self._chance.uniform(0.05, _PAUSE_S))

    async def _attend(self, guest: BookedGuest) -> None:
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
                await self._tell_time(guest, channel)
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

    async def _identify(self, guest: BookedGuest, channel: LinkChannel) -> None:
        await channel.send(
            Identify(
                desktop_id=guest.desktop_id,
                generation=guest.generation,
                name=guest.name,
                time_ms=self._clock.now(),
            )
        )

    def _said(self, guest: BookedGuest, said: FromGuest) -> None:
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
            self._hears(guest, state_of(said, self._clock.now(), guest.boot))
            if said.ready:
                self._is_ready(guest, unasked=True)
