"""Displays of VDI desktops: the broker's desk is real, the frames are not carried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from agents.core import events
from broker import wire
from broker.domain.errors import TriviumError
from broker.gateway.ends import DisplayEnd
from broker.simulation.history import History
from broker.simulation.line import LATENCY_S
from broker.simulation.loop import SimLoop
from broker.simulation.process import Process
from broker.simulation.weather import Weather

FRAME_BYTES: Final = 4096
TICKET_AGAIN_S: Final = 50.0
"""a ticket that somebody else has seen is shown again within this"""


async def relay(
    process: Process,
    ticket: str,
    session_id: str,
    over: asyncio.Future[None],
    ready: Callable[[], None],
    browser: str | None = None,
) -> DisplayEnd:
    """In the broker, as gateway/display.py goes about it: redeem, connect, tell, and hold until
    one side ends it. `over`: the person's side has gone; `ready` is called when it shows;
    `browser`: the sign-in of the person whose it is, None at a station.

    Raises:
        TriviumError: it could not be opened.
    """
    leave = await process.desk.redeem(ticket, session_id, browser)
    console = await process.desk.connect(leave)
    await process.desk.opened(leave)
    ended: asyncio.Future[DisplayEnd] = process.loop.create_future()

    def end(why: DisplayEnd) -> None:
        if not ended.done():
            ended.set_result(why)

    def killed(why: str) -> None:
        end(DisplayEnd.TAKEN_OVER if why == "taken over" else DisplayEnd.KILLED)

    process.displays.opened(leave.session_id, leave.endpoint_id, leave.display, killed)
    over.add_done_callback(lambda _: end(DisplayEnd.CLIENT_CLOSED))
    process.loop.call_later(LATENCY_S, ready)
    try:
        why = await ended
    finally:
        process.displays.closed(leave.session_id, killed)
    await console.close()
    await process.desk.closed(leave, why)
    return why


class Seat(Protocol):
    """The station, as its displays see it."""

    name: str
    loop: SimLoop
    history: History
    chance: Random

    @property
    def weather(self) -> Weather: ...

    def feed(self, event: events.Event) -> None: ...

    def display_gone(self, session_id: str, display: Display) -> None: ...


class Display:
    """One display socket of a thin station."""

    def __init__(self, seat: Seat, session_id: str, ref: int, ticket: str) -> None:
        self._seat = seat
        self._session_id = session_id
        self._ref = ref
        self._ticket = ticket
        self._over: asyncio.Future[None] = seat.loop.create_future()

    def open(self, process: Process | None) -> None:
        if self._over.done():
            return
        if process is None or not process.ready:
            self.cut("nobody answers")
            return
        self._seat.history.operation("display opens", f"{self._seat.name} {self._session_id}")
        answer = process.ask(
            lambda _: relay(process, self._ticket, self._session_id, self._over, self._ready)
        )
        answer.add_done_callback(self._ended)
        if self._seat.chance.random() < self._seat.weather.ticket_again:
            delay = self._seat.chance.random() * TICKET_AGAIN_S
            self._seat.loop.call_later(delay, self._show_again, process)

    def _show_again(self, process: Process) -> None:
        """Somebody read the ticket on its way, and shows it too."""
        self._seat.history.fault("ticket shown again", f"{self._seat.name} {self._session_id}")
        answer = process.ask(lambda _: process.desk.redeem(self._ticket, self._session_id))
        answer.add_done_callback(lambda done: done.exception())

    def _ready(self) -> None:
        session_id, ref = self._session_id, self._ref
        ready = wire.encode(wire.DisplayReady(session_id=session_id, width=800, height=600))
        if not self._over.done():
            self._seat.feed(events.DisplayText(session_id=session_id, ref=ref, data=ready))
        if not self._over.done():
            frame = events.DisplayFrame(session_id=session_id, ref=ref, size=FRAME_BYTES)
            self._seat.feed(frame)

    def _ended(self, answer: asyncio.Future[DisplayEnd]) -> None:
        error = answer.exception()
        if self._over.done():
            return
        if isinstance(error, TriviumError):
            self.close()
            refused = wire.encode(wire.DisplayRefused(code=error.code))
            event = events.DisplayText(session_id=self._session_id, ref=self._ref, data=refused)
            self._seat.feed(event)
        else:
            self.cut("the broker ended it" if error is None else "the broker is gone")

    def cut(self, why: str) -> None:
        """The connection ends, and the station is told."""
        if not self._over.done():
            self.close()
            lost = events.DisplayLost(session_id=self._session_id, ref=self._ref, why=why)
            self._seat.feed(lost)

    def close(self) -> None:
        """The station's side closes, or is gone."""
        if not self._over.done():
            self._over.set_result(None)
            self._seat.display_gone(self._session_id, self)
