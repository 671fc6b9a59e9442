"""The endpoints' sockets: `GET /agent/v1/link`. Carries text messages to and from the link.

What is said is not known here; see broker/services/conversation.
"""

from __future__ import annotations

from aiohttp import WSMsgType, web

from broker import limits, wire
from broker.domain.errors import ProtocolError
from broker.services.conversation.handshake import refuse
from broker.services.conversation.link import AgentLink


class SocketLine:
    """The Line port over one WebSocket."""

    __slots__ = ("_ws",)

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self._ws = ws

    @property
    def closed(self) -> bool:
        return self._ws.closed

    async def receive(self) -> str | None:
        message = await self._ws.receive()
        if message.type is WSMsgType.TEXT:
            return str(message.data)
        if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}:
            return None
        if message.type is WSMsgType.ERROR:
            raise ProtocolError("a frame was malformed or too large")
        raise ProtocolError("only text messages are spoken here")

    async def send(self, data: bytes) -> None:
        try:
            await self._ws.send_str(data.decode())
        except RuntimeError as error:
            # aiohttp's word for a socket that is closing
            raise ConnectionResetError from error

    async def close(self, code: int, why: str) -> None:
        await self._ws.close(code=code, message=why.encode())


class AgentSockets:
    """The handler of the endpoints' sockets."""

    def __init__(self, link: AgentLink) -> None:
        self._link = link

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One endpoint's socket, until it closes. Browsers are refused: an agent sends no
        Origin."""
        if "Origin" in request.headers:
            return web.Response(status=403, text="this address is for agents\n")
        ws = web.WebSocketResponse(
            protocols=(wire.SUBPROTOCOL,),
            compress=False,
            max_msg_size=limits.AGENT_MESSAGE_BYTES_MAX,
            timeout=5.0,
        )
        await ws.prepare(request)
        line, link = SocketLine(ws), self._link
        connection = await link.admit(line)
        if connection is None:
            return ws
        try:
            while (text := await line.receive()) is not None and await link.take(connection, text):
                pass
        except ProtocolError as error:
            await refuse(line, error)
        finally:
            await link.leave(connection)
        return ws
