"""The storage pools that a host's profile names: how each was seen last, and threads for each.

A pool can hang for as long as its file server is away, and everything that asks for it with it:
so do libvirt's list of all pools, and the daemon's thread that serves the call. Each pool is
therefore asked for by its name, on threads of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from broker.domain.errors import EngineError
from broker.engines.libvirt.capabilities import PoolRoom, glance, look
from broker.engines.libvirt.knobs import Place
from broker.limits import LIBVIRT_THREADS, STORAGE_ANSWER_S, STORAGE_GLANCE_S

_log = logging.getLogger("trivium.libvirt")


class Pools:
    """Of one host. `with_own`: work with the connection of the thread that it runs on. One loop
    uses it; `silent` is read on threads, too: pools that have not answered in time."""

    def __init__(
        self, host: str, place: Place, with_own: Callable[[Callable[[Any], Any]], Any]
    ) -> None:
        self._host = host
        self._names = place.pools
        self._with_own = with_own
        self._looking = ThreadPoolExecutor(
            len(self._names), thread_name_prefix=f"libvirt looks {host}"
        )
        self._working = {
            name: ThreadPoolExecutor(LIBVIRT_THREADS, thread_name_prefix=f"libvirt {host} {name}")
            for name in (self._names if place.classes else ())
        }
        self._rooms: dict[str, PoolRoom | None] = {}
        self._under_way: dict[str, asyncio.Future[PoolRoom | None]] = {}
        self.silent: frozenset[str] = frozenset()

    def threads(self, name: str) -> ThreadPoolExecutor | None:
        """For work on disks in that pool; None: it is the host's only one."""
        return self._working.get(name)

    def rooms(self) -> tuple[PoolRoom, ...]:
        """Those that are there, or do not say so."""
        found = []
        for name in self._names:
            room = self._rooms.get(name)
            if name in self.silent or name not in self._rooms:
                known = room or PoolRoom(name=name, kind="", running=False, capacity=0, available=0)
                found.append(replace(known, silent=True))
            elif room is not None:
                found.append(room)
        return tuple(found)

    async def glance(self) -> None:
        """Ask what is known of each. It raises nothing."""
        await self._ask(glance, STORAGE_GLANCE_S)

    async def look(self) -> None:
        """Have each looked into anew. It raises nothing."""
        await self._ask(look, STORAGE_ANSWER_S)

    def close(self) -> None:
        for threads in (self._looking, *self._working.values()):
            threads.shutdown(wait=False)

    async def _ask(self, how: Callable[[Any, str, str], PoolRoom | None], within_s: float) -> None:
        """One that was asked already and has not answered is not asked again; it is heard when it
        does."""
        asked = {self._begun(name, how): name for name in self._names}
        _, late = await asyncio.wait(asked, timeout=within_s)
        self._mark({asked[one] for one in late})

    def _mark(self, late: Iterable[str]) -> None:
        for name in set(late) - self.silent:
            _log.warning("%s: its storage pool %s does not answer", self._host, name)
        self.silent |= frozenset(late)

    def _begun(
        self, name: str, how: Callable[[Any, str, str], PoolRoom | None]
    ) -> asyncio.Future[PoolRoom | None]:
        under_way = self._under_way.get(name)
        if under_way is not None:
            return under_way

        def work() -> PoolRoom | None:
            found: PoolRoom | None = self._with_own(lambda one: how(one, self._host, name))
            return found

        future = asyncio.get_running_loop().run_in_executor(self._looking, work)
        self._under_way[name] = future
        future.add_done_callback(lambda done: self._answered(name, done))
        return future

    def _answered(self, name: str, future: asyncio.Future[PoolRoom | None]) -> None:
        self._under_way.pop(name, None)
        error = None if future.cancelled() else future.exception()
        if isinstance(error, EngineError):
            _log.info("%s did not look into %s: %s", self._host, name, error)
        elif error is not None:
            _log.error("%s: looking into %s failed", self._host, name, exc_info=error)
        elif not future.cancelled():
            self._rooms[name] = future.result()
            self.silent -= {name}
