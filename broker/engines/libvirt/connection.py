"""One host's libvirt daemon: calls on threads of its own, a connection that comes back.

libvirt's calls block, some of them for minutes, and cannot be interrupted. Each host has its own
few threads, so one that hangs holds up nobody else; a call that nobody waits for any more runs on
to its end, and whoever has the same machine's next turn waits for it (turns.py). Snapshots, during
which memory and disk are written, have threads beside the others', so that these stay free; and so
have the storage pools of a host with several (pools.py).

Each thread has a connection of its own. Of two calls that wait on one connection when it breaks,
libvirt 9.0's client lets one hang for ever or crashes; and what is closed is freed at once under
whoever is still in a call. The connection that hears events and guests has a thread, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import libvirt

from broker.domain.errors import EngineError, UnsupportedError
from broker.domain.silence import Silence
from broker.engines.libvirt.capabilities import Capabilities, read
from broker.engines.libvirt.errors import telling
from broker.engines.libvirt.events import run_events
from broker.engines.libvirt.knobs import Place
from broker.engines.libvirt.pools import Pools
from broker.engines.libvirt.route import Route
from broker.engines.reach.commands import Command, Said
from broker.engines.reach.ssh import SshStream
from broker.engines.reach.vencrypt import CertifiedStream
from broker.limits import (
    LIBVIRT_CALLS_MAX,
    LIBVIRT_KEEPALIVE_COUNT,
    LIBVIRT_KEEPALIVE_S,
    LIBVIRT_PAUSE_S_MAX,
    LIBVIRT_THREADS,
    SNAPSHOTS_PER_HOST_MAX,
)
from broker.ports import Chance, Clock

_T = TypeVar("_T")
_log = logging.getLogger("trivium.libvirt")

Happened = Callable[[str], object]
"""called on the asyncio loop with a machine's UUID when it started or stopped"""


def connect(host: str, place: Place) -> Any:
    """A new connection, for one thread. Raises EngineError."""
    run_events()
    with telling(host, "be reached"):
        connection = libvirt.open(place.uri)
        if place.kind.name != "test":
            connection.setKeepAlive(LIBVIRT_KEEPALIVE_S, LIBVIRT_KEEPALIVE_COUNT)
        return connection


