"""One broker process: the real services over unreliable ports, and its sudden death."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any, Final, Protocol, TypeVar, cast

from broker.domain.errors import ProtocolError, TriviumError, UnavailableError
from broker.domain.model import Image
from broker.gateway.desk import Desk, end_displays
from broker.ports import DisplayClient, Engine, Store
from broker.services.assembly import assemble
from broker.services.bundle import Services
from broker.services.conversation.handshake import refuse
from broker.services.conversation.link import AgentLink
from broker.services.images import Images
from broker.services.kit import Kit
from broker.simulation.engine import EnginePort, Hypervisor
from broker.simulation.history import History
from broker.simulation.line import SimLine
from broker.simulation.loop import SimLoop
from broker.simulation.ports import Bus, Saw, SimEvents, StoreProxy
from broker.simulation.seams import (
    SimChance,
    SimClock,
    SimIds,
    SimPasswords,
    SimSignatures,
)
from broker.simulation.watched import CAUSE
from broker.simulation.weather import Weather
from broker.store.memory import MemoryStore

Answer = TypeVar("Answer")

INSTALLATION: Final = "tri_simulated"
IMAGE_KEY: Final = b"the simulation's image key"
SKEW_MS_MAX: Final = 1500
"""how far a broker's wall clock may be from the others'"""
NOT_RUN: Final = frozenset({"bus", "displays", "measures", "shadows", "viewers"})
"""tasks of the app that have nothing to do here: the message bus, the count of the bytes of frames,
of which there are none, viewers outside the browser, and the staff's looking on"""
_SEGMENTS: Final = 3
_BOOT_SEGMENTS: Final = 2


class GoneError(ConnectionError):
    """The broker that was asked is dead, or the answer was lost."""


class SimImages:
    """The ImageSource port: small images whose digests cost next to nothing."""

    def segments(self, image: Image, *, boot_only: bool) -> int:
        del image
        return _BOOT_SEGMENTS if boot_only else _SEGMENTS

    def segment(self, image: Image, index: int) -> bytes:
        return f"{image.id} {image.version} {index}".encode()

    def digest(self, image: Image, index: int) -> str:
        return f"{image.id} {index}".encode().hex().ljust(32, "0")[:32]


class World(Protocol):
    """What a process is put into."""

    loop: SimLoop
    history: History
    store: MemoryStore
    hypervisor: Hypervisor
    bus: Bus
    ids: SimIds
    weather: Weather

    def saw(
        self, process: Process, name: str, args: tuple[Any, ...], result: Any
    ) -> None: ...  # the store carried out a call

    def died(self, process: Process) -> None: ...

    def fell(self, process: Process, error: BaseException) -> None: ...


class SimDisplays:
    """The Displays port as far as ending them goes: what is open here, and how it is closed."""

    def __init__(self) -> None:
        self._open: dict[str, Callable[[str], None]] = {}
        self._places: dict[str, tuple[str | None, str | None]] = {}
        """session -> the endpoint that its display is for, or None and which display it is"""

    async def serve(
        self,
        client: DisplayClient,
        *,
        ticket: str,
        session_id: str | None = None,
        browser: str | None = None,
    ) -> str:
        raise NotImplementedError  # stations open displays through the desk

    def opened(
        self,
        session_id: str,
        endpoint_id: str | None,
        display: str | None,
        end: Callable[[str], None],
    ) -> None:
        """A display is open; one that was open before for this session is taken over."""
        before = self._open.get(session_id)
        self._open[session_id] = end
        self._places[session_id] = (endpoint_id, None if endpoint_id is not None else display)
        if before is not None:
            before("taken over")

    def closed(self, session_id: str, end: Callable[[str], None]) -> None:
        if self._open.get(session_id) is end:
            del self._open[session_id]

    def kill(
        self, session_id: str, detail: str = "", code: str = "display.killed",
        browser: str | None = None,
    ) -> bool:  # fmt: skip
        del code, browser  # nobody signs out here
        end = self._open.pop(session_id, None)
        if end is not None:
            end(detail or "killed")
        return end is not None

    def elsewhere(self, session_id: str, endpoint_id: str | None, display: str | None) -> bool:
        place = (endpoint_id, None if endpoint_id is not None else display)
        return session_id in self._open and self._places[session_id] != place

    def open_sessions(self) -> tuple[str, ...]:
        return tuple(self._open)


