"""Who waits for which server to be ready, and which ones ran: told by looking at all of them.

A cloud pushes nothing to its tenants. So each is asked for all servers of this installation, often
while somebody waits and seldom otherwise; one list answers everybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from broker.domain.errors import EngineError
from broker.engines.linked_guests import LinkedGuests
from broker.engines.openstack.clouds import Cloud
from broker.engines.openstack.servers import Found, Servers
from broker.engines.reports import Reports
from broker.limits import (
    ENGINE_OPERATIONS_REMEMBERED,
    OPENSTACK_PAUSE_S_MAX,
    OPENSTACK_POLL_S,
    OPENSTACK_SURVEY_S,
)
from broker.ports import Chance, Clock, MachineReport

_log = logging.getLogger("trivium.openstack")
_WAITING_MAX: Final = 64
"""operations that wait for one machine's report"""
_FAILED: Final = "the cloud could not start it"
_UNMADE: Final = "the cloud did not make it fresh"
_STOPPED: Final = "the machine stopped"


@dataclass(slots=True, eq=False)
class Watched:
    """A machine that runs, or is expected to. `since`: lists begun before say nothing of it."""

    generation: int
    since: float
    ready: bool = False
    waiting: deque[str] = field(default_factory=lambda: deque(maxlen=_WAITING_MAX))


class Watch:
    """One cloud's. `guests`: the agents of its servers that link up. `is_busy`: whether somebody
    works on that desktop just now. `left`: told of each desktop whose machine has stopped, or is
    about to."""

    def __init__(
        self, cloud: Cloud, *, installation_id: str, clock: Clock, chance: Chance,
        reports: Reports, is_busy: Callable[[str], bool], left: Callable[[str], None],
        guests: LinkedGuests,
    ) -> None:  # fmt: skip
        self._guests = guests
        self._cloud = cloud
        self._installation_id = installation_id
        self._clock = clock
        self._chance = chance
        self._reports = reports
        self._is_busy = is_busy
        self._tell_left = left
        self._watched: dict[str, Watched] = {}
        self._left: OrderedDict[str, float] = OrderedDict()
        """when a machine was last stopped or removed on purpose"""
        self._wake = asyncio.Event()
        self._failures = 0

    def expect(self, desktop_id: str, generation: int, operation_id: str) -> None:
        """That operation's report follows when the machine is ready."""
        watched = self._watched.get(desktop_id)
        if watched is None or watched.generation != generation:
            watched = self._watched[desktop_id] = Watched(generation=generation, since=0.0)
        watched.since = self._clock.monotonic()
        watched.ready = False
        watched.waiting.append(operation_id)
        self._wake.set()

    def forget(self, desktop_id: str) -> None:
        """What follows is not a machine that stopped by itself."""
        self._watched.pop(desktop_id, None)
        self._guests.forget(desktop_id)
        self._tell_left(desktop_id)
        self._left[desktop_id] = self._clock.monotonic()
        self._left.move_to_end(desktop_id)
        if len(self._left) > ENGINE_OPERATIONS_REMEMBERED:
            self._left.popitem(last=False)

    async def run(self) -> None:
        """Look until cancelled. A cloud that does not answer is asked less and less often."""
        while True:
            began = self._clock.monotonic()
            self._wake.clear()
            try:
                found = await self._cloud.call(self.look)
            except EngineError as error:
                self._failures += 1
                most_s = min(OPENSTACK_PAUSE_S_MAX, 2.0 ** min(self._failures, 10))
                _log.warning("cloud %s was not looked at: %s", self._cloud.name, error)
                await self._clock.sleep(self._chance.uniform(1.0, max(1.0, most_s)))
                continue
            self._failures = 0
            self._tell({one.desktop_id: one for one in found}, began)
            # a cloud that takes long to answer is given as long to rest
            took = self._clock.monotonic() - began
            await self._clock.sleep(max(OPENSTACK_POLL_S, took))
            if not any(one.waiting for one in self._watched.values()):
                try:
                    async with asyncio.timeout(OPENSTACK_SURVEY_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def look(self, connection: object) -> list[Found]:
        return Servers(connection, self._installation_id).all()

    def _tell(self, found: dict[str, Found], began: float) -> None:
        for desktop_id, watched in tuple(self._watched.items()):
            if watched.since <= began and not self._is_busy(desktop_id):
                self._tell_of(desktop_id, watched, found.get(desktop_id))
        for desktop_id, one in found.items():
            known = desktop_id in self._watched or self._left.get(desktop_id, began) > began
            if one.ready and not known and not self._is_busy(desktop_id):
                self._watched[desktop_id] = Watched(
                    generation=one.generation, since=began, ready=True
                )
                self._listen(one)

    def _tell_of(self, desktop_id: str, watched: Watched, found: Found | None) -> None:
        if found is None:
            self._gone(desktop_id, watched, _STOPPED if watched.ready else "")
        elif found.generation != watched.generation:
            self._gone(desktop_id, watched, "")
        elif found.unmade:
            # what runs is of the generation before: its agent, too, which has the new ticket
            self._gone(desktop_id, watched, _UNMADE)
        elif found.ready and found.name:
            # it runs; that it is ready is its agent's to say
            watched.ready = True
            guest = self._guests.listen(desktop_id, found.name, found.generation)
            while watched.waiting:
                self._guests.expect(guest, watched.waiting.popleft())
        elif found.ready:
            watched.ready = True
            while watched.waiting:
                self._say(desktop_id, watched, ready=True, operation_id=watched.waiting.popleft())
        elif found.status == "ERROR":
            self._gone(desktop_id, watched, _FAILED)
        elif found.at_rest:
            self._gone(desktop_id, watched, "" if found.suspended else _STOPPED)

    def _listen(self, found: Found) -> None:
        if found.name:
            self._guests.listen(found.desktop_id, found.name, found.generation)

    def _gone(self, desktop_id: str, watched: Watched, detail: str) -> None:
        """`detail`: what is told of it; empty: nothing, for it is as somebody wanted it."""
        self._watched.pop(desktop_id, None)
        self._guests.forget(desktop_id)
        self._tell_left(desktop_id)
        if detail:
            asked = watched.waiting[-1] if watched.waiting else ""
            self._say(desktop_id, watched, ready=False, detail=detail, operation_id=asked)

    def _say(
        self, desktop_id: str, watched: Watched, *, ready: bool, detail: str = "",
        operation_id: str = "",
    ) -> None:  # fmt: skip
        self._reports.say(
            MachineReport(
                desktop_id=desktop_id,
                generation=watched.generation,
                ready=ready,
                detail=detail,
                operation_id=operation_id,
            )
        )
