"""A guest's agent that reaches the broker by the network, spoken to as one with a port is.

For machines into which there is no port: the agent links up with the ticket that its engine gave
the machine, and whichever broker process has the link attends it.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.domain.errors import EngineError
from broker.guest_wire import FromGuest, ToGuest, decode, encode
from broker.ports import GuestAttendance, GuestLinks


class LinkChannel:
    """One link of the agent of that desktop and generation, from when it is there to its end.
    `said` is called on the loop with each message, `ended` once."""

    def __init__(
        self,
        links: GuestLinks | None,
        desktop_id: str,
        generation: int,
        said: Callable[[FromGuest], object],
        ended: Callable[[], object],
    ) -> None:
        self._links = links
        self._desktop_id = desktop_id
        self._generation = generation
        self._said = said
        self._ended = ended
        self._attendance: GuestAttendance | None = None

    async def open(self) -> None:
        """Returns once the agent is linked, however long that takes. Raises EngineError where
        nothing can be linked."""
        if self._links is None:
            raise EngineError("this broker takes no links of guest agents")
        self._attendance = self._links.attend(
            self._desktop_id, self._generation, self._heard, self._ended
        )
        await self._attendance.linked()

    def _heard(self, line: bytes) -> None:
        message = decode(line)
        if message is not None:
            self._said(message)

    async def send(self, message: ToGuest) -> None:
        """Raises EngineError when it takes nothing."""
        if self._attendance is None:
            raise EngineError("the desktop's guest agent is not linked")
        await self._attendance.send(encode(message))

    async def close(self) -> None:
        if self._attendance is not None:
            self._attendance.close()
