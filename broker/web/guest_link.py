"""The guest agents' sockets: `GET /agent/v1/guest`. Carries lines to and from the links.

A desktop without a port of its own into the engine speaks the lines of broker/guest_wire.py here.
It is not trusted: what it sends is counted and held back, and its first message must be a ticket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from broker import limits
from broker.domain.errors import BadRequestError, ProtocolError, TriviumError
from broker.domain.policy.sources import source_of
from broker.guest_wire import (
    CLOSE_LATER,
    CLOSE_NOT_UNDERSTOOD,
    CLOSE_OLD,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    CLOSE_RESTART,
    CLOSE_SILENT,
    LINE_BYTES_MAX,
    LINK_PATH,
    LINK_SUBPROTOCOL,
    decode_present,
)
from broker.ports import Clock
from broker.services.guest_links import GuestLink, LinkRefused, Refusal
from broker.web.access import Access
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route, Surface

_CODES: Final[Mapping[Refusal, int]] = {
    Refusal.TICKET: CLOSE_REFUSED,
    Refusal.OLD: CLOSE_OLD,
    Refusal.FULL: CLOSE_LATER,
    Refusal.REPLACED: CLOSE_REPLACED,
    Refusal.STOPPING: CLOSE_RESTART,
}
_CLOSE_S: Final = 2.0
"""for a guest to answer the close of its link before it is cut"""


class Pace:
    """Holds back who sends more than GUEST_MESSAGES_PER_S."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._room = float(limits.GUEST_MESSAGES_BURST)
        self._at = clock.monotonic()

    async def turn(self) -> None:
        """Returns when one more message may be taken."""
        now = self._clock.monotonic()
        gained = (now - self._at) * limits.GUEST_MESSAGES_PER_S
        self._room = min(limits.GUEST_MESSAGES_BURST, self._room + gained) - 1
        self._at = now
        if self._room < 0:
            await self._clock.sleep(-self._room / limits.GUEST_MESSAGES_PER_S)


class GuestLine:
    """The Line port over one WebSocket, whose pings count as messages."""

    def __init__(self, ws: web.WebSocketResponse, pace: Pace) -> None:
        self._ws = ws
        self._pace = pace

    @property
    def closed(self) -> bool:
        return self._ws.closed

    async def receive(self) -> str | None:
        while True:
            message = await self._ws.receive()
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}:
                return None
            await self._pace.turn()
            if message.type is WSMsgType.TEXT:
                return str(message.data)
            if message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                raise ProtocolError("only text messages of limited length are spoken here")

    async def send(self, data: bytes) -> None:
        try:
            await self._ws.send_str(data.decode().rstrip("\n"))
        except RuntimeError as error:
            # aiohttp's word for a socket that is closing
            raise ConnectionResetError from error

    async def close(self, code: int, why: str) -> None:
        await self._ws.close(code=code, message=why.encode())


class GuestSockets:
    def __init__(self, web_: Web) -> None:
        self._links = web_.guests
        self._clock = web_.services.kit.clock
        self._silent = Counter[str]()

    async def handle(self, call: Call) -> web.StreamResponse:
        """One agent's link, from its handshake to its end."""
        ws = web.WebSocketResponse(
            autoping=False,
            protocols=(LINK_SUBPROTOCOL,),
            compress=False,
            max_msg_size=LINE_BYTES_MAX,
            heartbeat=limits.GUEST_PING_S,
            timeout=_CLOSE_S,
        )
        if not ws.can_prepare(call.request):
            raise BadRequestError("this address is a WebSocket")
        await call.stream(ws)
        line = GuestLine(ws, Pace(self._clock))
        ends = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as tasks:
            source = source_of(call.address)
            talk = tasks.create_task(self._talk(line, ends, source), name="guest link")
            await asyncio.wait({talk, ends}, return_when=asyncio.FIRST_COMPLETED)
            if ends.done() and not talk.done():
                await line.close(*ends.result())
                talk.cancel()
            ends.cancel()
        if not ws.closed:
            await ws.close(code=WSCloseCode.OK)
        return ws

    async def _talk(
        self, line: GuestLine, ends: asyncio.Future[tuple[int, str]], source: str
    ) -> None:
        link = None
        try:
            link = await self._admit(line, ends, source)
            while link is not None and (text := await line.receive()) is not None:
                self._links.take(link, text)
        except LinkRefused as error:
            await line.close(_CODES[error.refusal], error.refusal)
        except ProtocolError as error:
            await line.close(CLOSE_NOT_UNDERSTOOD, error.detail)
        except TriviumError as error:
            await line.close(CLOSE_LATER, error.code)
        except ConnectionError:
            pass
        finally:
            if link is not None:
                self._links.leave(link)

    async def _admit(
        self, line: GuestLine, ends: asyncio.Future[tuple[int, str]], source: str
    ) -> GuestLink | None:
        """None for one that left, or was too slow. Raises LinkRefused or TriviumError."""

        def end(why: Refusal) -> None:
            if not ends.done():
                ends.set_result((_CODES[why], why))

        try:
            async with asyncio.timeout(limits.GUEST_PRESENT_S):
                ticket = await self._presented(line, source)
                if ticket is None:
                    return None
                return await self._links.admit(line, ticket, end)
        except TimeoutError:
            await line.close(CLOSE_SILENT, "no ticket in time")
            return None

    async def _presented(self, line: GuestLine, source: str) -> str | None:
        """The ticket of its first message. Who says nothing takes the room of its own source, and
        not that of other guests."""
        if self._silent[source] >= limits.GUEST_SILENT_MAX:
            raise LinkRefused(Refusal.FULL)
        self._silent[source] += 1
        try:
            text = await line.receive()
        finally:
            self._silent[source] -= 1
            if not self._silent[source]:
                del self._silent[source]
        if text is None:
            return None
        presented = decode_present(text)
        if presented is None or len(presented.ticket) > limits.GUEST_TICKET_CHARS_MAX:
            raise ProtocolError("the first message presents the ticket")
        return presented.ticket


def routes(web_: Web) -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path=LINK_PATH,
            handler=GuestSockets(web_).handle,
            need=Access.AGENT,
            summary="A guest agent's link (WebSocket); the first message presents the ticket",
            answers={101: None},
            surface=Surface.AGENT,
            socket=True,
        ),
    )
