"""What the staff asks of the agent in a session's desktop."""

from __future__ import annotations

from typing import Final

from broker import limits
from broker.domain import errors
from broker.domain.errors import (
    ConflictError,
    EngineError,
    ForbiddenError,
    GuestRefusedError,
    GuestSilentError,
    UnsupportedError,
)
from broker.domain.model import Desktop, Identity, Session, SessionState
from broker.domain.roles import Permission, allows
from broker.ports import GuestAsk, GuestVerb
from broker.services.guest_book import BookedAsk, GuestBook
from broker.services.guest_news import GuestNews, GuestNewsBook
from broker.services.guest_reach import GuestReach
from broker.services.kit import Kit
from broker.services.sessions import Sessions

_SHOWN: Final = frozenset({SessionState.DELIVERING, SessionState.ACTIVE, SessionState.DISCONNECTED})
_ERRORS: Final[dict[str, type[EngineError]]] = {
    one.code: one for one in (GuestRefusedError, UnsupportedError, errors.StaleGenerationError)
}


class Guests:
    def __init__(
        self, kit: Kit, sessions: Sessions, reach: GuestReach, book: GuestBook, news: GuestNewsBook
    ) -> None:
        self._kit = kit
        self._sessions = sessions
        self._reach = reach
        self._book = book
        self._news = news

    def news(self, desktop_id: str | None, generation: int) -> GuestNews | None:
        """What the agent of that generation said last; None where nobody knows."""
        return self._news.of(desktop_id, generation)

    async def speaks(self, desktop_id: str | None) -> bool:
        """Whether this desktop has an agent that can be asked, heard now or not."""
        if desktop_id is None:
            return False
        desktop = await self._kit.store.desktops.desktop(desktop_id)
        return desktop is not None and await self._reach.agents(desktop) is not None

    async def lock(self, identity: Identity, session_id: str) -> Session:
        """Lock the screen of a session's desktop, whichever process hears its agent.

        Raises:
            ForbiddenError, NotFoundError. ConflictError: the session has no desktop now.
            UnsupportedError: its desktop has no agent that could be asked.
            GuestSilentError: no process heard it, or it gave no answer in time.
            GuestRefusedError: it could not. BusyError: too much is asked at once.
        """
        if not allows(identity.role, Permission.MANAGE_SESSIONS):
            raise ForbiddenError(f"this needs the permission {Permission.MANAGE_SESSIONS}")
        session = await self._sessions.get(identity, session_id)
        desktop = None
        if session.state in _SHOWN and session.desktop_id is not None:
            desktop = await self._kit.store.desktops.desktop(session.desktop_id)
        if desktop is None:
            raise ConflictError(f"a session that is {session.state} has no screen to lock")
        await self._ask(desktop, GuestVerb.LOCK)
        return session

    async def _ask(self, desktop: Desktop, what: GuestVerb) -> None:
        ask_id = self._kit.ids.new("ask")
        if await self._reach.agents(desktop) is None:
            raise UnsupportedError(f"{desktop.name} has no guest agent that could be asked")
        if await self._reach.hears(desktop):
            await self._reach.ask(desktop, GuestAsk(id=ask_id, what=what))
            return
        until = self._kit.clock.now() + int(limits.GUEST_ASK_S * 1000)
        booked = BookedAsk(
            id=ask_id,
            desktop_id=desktop.id,
            generation=desktop.generation,
            what=what.value,
            until=until,
        )
        await self._book.add(booked)
        outcome = await self._outcome(booked)
        await self._book.drop(ask_id)
        if outcome is None or not outcome.outcome:
            raise GuestSilentError(f"no broker heard the guest agent of {desktop.name}")
        if outcome.outcome != "done":
            raise _ERRORS.get(outcome.outcome, GuestSilentError)(outcome.why)

    async def _outcome(self, booked: BookedAsk) -> BookedAsk | None:
        """What came of it, once something did or its time is over."""
        found: BookedAsk | None = booked
        over = booked.until + int(limits.GUEST_LOOK_S * 1000)
        while self._kit.clock.now() < over:
            await self._kit.clock.sleep(limits.GUEST_BOOK_PAUSE_S)
            found = await self._book.find(booked.id)
            if found is None or found.outcome:
                break
        return found
