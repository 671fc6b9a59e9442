"""The guest agents that are linked to this process by the network, each by its ticket.

A ticket is not stored: it names a desktop and a generation and is sealed with the installation's
own key (HMAC-SHA-256), so any broker process can take the link. It is good as long as the desktop
is of that generation. What is said over a link is not known here: engines attend it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from broker import limits
from broker.domain.errors import EngineError
from broker.ports import Line, Store

_log = logging.getLogger("trivium.guests")
TICKET: Final = "TRIVIUM_TICKET"
ADDRESS: Final = "TRIVIUM_BROKER"
_TICKET: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([1-9][0-9]{0,17})\.([A-Za-z0-9_-]{43})")


class Refusal(StrEnum):
    """Why a link is not let in, or is let go."""

    TICKET = "the ticket is none of this installation's"
    OLD = "the ticket is not of the desktop's present generation"
    FULL = "there are too many links"
    REPLACED = "another link of the same desktop came later"
    STOPPING = "the broker stops"


class LinkRefused(Exception):  # noqa: N818 -- an answer to the agent, not a defect
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class GuestLink:
    """One agent's link. `end`: how its transport is closed."""

    __slots__ = ("attendance", "desktop_id", "end", "generation", "line")

    def __init__(
        self, desktop_id: str, generation: int, line: Line, end: Callable[[Refusal], object]
    ) -> None:
        self.desktop_id = desktop_id
        self.generation = generation
        self.line = line
        self.end = end
        self.attendance: Attendance | None = None


class Attendance:
    """The GuestAttendance port."""

    def __init__(
        self,
        links: GuestLinks,
        desktop_id: str,
        generation: int,
        said: Callable[[bytes], object],
        gone: Callable[[], object],
    ) -> None:
        self._links = links
        self._here = asyncio.Event()
        self.desktop_id = desktop_id
        self.generation = generation
        self.said = said
        self.gone = gone
        self.link: GuestLink | None = None

    def meet(self, link: GuestLink) -> None:
        self.link = link
        link.attendance = self
        self._here.set()

    def part(self) -> None:
        """The link has ended."""
        self.link = None
        self.gone()

    async def linked(self) -> None:
        await self._here.wait()

    async def send(self, line: bytes) -> None:
        if self.link is None:
            raise EngineError("the desktop's guest agent is not linked")
        try:
            async with asyncio.timeout(limits.GUEST_SEND_S):
                await self.link.line.send(line)
        except (ConnectionError, TimeoutError):
            raise EngineError("the guest takes nothing") from None

    def close(self) -> None:
        link, self.link = self.link, None
        if link is not None and link.attendance is self:
            link.attendance = None
        self._links.leave_off(self)


class GuestLinks:
    """The GuestLinks port. `address`: where desktops' agents reach the broker."""

    def __init__(self, *, store: Store, installation_id: str, key: bytes, address: str) -> None:
        self._store = store
        self._installation_id = installation_id
        self._key = key
        self._address = address
        self._links: dict[str, GuestLink] = {}
        self._attending: dict[str, Attendance] = {}
        self._coming: set[str] = set()
        self._closing = False

    # ------------------------------------------------------------------------ tickets

    def ticket(self, desktop_id: str, generation: int) -> str:
        """Opens the link of that desktop as long as it is of that generation."""
        payload = f"{desktop_id}.{generation}"
        return f"{payload}.{self._seal(payload)}"

    def _seal(self, payload: str) -> str:
        text = f"guest-ticket\0{self._installation_id}\0{payload}".encode()
        seal = hmac.new(self._key, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(seal).decode().rstrip("=")

    def _open(self, ticket: str) -> tuple[str, int]:
        found = _TICKET.fullmatch(ticket)
        desktop_id, generation, seal = found.groups() if found else ("", "0", "")
        if not hmac.compare_digest(seal, self._seal(f"{desktop_id}.{generation}")):
            raise LinkRefused(Refusal.TICKET)
        return desktop_id, int(generation)

    # ------------------------------------------------------------------- as engines see it

    def given(self, desktop_id: str, generation: int) -> Mapping[str, str]:
        """See broker.ports.GuestLinks."""
        return {ADDRESS: self._address, TICKET: self.ticket(desktop_id, generation)}

    def attend(
        self,
        desktop_id: str,
        generation: int,
        said: Callable[[bytes], object],
        gone: Callable[[], object],
    ) -> Attendance:
        """See broker.ports.GuestLinks."""
        attendance = Attendance(self, desktop_id, generation, said, gone)
        self._attending[desktop_id] = attendance
        link = self._links.get(desktop_id)
        if link is not None and link.generation < generation:
            self._drop(link, Refusal.OLD)
        elif link is not None and link.generation == generation:
            attendance.meet(link)
        return attendance

    def leave_off(self, attendance: Attendance) -> None:
        """That one listens no more."""
        if self._attending.get(attendance.desktop_id) is attendance:
            del self._attending[attendance.desktop_id]

    # ------------------------------------------------------------------------- one link

    async def admit(self, line: Line, ticket: str, end: Callable[[Refusal], object]) -> GuestLink:
        """Let an agent in; an older link of its desktop is ended.

        Raises:
            LinkRefused: it is not let in. UnavailableError: the store does not answer.
        """
        desktop_id, generation = self._open(ticket)
        # one at a time of each desktop: a guest that knocks often takes no other guest's room
        if desktop_id in self._coming or len(self._coming) >= limits.GUEST_ADMISSIONS_MAX:
            raise LinkRefused(Refusal.FULL)
        self._coming.add(desktop_id)
        try:
            desktop = await self._store.desktops.desktop(desktop_id)
        finally:
            self._coming.discard(desktop_id)
        if desktop is None or desktop.generation != generation:
            raise LinkRefused(Refusal.OLD)
        if self._closing:
            raise LinkRefused(Refusal.STOPPING)
        before = self._links.get(desktop_id)
        if before is None and len(self._links) >= limits.GUEST_LINKS_MAX:
            raise LinkRefused(Refusal.FULL)
        if before is not None:
            self._drop(before, Refusal.REPLACED)
        link = self._links[desktop_id] = GuestLink(desktop_id, generation, line, end)
        attendance = self._attending.get(desktop_id)
        if attendance is not None and attendance.generation == generation:
            attendance.meet(link)
        _log.debug("the agent of %s is linked", desktop_id)
        return link

    def take(self, link: GuestLink, text: str | bytes) -> None:
        """A line of an agent that was let in; one that nobody attends is not kept: it says
        everything again."""
        if link.attendance is not None:
            link.attendance.said(text.encode() if isinstance(text, str) else text)

    def leave(self, link: GuestLink) -> None:
        """The link is over."""
        if self._links.get(link.desktop_id) is link:
            del self._links[link.desktop_id]
        attendance, link.attendance = link.attendance, None
        if attendance is not None:
            attendance.part()

    def _drop(self, link: GuestLink, why: Refusal) -> None:
        self.leave(link)
        link.end(why)

    def close(self) -> None:
        """The broker stops: end every link, so that agents look for another one at once."""
        self._closing = True
        for link in tuple(self._links.values()):
            self._drop(link, Refusal.STOPPING)