class HostConnection:
    """`lost` is set while nothing is heard from the host; `silence`: since when, and
    why. `pools`: its storage pools. `reached`:
    its profile with the address that leads there now. One loop uses it."""

    def __init__(
        self, *, name: str, place: Place, route: Route, clock: Clock, chance: Chance,
        happened: Happened,
    ) -> None:  # fmt: skip
        self.name = name
        self.place = place
        self.reached = place
        self.pools = Pools(name, place, self._with_own)
        self._found: Capabilities | None = None
        self._route = route
        self.lost = asyncio.Event()
        self.lost.set()
        self._clock = clock
        self._chance = chance
        self._happened = happened
        self.silence: Silence | None = Silence(since=clock.now(), why="it was not reached yet")
        self._hearing: Any = None
        self._ear: Any = None
        self._ports: set[Callable[[], None]] = set()
        """what shuts each guest's port that is open; for the hearing thread alone"""
        self._hearing_thread = ThreadPoolExecutor(1, thread_name_prefix=f"libvirt ear {name}")
        self._threads = ThreadPoolExecutor(LIBVIRT_THREADS, thread_name_prefix=f"libvirt {name}")
        self._slow_threads = ThreadPoolExecutor(
            SNAPSHOTS_PER_HOST_MAX, thread_name_prefix=f"libvirt snapshots {name}"
        )
        self._own = threading.local()
        self._calls = 0
        self._opening = asyncio.Lock()
        self._failures = 0
        self._not_before = clock.monotonic()
        self._closed = False

    @property
    def capabilities(self) -> Capabilities | None:
        """As it was found when it was last reached, and its storage pools as they were seen last;
        None: it was not reached yet."""
        return None if self._found is None else replace(self._found, pools=self.pools.rooms())

    @property
    def failing(self) -> bool:
        """Whether the last attempt to reach it failed."""
        return self._failures > 0

    async def open(self) -> None:
        """Hear the host, if it is not heard. After a failure the next try waits, longer each time
        and by chance, so that a host that comes back is not stormed."""
        async with self._opening:
            if self._hearing is not None:
                return
            await self._clock.sleep(max(0.0, self._not_before - self._clock.monotonic()))
            try:
                self.reached = replace(self.place, uri=await self._route.ready())
                self._hearing = await self._listened()
            except EngineError as error:
                self._unheard(error.detail)
                self._failures += 1
                most_s = min(LIBVIRT_PAUSE_S_MAX, 2.0 ** min(self._failures, 10))
                pause_s = self._chance.uniform(0, most_s)
                self._not_before = self._clock.monotonic() + pause_s
                raise
            # at the next await the caller may leave, or the host hang up
            self._failures = 0
            self.silence = None
            self.lost.clear()
            await self.pools.glance()

    async def call(self, work: Callable[[Any], _T], *, slow: bool = False, pool: str = "") -> _T:
        """`work` with a connection that nobody else uses meanwhile. `slow`: it is a snapshot's, of
        which there are SNAPSHOTS_PER_HOST_MAX at once. `pool`: it is with a disk in that storage
        pool, and holds up nobody else's if that hangs."""
        await self.open()
        threads = self._slow_threads if slow else self.pools.threads(pool) or self._threads
        return await self._run(threads, lambda: self._with_own(work))

    async def hear(self, work: Callable[[Any], _T]) -> _T:
        """`work`, a short one, with the connection that hears events and guests."""
        await self.open()
        hearing = self._hearing
        if hearing is None:
            raise EngineError(f"{self.name} hung up")
        return await self._run(self._hearing_thread, lambda: work(hearing))

    async def speak(self, work: Callable[[], _T]) -> _T:
        """`work`, a short one, with something of the connection that hears."""
        return await self._run(self._hearing_thread, work)

    def opened(self, shut: Callable[[], None]) -> None:
        """On the hearing thread: a guest's port is open, and is shut by that when the connection
        is left. Else whatever calls back keeps it open at the host, and nobody else gets it."""
        self._ports.add(shut)

    def shut(self, shut: Callable[[], None]) -> None:
        """On the hearing thread: that port is shut."""
        self._ports.discard(shut)

    async def stream(self, path: str) -> SshStream:
        """To a socket at a host that is reached over SSH. Raises EngineError."""
        await self.open()
        return await self._route.stream(path)

    async def display(self, port: int) -> CertifiedStream:
        """At that port of a host that is reached over TLS. Raises EngineError."""
        return await self._route.display(port)

    async def run(self, command: Command) -> Said:
        """Have it run at a host that is reached over SSH, whether its daemon answers or not.
        Raises EngineError."""
        return await self._route.run(command)

    async def close(self) -> None:
        """Hang up; calls under way end by themselves."""
        self._closed = True
        self._drop(self._hearing)
        self._leave_soon()
        for threads in (self._hearing_thread, self._threads, self._slow_threads):
            threads.shutdown(wait=False)
        self.pools.close()
        await self._route.close()

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        """It runs to its end whoever stops waiting."""
        if self._closed:
            raise EngineError(f"{self.name} is not spoken to any more")
        if self._calls >= LIBVIRT_CALLS_MAX:
            raise EngineError(f"{self.name} has too many calls to answer")
        self._calls += 1
        future = asyncio.get_running_loop().run_in_executor(threads, work)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._calls -= 1
        if not future.cancelled():
            future.exception()

    # ------------------------------------------------------------------ on a thread

    def _with_own(self, work: Callable[[Any], _T]) -> _T:
        """`work` with this thread's connection; one that broke is not used again."""
        connection = getattr(self._own, "connection", None)
        if connection is None or not _is_alive(connection):
            connection = self._own.connection = connect(self.name, self.reached)
        try:
            return work(connection)
        except EngineError:
            if not _is_alive(connection):
                self._own.connection = None
            raise

    def _listen(self, loop: asyncio.AbstractEventLoop) -> Any:
        """On the hearing thread, which alone uses `_ear`: what it listens to until it leaves."""
        connection = self._ear = connect(self.name, self.reached)
        try:
            with telling(self.name, "be listened to"):
                if self.place.kind.name != "test":
                    connection.registerCloseCallback(self._hung_up, loop)
                connection.domainEventRegisterAny(
                    None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._heard, loop
                )
            self._check(connection)
        except BaseException:
            self._leave()
            raise
        return connection

    def _leave(self) -> None:
        """With its callbacks a connection would stay open though nobody knows it any more."""
        connection, self._ear = self._ear, None
        for shut in tuple(self._ports):
            shut()
        self._ports.clear()
        if connection is not None:
            _hang_up(connection)

    def _check(self, connection: Any) -> None:
        """Raises UnsupportedError for a host that lacks what its profile wants."""
        found = self._found = read(connection, self.name, self.place)
        refuses = found.refuses(self.place)
        if refuses:
            raise UnsupportedError(f"{self.name} makes no desktops: {refuses}")

    # ------------------------------------------------------- on libvirt's event thread

    def _heard(
        self, _connection: Any, domain: Any, _event: int, _detail: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        uuid = domain.UUIDString()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._happened, uuid)

    def _hung_up(self, connection: Any, _reason: int, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._drop, connection)

    # ------------------------------------------------------------------------ parts

    async def _listened(self) -> Any:
        """A connection that hears the host. Raises EngineError."""
        loop = asyncio.get_running_loop()
        try:
            connection = await self._run(self._hearing_thread, lambda: self._listen(loop))
        except asyncio.CancelledError:
            self._leave_soon()
            raise
        # that it hung up was said too soon to be noticed, or it was given up meanwhile
        if self._closed or not _is_alive(connection):
            self._leave_soon()
            raise EngineError(f"{self.name} hung up")
        return connection

    def _leave_soon(self) -> None:
        """Once the hearing thread has done what it was told before."""
        with contextlib.suppress(RuntimeError):  # the thread ends; it was told to leave before
            self._hearing_thread.submit(self._leave)

    def _unheard(self, why: str) -> None:
        """Still, or from now on."""
        since = self.silence.since if self.silence is not None else self._clock.now()
        self.silence = Silence(since=since, why=why)

    def _drop(self, connection: Any) -> None:
        if connection is None or connection is not self._hearing:
            return
        if not self._closed:
            _log.warning("%s hung up", self.name)
        self._hearing = None
        self._unheard("it hung up")
        self.lost.set()
        self._leave_soon()


def _is_alive(connection: Any) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def _hang_up(connection: Any) -> None:
    """Hear nothing more from it; it is closed when nothing uses it any more."""
    with contextlib.suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    for event_id in tuple(getattr(connection, "domainEventCallbackID", ())):
        with contextlib.suppress(libvirt.libvirtError):
            connection.domainEventDeregisterAny(event_id)
