"""The display relay: between a person's socket and an engine's console, parsing nothing.

Frames go down, input goes up. Either side is held back by the other: one frame is taken from
the desktop when the one before was sent, so nothing is kept here but what is in hand. One
display per session: a new one, with its new ticket, takes over from the one before. `kill` ends
a display at once; no frame begins its way after it.

What the gateway needs from the services it asks of a `DisplayDesk`; the socket is a
`DisplayClient` (ports), so that nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from broker.domain.errors import (
    BadTicketError,
    BusyError,
    EngineError,
    TriviumError,
    UnavailableError,
)
from broker.domain.measures import DisplayMeasure
from broker.domain.model import Desktop
from broker.domain.session_time import Heard
from broker.gateway.ends import DETAILS, DisplayEnd
from broker.gateway.inputs import input_of
from broker.gateway.meter import Meter
from broker.limits import (
    DISPLAY_CLOSE_S,
    DISPLAY_DRAIN_LOOK_S,
    DISPLAY_INPUT_BYTES_MAX,
    DISPLAY_OPEN_S,
    DISPLAY_REPORT_S,
    DISPLAY_S_MAX,
    DISPLAY_SEND_S,
    DISPLAYS_MAX,
    FRAME_BYTES_MAX,
)
from broker.ports import Clock, Console, DisplayClient

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_FULL_RETRY_S = 5.0
"""what a client is told when this process has as many displays as it takes"""


CUT = frozenset({DisplayEnd.KILLED, DisplayEnd.SIGNED_OUT, DisplayEnd.TAKEN_OVER})
"""ends that do not wait for the desktop or the database before the client is closed"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayLeave:
    """What a redeemed ticket opens, for which place: an endpoint, or the browser of that sign-in.

    `display` is the ticket's id, by which the session knows which of its displays is its own.
    `protocol`: the one that the viewer outside the browser speaks; empty: the desktop's own.
    """

    session_id: str
    desktop: Desktop
    endpoint_id: str | None = None
    browser: str | None = None
    display: str | None = None
    protocol: str = ""


class DisplayDesk(Protocol):
    """What the gateway asks of the services."""

    async def redeem(
        self, ticket: str, session_id: str | None, browser: str | None
    ) -> DisplayLeave:
        """Use the ticket up, at an endpoint or in that browser. Raises BadTicketError, also where
        it is of another session or place."""

    async def connect(self, leave: DisplayLeave) -> Console:
        """The desktop's console. Raises EngineError."""

    async def opened(self, leave: DisplayLeave) -> None:
        """The display is open: a session without an endpoint is live now. Raises BadTicketError
        where the session has ended or moved meanwhile; the display closes then."""

    async def closed(self, leave: DisplayLeave, why: DisplayEnd) -> None:
        """The session's display is gone. Not called for one that another here took over."""

    async def traffic(self, bytes_of: Mapping[str, int]) -> Mapping[str, int]:
        """Bytes relayed since the last call, both directions added, by session id. Answers those
        that could not be written down now, to be told again."""

    def inputs(self, last_of: Mapping[str, Heard]) -> None:
        """When the last input of each session came: what idle time is counted from."""

    def measured(self, measures: Sequence[DisplayMeasure]) -> None:
        """What the open displays carried since the last call."""

    def over(self, why: DisplayEnd, rest: DisplayMeasure) -> None:
        """A display that was shown has ended; `rest`: what it carried since the last call."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Display:
    """One display from redeemed to closed. `end` is set once, by whoever ends it."""

    leave: DisplayLeave
    shown: DisplayLeave | None = None
    """what the services believe to be open of this session: this one, or one before"""
    greeted: bool = False
    """the client was told that it is open"""
    why: DisplayEnd | None = None
    detail: str = ""
    meter: Meter
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    """held while the services are told of one of the session's displays; handed on by take-over"""

    @property
    def over(self) -> bool:
        return self.ended.is_set()

    def end(self, why: DisplayEnd, detail: str = "") -> None:
        if self.why is None:
            self.why, self.detail = why, detail or DETAILS[why]
            self.ended.set()


