"""The people: they connect, wait, work, log off, walk away, come back elsewhere, and try again.

What a person asks goes to any broker that listens, over a way that can lose the answer or carry
the request twice. A person who got no answer asks again with the same idempotency key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol, TypeVar

from broker.domain.errors import TriviumError, UnavailableError
from broker.domain.lifecycle import SESSION
from broker.domain.model import Architecture, Identity, Pool, Session, SessionState
from broker.services.bundle import Services
from broker.services.connect import Connected
from broker.services.origin import NOWHERE, Origin
from broker.simulation.display import relay
from broker.simulation.history import History
from broker.simulation.line import LATENCY_S
from broker.simulation.loop import SimLoop
from broker.simulation.process import GoneError, Process
from broker.simulation.weather import Weather

Answer = TypeVar("Answer")

CLIENT_S: Final = 20.0
"""after that a client gives up waiting for an answer"""
TRIES_MAX: Final = 6
DOUBLED_S: Final = 60.0
"""a request that the network carries twice comes again within this"""
THINK_S: Final = 9.0
"""mean pause between two things that a person does"""
WORK_S: Final = 18.0
"""mean time that a person uses a desktop"""


class Office(Protocol):
    """Where people are."""

    loop: SimLoop
    history: History
    weather: Weather
    acting: bool

    def any_process(self) -> Process | None: ...

    def pools(self) -> tuple[Pool, ...]: ...

    def desks(self, architecture: str) -> tuple[str, ...]:
        """Names of the endpoints that can carry it."""


@dataclass(slots=True)
class Wish:
    """What a person asks for, with the key that makes it one wish however often it is sent."""

    pool: Pool
    endpoint: str | None
    key: str | None


class Person:
    """`origin`: where the requests come from."""

    def __init__(
        self, office: Office, identity: Identity, chance: Random, origin: Origin = NOWHERE
    ) -> None:
        self.identity = identity
        self.origin = origin
        self._office = office
        self._chance = chance
        self._loop = office.loop
        self._told: dict[str, str] = {}
        """idempotency key -> the session that it was answered with"""
        self._keys = 0
        self._ticket: str | None = None

    # ------------------------------------------------------------------- the way

    async def ask(
        self, what: str, work: Callable[[Services], Coroutine[Any, Any, Answer]]
    ) -> Answer:
        """One request; its answer. Raises TriviumError, GoneError or TimeoutError."""
        office, draw = self._office, self._chance.random
        await asyncio.sleep(draw() * LATENCY_S)
        process = office.any_process()
        if process is None:
            raise GoneError("nobody answers")
        office.history.operation(f"person: {what}", f"{self.identity.username} {process.name}")
        if draw() < office.weather.request_doubled:
            office.history.fault("request doubled", f"{self.identity.username} {what}")
            self._loop.call_later(draw() * DOUBLED_S, self._again, work)
        async with asyncio.timeout(CLIENT_S):
            answer = await process.ask(work)
        if draw() < office.weather.reply_lost:
            office.history.fault("reply lost", f"{self.identity.username} {what}")
            raise GoneError("the answer was lost")
        return answer

    def _again(self, work: Callable[[Services], Coroutine[Any, Any, Any]]) -> None:
        """The same request once more, late; its answer reaches nobody."""
        process = self._office.any_process()
        if process is not None and self._office.acting:
            process.ask(work).add_done_callback(lambda done: done.exception())

    async def insist(
        self, what: str, work: Callable[[Services], Coroutine[Any, Any, Answer]]
    ) -> Answer | None:
        """Ask until there is an answer; None after TRIES_MAX, or when the broker says no."""
        for turn in range(TRIES_MAX):
            try:
                return await self.ask(what, work)
            except (GoneError, TimeoutError, UnavailableError):
                await asyncio.sleep(self._chance.random() * 2**turn)
            except TriviumError:
                return None
        return None

    # ------------------------------------------------------------------- a life

    async def live(self) -> None:
        """For as long as people act."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / THINK_S))
            if not self._office.acting:
                return
            wish = self._wish()
            connected = await self._connect(wish)
            if connected is not None:
                await self._use(wish, connected.session)

    def _wish(self, pool: Pool | None = None) -> Wish:
        draw, choice = self._chance.random, self._chance.choice
        pool = pool or choice(self._office.pools())
        desks = self._office.desks(pool.architecture)
        browser = pool.architecture is Architecture.VDI and draw() < 0.4
        key = None
        if draw() < 0.8:
            self._keys += 1
            key = f"{self.identity.username}-{self._keys}"
        return Wish(pool=pool, endpoint=None if browser else choice(desks), key=key)

    async def _connect(self, wish: Wish) -> Connected | None:
        async def work(services: Services) -> Connected:
            connected = await services.connect.connect(
                self.identity, wish.pool.id, wish.endpoint, wish.key, self.origin
            )
            self._answered(wish, connected.session)
            return connected

        connected = await self.insist("connect", work)
        if connected is None:
            return None
        self._ticket = connected.ticket
        return connected

    def _answered(self, wish: Wish, session: Session) -> None:
        """A broker answers a connect, whether or not the answer arrives."""
        if session.user_id != self.identity.user_id:
            text = f"{self.identity.username} was given {session.id} of {session.user_id}"
            self._office.history.violated("I1", text)
        if wish.key is not None and self._told.setdefault(wish.key, session.id) != session.id:
            text = f"key {wish.key} led to {self._told[wish.key]} and then to {session.id}"
            self._office.history.violated("I6", text)

    async def _use(self, wish: Wish, session: Session) -> None:
        found = await self._await_live(wish, session)
        while found is not None and self._office.acting:
            if found.state in SESSION.terminal:
                return
            await asyncio.sleep(self._chance.expovariate(1 / WORK_S))
            found = await self._move_on(wish, found)

    async def _await_live(self, wish: Wish, session: Session) -> Session | None:
        """Wait in the queue and for the desktop; some lose patience."""
        waits, state = 0, session.state
        while state in {SessionState.QUEUED, SessionState.DELIVERING}:
            if wish.endpoint is None and state is SessionState.DELIVERING:
                self._open_display(session)
            waits += 1
            if waits > 8 or not self._office.acting:
                break
            found = await self._look(session)
            if found is None:
                return None
            session, state = found, found.state
        return session

    async def _look(self, session: Session) -> Session | None:
        return await self.insist(
            "wait",
            lambda all_: all_.sessions.wait(self.identity, session.id, session.revision, 10.0),
        )

    async def _answer(self, session: Session, wish_id: str) -> None:
        """Somebody asks from elsewhere for what is open in this browser: yes, no, or nothing."""
        fate = self._chance.random()
        if fate < 0.8:
            await self.insist(
                "consent",
                lambda all_: all_.sessions.consent(
                    self.identity, session.id, wish_id, granted=fate < 0.5
                ),
            )

    def _open_display(self, session: Session) -> None:
        """A browser shows the desktop until it is closed."""
        process, ticket = self._office.any_process(), self._ticket
        if process is None or ticket is None:
            return
        self._ticket = None
        self._office.history.operation("display opens", f"{self.identity.username} {session.id}")
        over: asyncio.Future[None] = self._loop.create_future()
        stays_s = self._chance.expovariate(1 / (2 * WORK_S))
        self._loop.call_later(stays_s, lambda: None if over.done() else over.set_result(None))
        browser = self.identity.token_id
        answer = process.ask(
            lambda _: relay(process, ticket, session.id, over, lambda: None, browser)
        )
        answer.add_done_callback(lambda done: done.exception())

    async def _move_on(self, wish: Wish, session: Session) -> Session | None:
        """What somebody does next: end it, leave it, come back, go elsewhere, or go on."""
        fate, session_id = self._chance.random(), session.id
        if session.wish is not None and session.endpoint_id is None:
            await self._answer(session, session.wish.id)
        if fate < 0.4:
            await self.insist(
                "log off", lambda all_: all_.sessions.log_off(self.identity, session_id)
            )
            return None
        if fate < 0.6 and wish.pool.architecture is Architecture.VDI:
            await self.insist(
                "disconnect", lambda all_: all_.sessions.disconnect(self.identity, session_id)
            )
            return await self._look(session)
        if fate < 0.85:
            again = self._wish(wish.pool)
            connected = await self._connect(again)
            if connected is None:
                return None
            return await self._await_live(again, connected.session)
        if fate < 0.9:
            return None
        return await self._look(session)
