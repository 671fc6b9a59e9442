"""Displays of protocols that open several connections for one viewer.

The first is the session's display as any other. What comes beside it is counted with it, heard as
input with it, and ends with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from broker.domain.errors import BadTicketError, BusyError
from broker.gateway.display import CUT, DisplayGateway, _Display, quietly
from broker.gateway.ends import DisplayEnd
from broker.limits import DISPLAY_SEND_S, SPICE_CHANNELS_MAX
from broker.ports import Console, DisplayClient


class ChannelGateway(DisplayGateway):
    """The Displays port, and connections beside an open display."""

    def __init__(self, **of_displays: Any) -> None:
        super().__init__(**of_displays)
        self._beside: Counter[str] = Counter()

    def shown(self, session_id: str) -> object | None:
        """The session's display here, to be told from others by `is`; None: there is none."""
        return self._open.get(session_id)

    async def beside(self, client: DisplayClient, session_id: str, main_: object) -> str:
        """One more connection of the viewer whose display `main_` (of `shown`) is, until it or the
        display ends; answers why, as `serve` does.

        Raises:
            BadTicketError: that display is not the session's any more. BusyError: it has as many
            connections as one may have. EngineError, UnavailableError: the desktop has no more.
        """
        main = self._open.get(session_id)
        if main is None or main is not main_ or main.over or not main.greeted:
            raise BadTicketError("the session is not open in this viewer")
        if self._beside[session_id] >= SPICE_CHANNELS_MAX:
            raise BusyError("the viewer has too many connections", retry_after_s=5.0)
        self._beside[session_id] += 1
        try:
            part = _Display(leave=main.leave, meter=main.meter)
            async with self._console(main.leave) as console:
                async with asyncio.timeout(DISPLAY_SEND_S):
                    await client.ready(session_id, *console.size, console.protocol)
                await self._both_ways(part, main, client, console)
                if part.why in CUT:
                    await quietly(client.close(part.why, part.detail))
            return part.why or DisplayEnd.CLIENT_CLOSED
        finally:
            self._beside -= Counter([session_id])

    async def _both_ways(
        self, part: _Display, main: _Display, client: DisplayClient, console: Console
    ) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._down(part, client, console)),
                group.create_task(self._up(part, client, console)),
                group.create_task(_end_with(main, part)),
            ]
            try:
                await part.ended.wait()
            finally:
                for task in tasks:
                    task.cancel()


async def _end_with(main: _Display, part: _Display) -> None:
    await main.ended.wait()
    part.end(main.why or DisplayEnd.CLIENT_CLOSED, main.detail)
