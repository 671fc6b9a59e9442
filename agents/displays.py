"""The display sockets of one thin endpoint."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import WSMsgType

from agents.core import commands, events
from agents.shared import Shell
from agents.sockets import ENDED, NETWORK, Socket, WebSocket, shut
from agents.transport import why_of
from broker import wire

_CLOSE_NORMAL = 1000


@dataclass(slots=True)
class _Display:
    """Without a socket it is still being opened."""

    socket: Socket | None = None
    task: asyncio.Task[None] | None = None


class Displays:
    """Opens, reads, writes and closes; frames are counted, not drawn."""

    __slots__ = ("_by_session", "_shell")

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._by_session: dict[str, _Display] = {}

    def open(self, command: commands.OpenDisplay) -> None:
        display = _Display()
        self._by_session[command.session_id] = display
        display.task = self._shell.task(self._run(command, display))

    def send(self, command: commands.SendDisplay) -> None:
        display = self._by_session.get(command.session_id)
        if display is not None and display.socket is not None:
            self._shell.shared.tally.display_bytes += len(command.data)
            display.socket.send(WSMsgType.BINARY, command.data)

    def close(self, command: commands.CloseDisplay) -> None:
        display = self._by_session.pop(command.session_id, None)
        if display is None:
            return
        if display.socket is not None:
            display.socket.close(_CLOSE_NORMAL, "closed by the endpoint")
        elif display.task is not None:
            display.task.cancel()

    async def _run(self, command: commands.OpenDisplay, display: _Display) -> None:
        why = "closed"
        ws: WebSocket | None = None
        try:
            ws = await self._shell.shared.transport.display()
            display.socket = Socket(ws, self._shell.spawn)
            opening = wire.encode(wire.DisplayOpen(ticket=command.ticket))
            display.socket.send(WSMsgType.TEXT, opening)
            why = await self._read(ws, command, display.socket)
        except NETWORK as error:
            why = why_of(error)
        finally:
            if ws is not None:
                await shut(ws)
            if self._by_session.get(command.session_id) is display:
                del self._by_session[command.session_id]
        self._shell.feed(
            events.DisplayLost(session_id=command.session_id, ref=command.ref, why=why)
        )

    async def _read(self, ws: WebSocket, command: commands.OpenDisplay, socket: Socket) -> str:
        """Until the socket ends; returns why."""
        session_id, ref = command.session_id, command.ref
        tally = self._shell.shared.tally
        while True:
            message = await ws.receive()
            kind = message.type
            if kind is WSMsgType.BINARY:
                size = len(message.data)
                tally.display_bytes += size
                self._shell.feed(events.DisplayFrame(session_id=session_id, ref=ref, size=size))
            elif kind is WSMsgType.TEXT:
                data = bytes(message.data)
                tally.display_bytes += len(data)
                self._shell.feed(events.DisplayText(session_id=session_id, ref=ref, data=data))
            elif kind is WSMsgType.PING:
                socket.send(WSMsgType.PONG, bytes(message.data))
            elif kind in ENDED:
                return f"closed with code {ws.close_code}"
            elif kind is not WSMsgType.PONG:
                return f"broken: {message.data}"