class Process:
    """A broker from its start to its death. Its tasks die with it: see loop.OWNER."""

    def __init__(self, world: World, name: str, chance: Random) -> None:
        self.name = name
        self.loop = world.loop
        self.history = world.history
        self.chance = chance
        self.alive = True
        self.ready = False
        self.started_s = world.loop.time()
        self.store_away_until_s = 0.0
        self.weather: Weather = world.weather
        self.dies_in = -1
        """port calls left before it dies; below 0: it lives"""
        self.lines: dict[SimLine, None] = {}
        self.on_point: Callable[[str], Awaitable[None]] | None = None
        self._world = world
        self._asked: dict[asyncio.Future[Any], None] = {}
        self._never: asyncio.Future[None] = world.loop.create_future()
        self.events = SimEvents(self, world.bus)
        self.engine = EnginePort(self, world.hypervisor)
        self.clock = SimClock(world.loop, int(chance.uniform(-SKEW_MS_MAX, SKEW_MS_MAX)))
        self.displays = SimDisplays()
        self.link = AgentLink()
        self.services = self._services()
        self.link.attach(self.services)
        self.desk = Desk(
            self.services.kit, self.services.sessions, self._engine, self.services.showing
        )

    def _engine(self, name: str) -> Engine:
        del name
        return cast("Engine", self.engine)

    def _services(self) -> Services:
        world = self._world
        saw = cast("Saw", world.saw)
        kit = Kit(
            store=cast("Store", StoreProxy(self, world.store, saw)),
            clock=self.clock,
            ids=world.ids,
            chance=SimChance(self.chance),
            events=self.events,
            installation_id=INSTALLATION,
        )
        services = assemble(
            kit,
            link=self.link,
            engines=self._engine,
            hasher=SimPasswords(),
            signatures=SimSignatures(),
            images=Images(SimImages(), IMAGE_KEY),
        )
        look = services.reconciler.look

        async def counted_look() -> None:
            world.history.operation("reconciler look", self.name)
            await look()

        setattr(services.reconciler, "look", counted_look)  # noqa: B010 - counted on its way
        # the broker survives its own faults in background work; the world does not forgive them
        services.reconciler.tell_bugs(lambda error: world.fell(self, error))
        services.guest_care.on_bug = lambda error: world.fell(self, error)
        return services

    # ----------------------------------------------------------------------- life

    def start(self) -> None:
        self.loop.spawn(self._run(), self, self.name)

    def background(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What the app runs beside the requests, under the app's names; see NOT_RUN."""
        services = self.services
        return {
            "claims": services.connect.run(),
            "copies": services.copies.run(),
            "profiles": services.host_profiles.run(),
            "sealer": services.audit.run(),
            "delivery": services.delivery.run(),
            "watch": services.watch.run(),
            "overview": services.overviews.run(),
            "link": self.link.run(),
            "display ends": end_displays(services.kit, self.displays),
            "guests": services.guest_care.run((cast("Engine", self.engine),)),
            "reconciler": services.reconciler.run((cast("Engine", self.engine),)),
        }

    async def _run(self) -> None:
        self.ready = True
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, work in self.background().items():
                    tasks.create_task(work, name=name)
        except Exception as error:  # noqa: BLE001 - told to the world, which judges it
            self._world.fell(self, error)

    async def point(self, what: str) -> None:
        """See Mortal.point. A countdown set by the world ends here."""
        if self.on_point is not None:
            await self.on_point(what)
        if self.dies_in >= 0:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.history.fault("process dies", f"{self.name} at {what}")
                self.die()
                await self._never

    def die(self) -> None:
        """At once: from now on nothing of it runs."""
        if not self.alive:
            return
        self.alive = self.ready = False
        self.events.leave()
        self.engine.leave()
        for future in self._asked:
            if not future.done():
                future.set_exception(GoneError("the broker died"))
        self._world.died(self)

    # -------------------------------------------------------------------- requests

    def ask(
        self, work: Callable[[Services], Coroutine[Any, Any, Answer]]
    ) -> asyncio.Future[Answer]:
        """A request from outside, carried out by this process; its answer, or why there is none.

        Raises (the future): TriviumError as a client is told; GoneError when the process dies.
        """
        answer: asyncio.Future[Answer] = self.loop.create_future()
        if not self.ready:
            answer.set_exception(GoneError("nobody listens"))
            return answer
        self._asked[answer] = None
        answer.add_done_callback(lambda done: self._asked.pop(done, None))
        self.loop.spawn(self._carry_out(work, answer), self, "request")
        return answer

    async def _carry_out(
        self,
        work: Callable[[Services], Coroutine[Any, Any, Answer]],
        answer: asyncio.Future[Answer],
    ) -> None:
        try:
            result = await work(self.services)
        except TriviumError as error:
            if not answer.done():
                answer.set_exception(error)
        except Exception as error:  # noqa: BLE001 - a fault of the broker: told and judged
            self._world.fell(self, error)
            if not answer.done():
                answer.set_exception(GoneError("the broker failed"))
        else:
            if not answer.done():
                answer.set_result(result)

    # ----------------------------------------------------------------------- lines

    def accept(self, line: SimLine) -> None:
        """An endpoint's connection has reached this process."""
        self.lines[line] = None
        self.loop.spawn(self._serve(line), self, "line")

    async def _serve(self, line: SimLine) -> None:
        """As broker/web/agent_link.py does with a WebSocket."""
        CAUSE.set(line.end.endpoint_id)
        try:
            connection = await self.link.admit(line)
            if connection is None:
                return
            try:
                while (text := await line.receive()) is not None and await self.link.take(
                    connection, text
                ):
                    pass
            except ProtocolError as error:
                await refuse(line, error)
            finally:
                await self.link.leave(connection)
        except (UnavailableError, ConnectionError):
            pass  # the web server closes the socket of a handler that raised
        except Exception as error:  # noqa: BLE001 - a fault of the broker: told and judged
            self._world.fell(self, error)
        finally:
            await line.close(1011, "over")
            self.lines.pop(line, None)


logging.getLogger("trivium").addHandler(logging.NullHandler())
