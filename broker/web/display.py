"""The display sockets: a person's in the browser, an endpoint's; the staff's are in shadows.py.

All speak the same: the first message presents the ticket, the answer says ready or why not,
then frames go down and input goes up as binary messages. What happens in between is the
gateway's; this file is its DisplayClient over a WebSocket.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from broker import wire
from broker.domain import errors
from broker.domain.errors import (
    BadRequestError,
    NotSignedInError,
    TriviumError,
)
from broker.domain.roles import Permission, allows
from broker.limits import (
    DISPLAY_CLOSE_S,
    DISPLAY_INPUT_BYTES_MAX,
    DISPLAY_OPEN_S,
    DISPLAY_SIGN_IN_S,
)
from broker.web.access import Access
from broker.web.call import Call
from broker.web.context import Web
from broker.web.routes import Route, Surface

_log = logging.getLogger("trivium.web")

PING_S: Final = 30.0
"""between two pings; a client that does not answer one counts as gone"""
CLOSE_REFUSED: Final = 4003
"""WebSocket close code: see the message before it"""
CLOSE_ENDED: Final = 4010
"""WebSocket close code: the display was ended; the reason is a stable code"""
_REASON_BYTES_MAX: Final = 120
"""a close frame carries at most 123 bytes of reason"""
_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""what the kernel has not sent yet is thrown away"""


class SocketClient:
    """The DisplayClient port over one WebSocket, whose pings and pongs it reads itself."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._socket = socket
        self._transport = transport
        self._pings = 0
        self._answered: asyncio.Future[None] | None = None

    async def ready(self, session_id: str, width: int, height: int, protocol: str) -> None:
        answer = wire.DisplayReady(
            session_id=session_id, width=width, height=height, protocol=protocol
        )
        await self._socket.send_str(wire.encode(answer).decode())

    async def message(self) -> WSMessage:
        """The next message that is no ping and no pong."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._pong(bytes(message.data))
            else:
                return message
            # who sends nothing but these must not keep the loop for himself
            await asyncio.sleep(0)

    async def receive(self) -> bytes:
        message = await self.message()
        # anything but input ends it: a text, a frame that is too large, a broken one, the close
        if message.type is WSMsgType.BINARY and message.data:
            return bytes(message.data)
        return b""

    async def send(self, frame: bytes) -> None:
        await self._socket.send_bytes(frame)

    async def ping(self) -> None:
        self._pings += 1
        self._answered = asyncio.get_running_loop().create_future()
        await self._socket.ping(self._payload())
        await self._answered

    def _payload(self) -> bytes:
        return b"%d" % self._pings

    def _pong(self, payload: bytes) -> None:
        waits = self._answered
        if waits is not None and not waits.done() and payload == self._payload():
            waits.set_result(None)

    async def close(self, code: str, detail: str) -> None:
        _log.debug("display closed: %s: %s", code, detail)
        await self._close(CLOSE_ENDED, code)

    async def refuse(self, error: TriviumError) -> None:
        """Say why it was not opened, and close."""
        refused = wire.DisplayRefused(code=error.code, detail=error.detail)
        try:
            await self._socket.send_str(wire.encode(refused).decode())
        except ConnectionError:
            return
        await self._close(CLOSE_REFUSED, error.code)

    async def _close(self, code: int, reason: str) -> None:
        """A client that took none of what is on its way to it does not get the rest later."""
        if self._socket.closed:
            return
        try:
            await self._socket.close(code=code, message=reason.encode()[:_REASON_BYTES_MAX])
        finally:
            transport = self._transport
            if transport is not None and transport.get_write_buffer_size():
                wire_socket = transport.get_extra_info("socket")
                if wire_socket is not None:
                    wire_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                transport.abort()


Relay: TypeAlias = Callable[[SocketClient, str], Awaitable[None]]
"""what is done with a client and the ticket that it presented; may raise TriviumError"""


