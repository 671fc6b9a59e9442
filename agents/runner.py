"""The asyncio shell of one endpoint: carries out what its core decided, and tells it what came.

It decides nothing. An idle endpoint costs one task, the reader of its link; everything else
(writers, displays, fetches) lives only while there is something to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, ClassVar

from aiohttp import WSMsgType

from agents.cache import ImageCache
from agents.core import commands, events
from agents.core.endpoint import Endpoint
from agents.displays import Displays
from agents.segments import Segments
from agents.shared import Shared
from agents.sockets import ENDED, NETWORK, Socket, WebSocket, shut
from agents.transport import retry_after_of, why_of
from broker import wire

_log = logging.getLogger("trivium.agent")
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _Try:
    """One connection of the control link."""

    __slots__ = ("closed", "holds_gate", "link_no", "socket")

    def __init__(self, link_no: int) -> None:
        self.link_no = link_no
        self.socket: Socket | None = None
        self.holds_gate = False
        self.closed = False


class Runner:
    """One endpoint with its sockets."""

    __slots__ = ("_displays", "_make_cache", "_segments", "_try", "core", "rings_at", "shared")

    def __init__(
        self, core: Endpoint, shared: Shared, make_cache: Callable[[str], ImageCache]
    ) -> None:
        """`make_cache` gets the endpoint's name when it first needs a cache; most never do."""
        self.core = core
        self.shared = shared
        self.rings_at = inf
        self._make_cache = make_cache
        self._try: _Try | None = None
        self._displays: Displays | None = None
        self._segments: Segments | None = None

    @property
    def name(self) -> str:
        return self.core.link.identity.name

    def feed(self, event: events.Event) -> None:
        """Tell the core what happened and do what it says. Never raises: a fault in one endpoint
        is counted and told, and the others go on."""
        try:
            for command in self.core.handle(event, self.shared.monotonic()):
                self._carry_out[type(command)](self, command)
        except Exception:  # noqa: BLE001 - told in _fault
            self._fault()
        self.shared.wheel.set(self, self.core.due)

    def ring(self) -> float:
        if self.core.due <= self.shared.monotonic():
            self.feed(events.TimePassed())
        return self.core.due

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.shared.tasks.create_task(self._guarded(work))

    def task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.shared.tasks.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        self.shared.task_began()
        try:
            await work
        except Exception:  # noqa: BLE001 - told in _fault
            self._fault()
        finally:
            self.shared.task_ended()

    def _fault(self) -> None:
        self.shared.tally.faults += 1
        _log.exception("%s: a fault of the agent", self.name)

    # ---------------------------------------------------------------- enrolment

    def _save(self, command: commands.SaveIdentity) -> None:
        self.shared.save(command.identity)

    def _enrol(self, command: commands.Enrol) -> None:
        self.spawn(self._run_enrol(command.request))

    async def _run_enrol(self, request: wire.EnrolRequest) -> None:
        async with self.shared.gate:
            answer = await self.shared.tokens.enrol(request, self.shared.transport.enrol)
        self.feed(answer)

    # --------------------------------------------------------------------- link

    def _connect(self, command: commands.Connect) -> None:
        self._try = _Try(command.link_no)
        self.spawn(self._run_link(self._try))

    async def _run_link(self, attempt: _Try) -> None:
        await self.shared.gate.acquire()
        attempt.holds_gate = True
        why, retry_after_s = "not needed any more", None
        ws: WebSocket | None = None
        try:
            if not attempt.closed:
                ws = await self.shared.transport.link()
            if ws is not None and not attempt.closed:
                attempt.socket = Socket(ws, self.spawn)
                self.feed(events.LinkOpened(link_no=attempt.link_no))
                why = await self._read_link(ws, attempt)
        except NETWORK as error:
            why, retry_after_s = why_of(error), retry_after_of(error)
        finally:
            self._let_in(attempt)
            if ws is not None:
                await shut(ws)
            if self._try is attempt:
                self._try = None
        lost = events.LinkLost(link_no=attempt.link_no, why=why, retry_after_s=retry_after_s)
        self.feed(lost)

    async def _read_link(self, ws: WebSocket, attempt: _Try) -> str:
        """Until the link ends; returns why."""
        link_no = attempt.link_no
        while True:
            message = await ws.receive()
            kind = message.type
            if kind is WSMsgType.TEXT:
                data = bytes(message.data)
                self.shared.tally.control_bytes += len(data)
                self.feed(events.LinkText(link_no=link_no, data=data))
            elif kind is WSMsgType.PONG:
                self.feed(events.LinkPong(link_no=link_no))
            elif kind is WSMsgType.PING:
                if attempt.socket is not None:
                    attempt.socket.send(WSMsgType.PONG, bytes(message.data))
            elif kind in ENDED:
                return f"closed with code {ws.close_code}"
            else:
                text = f"a message of the kind {kind.name}"
                self.feed(events.LinkGarbage(link_no=link_no, why=text))
                if kind is WSMsgType.ERROR:
                    return f"broken: {message.data}"

    def _let_in(self, attempt: _Try | None) -> None:
        """The handshake is over: the next one may begin."""
        if attempt is not None and attempt.holds_gate:
            attempt.holds_gate = False
            self.shared.gate.release()

    def _admitted(self, _: commands.Admitted) -> None:
        self._let_in(self._try)

    def _send(self, command: commands.Send) -> None:
        if self._try is not None and self._try.socket is not None:
            self.shared.tally.control_bytes += len(command.data)
            self._try.socket.send(WSMsgType.TEXT, command.data)

    def _ping(self, _: commands.Ping) -> None:
        if self._try is not None and self._try.socket is not None:
            self._try.socket.send(WSMsgType.PING, b"")

    def _close_link(self, command: commands.CloseLink) -> None:
        if self._try is None:
            return
        self._let_in(self._try)
        self._try.closed = True
        if self._try.socket is not None:
            self._try.socket.close(command.code, command.why)

    def _finish(self, command: commands.Finish) -> None:
        self.shared.finished(self.name, command)

    # -------------------------------------------------------- displays, segments

    @property
    def displays(self) -> Displays:
        if self._displays is None:
            self._displays = Displays(self)
        return self._displays

    @property
    def segments(self) -> Segments:
        if self._segments is None:
            self._segments = Segments(self, self._make_cache(self.name))
        return self._segments

    # ------------------------------------------------------------------ telling

    def _log_line(self, command: commands.Log) -> None:
        _log.log(_LEVELS[command.level], "%s: %s", self.name, command.text)

    def _show(self, command: commands.Show) -> None:
        sender = command.sender or "the broker"
        _log.warning("%s: message from %s: %s", self.name, sender, command.text)

    def _ask(self, command: commands.Ask) -> None:
        text = "%s: may the session move to %s? Without an answer within %.0f s it stays"
        _log.warning(text, self.name, command.endpoint or "a browser", command.within_s)

    def _note(self, command: commands.Note) -> None:
        self.shared.tally.note(command)

    _carry_out: ClassVar[dict[type[commands.Command], Callable[[Runner, Any], None]]] = {
        commands.SaveIdentity: _save,
        commands.Enrol: _enrol,
        commands.Connect: _connect,
        commands.Send: _send,
        commands.Ping: _ping,
        commands.Admitted: _admitted,
        commands.CloseLink: _close_link,
        commands.Finish: _finish,
        commands.Log: _log_line,
        commands.Show: _show,
        commands.Ask: _ask,
        commands.Note: _note,
        commands.OpenDisplay: lambda runner, command: runner.displays.open(command),
        commands.SendDisplay: lambda runner, command: runner.displays.send(command),
        commands.CloseDisplay: lambda runner, command: runner.displays.close(command),
        commands.CheckImage: lambda runner, command: runner.segments.check(command),
        commands.Fetch: lambda runner, command: runner.segments.fetch(command),
        commands.StopFetches: lambda runner, command: runner.segments.stop(command),
        commands.KeepSegment: lambda runner, command: runner.segments.keep(command),
        commands.KeepImage: lambda runner, command: runner.segments.keep_image(command),
    }