class DisplayGateway:
    """The Displays port. `run` must be a task of the application: it reports traffic.

    `seconds_max`: how long one display may stay open (of the clock).
    """

    def __init__(
        self,
        *,
        desk: DisplayDesk,
        clock: Clock,
        displays_max: int = DISPLAYS_MAX,
        seconds_max: float = DISPLAY_S_MAX,
        report_s: float = DISPLAY_REPORT_S,
    ) -> None:
        self._desk = desk
        self._clock = clock
        self._displays_max = displays_max
        self._seconds_max = seconds_max
        self._report_s = report_s
        self._open: dict[str, _Display] = {}
        self._serving = 0
        self._bytes: dict[str, int] = {}
        self._inputs: dict[str, Heard] = {}

    @property
    def open_count(self) -> int:
        """Displays being served, for metrics."""
        return self._serving

    async def serve(
        self,
        client: DisplayClient,
        *,
        ticket: str,
        session_id: str | None = None,
        browser: str | None = None,
    ) -> str:
        """See the Displays port. Raises BusyError, before the ticket is used, when this process
        has as many displays as it takes."""
        if self._serving >= self._displays_max:
            raise BusyError("too many displays are open", retry_after_s=_FULL_RETRY_S)
        self._serving += 1
        try:
            leave = await bounded(
                self._desk.redeem(ticket, session_id, browser),
                DISPLAY_OPEN_S,
                "the ticket's store",
            )
            if session_id is not None and leave.session_id != session_id:
                raise BadTicketError("the ticket is of another session")
            return await self._serve(client, leave)
        finally:
            self._serving -= 1

    def kill(
        self, session_id: str, detail: str = "", code: str = DisplayEnd.KILLED,
        browser: str | None = None,
    ) -> bool:  # fmt: skip
        """See the Displays port."""
        display = self._open.get(session_id)
        if display is None or (browser is not None and display.leave.browser != browser):
            return False
        display.end(DisplayEnd(code), detail)
        return True

    def elsewhere(self, session_id: str, endpoint_id: str | None, display: str | None) -> bool:
        """See the Displays port."""
        here = self._open.get(session_id)
        if here is None or here.leave.endpoint_id != endpoint_id:
            return here is not None
        # one that is still being opened is not known to the session yet
        known = here.shown is here.leave
        return endpoint_id is None and known and here.leave.display != display

    def open_sessions(self) -> tuple[str, ...]:
        """See the Displays port."""
        return tuple(self._open)

    async def drain(self, seconds: float) -> None:
        """Wait until the last display of this process has closed, at most that long (of the
        clock); then end those that are left, which may be opened at another process."""
        until = self._clock.monotonic() + seconds
        while self._open and self._clock.monotonic() < until:
            await self._clock.sleep(min(DISPLAY_DRAIN_LOOK_S, until - self._clock.monotonic()))
        for display in self._open.values():
            display.end(DisplayEnd.BROKER_STOPS)

    async def run(self) -> None:
        """Report traffic every DISPLAY_REPORT_S, until cancelled; call `flush` after that."""
        while True:
            await self._clock.sleep(self._report_s)
            await self.flush()

    async def flush(self) -> None:
        """Report the traffic counted so far, and the last inputs. Traffic that the services cannot
        write down is kept for next time."""
        inputs, self._inputs = self._inputs, {}
        if inputs:
            self._desk.inputs(inputs)
        measures = [one.meter.read() for one in self._open.values() if one.greeted]
        if measures:
            self._desk.measured(measures)
        counted, self._bytes = self._bytes, {}
        await self._tell_traffic(counted)

    async def _tell_traffic(self, counted: Mapping[str, int]) -> None:
        if not counted:
            return
        left: Mapping[str, int] = counted
        try:
            left = await self._desk.traffic(counted)
        except TriviumError as error:
            _log.warning("display traffic was not taken: %s", error.code)
        for session_id, size in left.items():
            self._count(session_id, size)

    # --------------------------------------------------------------------- one display

    async def _serve(self, client: DisplayClient, leave: DisplayLeave) -> str:
        before = self._open.get(leave.session_id)
        meter = Meter(leave.session_id, self._clock)
        display = _Display(leave=leave, meter=meter)
        if before is not None:
            display = _Display(leave=leave, meter=meter, shown=before.shown, telling=before.telling)
        # registered before the console opens, so that a kill in between is not lost
        self._open[leave.session_id] = display
        if before is not None:
            before.end(DisplayEnd.TAKEN_OVER)
        try:
            async with self._console(leave) as console:
                await self._note(display)
                await self._greet(display, client, console)
                await self._relay(display, client, console)
                if display.why in CUT:
                    await quietly(client.close(display.why, display.detail))
        finally:
            display.end(DisplayEnd.CLIENT_CLOSED)  # whatever else went wrong
            if display.greeted:
                rest = display.meter.read()
                self._desk.over(display.why or DisplayEnd.CLIENT_CLOSED, rest)
            await self._settle(leave.session_id)
            await self._tell_end(display)
        why = display.why or DisplayEnd.DESKTOP_CLOSED
        await quietly(client.close(why, display.detail))
        return why

    async def _note(self, display: _Display) -> None:
        """It is the session's own from now on, unless it was taken over while it was opened. The
        services hear of one display after the other, or the one before might be the last."""
        async with _turn(display):
            if display.over:
                return
            leave = display.leave
            await bounded(self._desk.opened(leave), DISPLAY_OPEN_S, "the session's store")
            display.shown = leave
            after = self._open.get(leave.session_id)
            if after is not None and after.shown is not after.leave:
                # whoever took it over meanwhile tells of its end, too, when nothing comes of that
                after.shown = leave

    async def _tell_end(self, display: _Display) -> None:
        """That the session has no display any more, where that was its last. One that it took over
        may only now be written down as open: what is told of that end comes after."""
        session_id = display.leave.session_id
        if self._open.get(session_id) is display:
            with contextlib.suppress(UnavailableError):
                async with _turn(display):
                    pass
        if self._open.get(session_id) is not display:
            return
        del self._open[session_id]
        if display.shown is not None:
            await self._tell_closed(display.shown, display.why or DisplayEnd.CLIENT_CLOSED)

    @contextlib.asynccontextmanager
    async def _console(self, leave: DisplayLeave) -> AsyncIterator[Console]:
        console = await bounded(self._desk.connect(leave), DISPLAY_OPEN_S, "the engine")
        try:
            yield console
        finally:
            await quietly(console.close())

    async def _greet(self, display: _Display, client: DisplayClient, console: Console) -> None:
        if display.over:
            return
        try:
            async with asyncio.timeout(DISPLAY_SEND_S):
                await client.ready(display.leave.session_id, *console.size, console.protocol)
            display.greeted = True
        except TimeoutError:
            display.end(DisplayEnd.CLIENT_STALLED)
        except ConnectionError:
            display.end(DisplayEnd.CLIENT_CLOSED)

    async def _relay(self, display: _Display, client: DisplayClient, console: Console) -> None:
        """Both pumps and the clock, until one of them or somebody else ends the display."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._down(display, client, console)),
                group.create_task(self._up(display, client, console)),
                group.create_task(self._limit(display)),
                group.create_task(display.meter.ping(client)),
            ]
            try:
                await display.ended.wait()
            finally:
                for task in tasks:
                    task.cancel()

    async def _down(self, display: _Display, client: DisplayClient, console: Console) -> None:
        while not display.over:
            try:
                frame = await console.receive()
            except EngineError:
                frame = b""
            if not frame:
                display.end(DisplayEnd.DESKTOP_CLOSED)
            elif len(frame) > FRAME_BYTES_MAX:
                display.end(DisplayEnd.DESKTOP_FAILED)
            elif not display.over:
                try:
                    async with asyncio.timeout(DISPLAY_SEND_S):
                        await client.send(frame)
                except TimeoutError:
                    display.end(DisplayEnd.CLIENT_STALLED)
                except ConnectionError:
                    display.end(DisplayEnd.CLIENT_CLOSED)
                self._count(display.leave.session_id, len(frame))
                display.meter.down(len(frame))
            # a desktop that always has a frame must not keep the loop for itself
            await asyncio.sleep(0)

    async def _up(self, display: _Display, client: DisplayClient, console: Console) -> None:
        heard = input_of(console.protocol)
        while not display.over:
            try:
                data = await client.receive()
            except ConnectionError:
                data = b""
            if not data:
                display.end(DisplayEnd.CLIENT_CLOSED)
            elif len(data) > DISPLAY_INPUT_BYTES_MAX:
                display.end(DisplayEnd.INPUT_TOO_LARGE)
            elif not display.over:
                self._count(display.leave.session_id, len(data))
                display.meter.up(len(data))
                if heard.feed(data):
                    self._inputs[display.leave.session_id] = Heard(
                        at=self._clock.now(),
                        desktop_id=display.leave.desktop.id,
                        generation=display.leave.desktop.generation,
                        signs=heard.signs,
                    )
                try:
                    async with asyncio.timeout(DISPLAY_SEND_S):
                        await console.send(data)
                except (TimeoutError, EngineError):
                    display.end(DisplayEnd.DESKTOP_CLOSED)
            await asyncio.sleep(0)

    async def _limit(self, display: _Display) -> None:
        await self._clock.sleep(self._seconds_max)
        display.end(DisplayEnd.TIME_LIMIT)

    async def _settle(self, session_id: str) -> None:
        """Report what a closing display counted at once: its session may be looked at as soon
        as it has ended."""
        size = self._bytes.pop(session_id, 0)
        if size:
            await self._tell_traffic({session_id: size})

    async def _tell_closed(self, leave: DisplayLeave, why: DisplayEnd) -> None:
        try:
            await self._desk.closed(leave, why)
        except TriviumError as error:
            # the reconciler finds the session without its display by its deadline
            _log.warning("display of %s closed, not noted: %s", leave.session_id, error.code)

    def _count(self, session_id: str, size: int) -> None:
        self._bytes[session_id] = self._bytes.get(session_id, 0) + size


@contextlib.asynccontextmanager
async def _turn(display: _Display) -> AsyncIterator[None]:
    """Alone in telling the services of the session's displays. Raises UnavailableError when those
    before take too long."""
    await bounded(display.telling.acquire(), DISPLAY_OPEN_S, "the session's store")
    try:
        yield
    finally:
        display.telling.release()


async def bounded(work: Awaitable[Answer], seconds: float, who: str) -> Answer:
    """Raises UnavailableError when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise UnavailableError(f"{who} did not answer in time") from None


async def quietly(closing: Awaitable[None]) -> None:
    """Close one end; an end that cannot be closed is gone already."""
    try:
        async with asyncio.timeout(DISPLAY_CLOSE_S):
            await closing
    except (TimeoutError, ConnectionError, TriviumError):
        _log.debug("an end of a display did not close in time")