async def serve_socket(call: Call, relay: Relay) -> web.StreamResponse:
    """One display's WebSocket, from its handshake to its end."""
    answer = web.WebSocketResponse(
        autoping=False,
        protocols=(wire.SUBPROTOCOL,),
        compress=False,
        max_msg_size=DISPLAY_INPUT_BYTES_MAX,
        heartbeat=PING_S,
        timeout=DISPLAY_CLOSE_S,
    )
    if not answer.can_prepare(call.request):
        raise BadRequestError("this address is a WebSocket")
    await call.stream(answer)
    client = SocketClient(answer, call.request.transport)
    try:
        ticket = await _ticket(client)
        if ticket is not None:
            await relay(client, ticket)
    except TriviumError as error:
        if call.identity is not None:
            error = await call.web.services.discretion.error(error, call.identity.role)
        await client.refuse(error)
    if not answer.closed:
        await answer.close(code=WSCloseCode.OK)
    return answer


async def _ticket(client: SocketClient) -> str | None:
    """The ticket in the first message; None when the client left without one.

    Raises:
        BadRequestError: the first message is something else, or nothing came in time.
    """
    try:
        async with asyncio.timeout(DISPLAY_OPEN_S):
            message = await client.message()
    except TimeoutError:
        raise BadRequestError("the ticket did not come in time") from None
    if message.type is WSMsgType.TEXT:
        try:
            return wire.decode_display_open(message.data).ticket
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
    elif message.type is not WSMsgType.BINARY:
        return None
    raise BadRequestError("the first message presents the ticket")


async def while_signed_in(
    call: Call, work: Awaitable[object], gone: Callable[[], object], need: Permission
) -> None:
    """Await `work`, and call `gone` once whoever opened it is not signed in any more, or may not
    do it any more. Raises TriviumError."""
    try:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_watch(call, gone, need), name="display sign-in")
            try:
                await work
            finally:
                watch.cancel()
    except* TriviumError as group:
        raise _first(group) from None


async def _watch(call: Call, gone: Callable[[], object], need: Permission) -> None:
    before = call.who
    while True:
        await asyncio.sleep(DISPLAY_SIGN_IN_S)
        try:
            now = await call.identify()
        except NotSignedInError:
            now = None
        except TriviumError:
            # the store is away: what is open stays open until it can be asked
            continue
        if now is None or now.user_id != before.user_id or not allows(now.role, need):
            gone()  # and again, should it not be open yet


class DisplaySockets:
    def __init__(self, web_: Web) -> None:
        self._web = web_

    async def agent(self, call: Call) -> web.StreamResponse:
        async def relay(client: SocketClient, ticket: str) -> None:
            await self._web.displays.serve(client, ticket=ticket)

        return await serve_socket(call, relay)

    async def person(self, call: Call) -> web.StreamResponse:
        """A display does not outlive the sign-in that it was opened with."""
        session_id, displays = call.part("id"), self._web.displays
        # before the handshake: somebody else's session is not there at all
        session = await self._web.services.sessions.get(call.who, session_id)
        if session.user_id != call.who.user_id:
            raise errors.ForbiddenError("only the session's own person opens its display")

        async def relay(client: SocketClient, ticket: str) -> None:
            await while_signed_in(
                call,
                displays.serve(
                    client, ticket=ticket, session_id=session_id, browser=call.who.token_id
                ),
                lambda: displays.kill(
                    session_id, code="display.signed_out", browser=call.who.token_id
                ),
                Permission.OWN_SESSIONS,
            )

        return await serve_socket(call, relay)


def _first(group: BaseExceptionGroup[TriviumError]) -> TriviumError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def routes(web_: Web) -> tuple[Route, ...]:
    sockets = DisplaySockets(web_)
    return (
        Route(
            method="GET",
            path="/api/v1/sessions/{id}/display",
            handler=sockets.person,
            need=Permission.OWN_SESSIONS,
            summary="The session's display (WebSocket); the first message presents the ticket",
            answers={101: None},
            errors=(errors.NotFoundError,),
            socket=True,
        ),
        Route(
            method="GET",
            path=wire.DISPLAY_PATH,
            handler=sockets.agent,
            need=Access.AGENT,
            summary="An endpoint's display (WebSocket)",
            answers={101: None},
            surface=Surface.AGENT,
            socket=True,
        ),
    )
