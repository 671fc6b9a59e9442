"""Passes for viewers outside the browser: who may have one, and what a knock with one opens.

A pass is a one-use ticket like a browser's, kept by its hash: it lives VIEWER_PASS_S and dies with
the session, or when that moves to another sign-in. VNC's own authentication proves the knowledge
of a password without sending it, so those passwords are kept in this process's memory, too, for
as long as they live: only the broker that gave one out recognises it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from broker import limits
from broker.domain.errors import (
    BadTicketError,
    BusyError,
    ConflictError,
    ForbiddenError,
    TriviumError,
    UnsupportedError,
)
from broker.domain.model import Identity, Instant, Role, Session, SessionState, Ticket
from broker.domain.viewers import Offer, ViewerKind, offer
from broker.ports import Engine
from broker.services.discretion import Discretion
from broker.services.kit import Kit
from broker.services.sessions import Sessions
from broker.services.tickets import VIEWER_PREFIX, secret_hash, viewer_ticket

VNC_PASSWORD_CHARS: Final = 8
"""what VNC's own authentication takes of a password: 48 random bits"""

_OPEN: Final = frozenset({SessionState.DELIVERING, SessionState.ACTIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerPass:
    """What opens a session once in a viewer; `secret` is shown to its person and to nobody else."""

    kind: ViewerKind
    session_id: str
    secret: str
    expires_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """A pass as it is shown at a relay: what the displays are opened with."""

    session_id: str
    ticket: str
    browser: str


class Viewers:
    """`doors`: the relays that listen in this process, with their ports; whoever opens and closes
    them keeps it."""

    def __init__(
        self,
        kit: Kit,
        sessions: Sessions,
        engines: Callable[[str], Engine],
        discretion: Discretion,
    ) -> None:
        self._kit = kit
        self._discretion = discretion
        self._sessions = sessions
        self._engines = engines
        self._waiting: dict[str, ViewerPass] = {}
        self.doors: dict[ViewerKind, int] = {}

    async def told(self, error: TriviumError) -> TriviumError:
        """The error as it is told in a viewer, whoever sits there."""
        return await self._discretion.error(error, Role.USER)

    # ------------------------------------------------------------------- giving out

    async def offer(self, session: Session) -> Offer:
        """What this session can be opened in at this broker, once it is live; as long as it has no
        desktop, the page and all viewers that the broker takes."""
        return offer(await self._shown(session), self.doors)

    async def issue(self, identity: Identity, session_id: str, kind: ViewerKind) -> ViewerPass:
        """A pass for one's own session, which is at the sign-in that asks.

        Raises:
            NotFoundError, ForbiddenError: not this person's session. ConflictError: it is at
            another place, or not live. UnsupportedError: no relay of that kind here, or the
            desktop's host has no such display. BusyError: too many passes wait to be used.
        """
        session = await self._sessions.get(identity, session_id)
        if session.user_id != identity.user_id:
            raise ForbiddenError("only the session's own person opens it in a viewer")
        if kind not in self.doors:
            raise UnsupportedError(f"this broker takes no {kind.upper()} viewers")
        if session.state not in _OPEN:
            raise ConflictError(f"the session is {session.state}; connect first")
        if session.endpoint_id is not None or session.browser != identity.token_id:
            raise ConflictError("the session is open at another place; connect from here first")
        if kind not in (await self._shown(session) or ()):
            raise UnsupportedError(f"this desktop's host has no {kind.upper()} display")
        return await self._issue(session, kind)

    async def _shown(self, session: Session) -> Collection[str] | None:
        """The displays of the desktop's host; None: it has none yet, or its host is not known, or
        this process has no engine for it."""
        store = self._kit.store
        desktop = await store.desktops.desktop(session.desktop_id) if session.desktop_id else None
        for load in await store.directory.host_loads() if desktop is not None else ():
            if desktop is not None and load.host.id == desktop.host_id:
                with contextlib.suppress(KeyError):
                    return self._engines(load.host.engine).displays(load.host)
        return None

    async def _issue(self, session: Session, kind: ViewerKind) -> ViewerPass:
        kit, waiting = self._kit, self.waiting()
        if kind is ViewerKind.VNC:
            mine = [one for one in waiting if one.session_id == session.id]
            # nobody waits with so many files: their room is other people's
            for old in mine[: max(0, len(mine) + 1 - limits.VIEWER_PASSES_PER_SESSION_MAX)]:
                del self._waiting[old.secret]
            if len(self._waiting) >= limits.VIEWER_PASSES_MAX:
                raise BusyError("too many viewers are about to open", retry_after_s=5.0)
        taken = {one.secret[:VNC_PASSWORD_CHARS] for one in waiting}
        secret = kit.ids.secret()
        while secret[:VNC_PASSWORD_CHARS] in taken:
            secret = kit.ids.secret()
        given = ViewerPass(
            kind=kind,
            session_id=session.id,
            secret=secret,
            expires_at=kit.clock.now() + limits.VIEWER_PASS_S * 1000,
        )
        await kit.store.credentials.add_ticket(
            Ticket(
                id=kit.ids.new(VIEWER_PREFIX),
                secret_hash=secret_hash(viewer_ticket(kind, session.browser, secret)),
                session_id=session.id,
                user_id=session.user_id,
                expires_at=given.expires_at,
            )
        )
        if kind is ViewerKind.VNC:
            self._waiting[secret] = given
        return given

    # --------------------------------------------------------------------- knocking

    def waiting(self) -> tuple[ViewerPass, ...]:
        """VNC passes that were given out here and wait to be used."""
        now = self._kit.clock.now()
        for one in tuple(self._waiting.values()):
            if one.expires_at <= now:
                del self._waiting[one.secret]
        return tuple(self._waiting.values())

    async def knock(self, kind: ViewerKind, session_id: str, secret: str) -> Knock:
        """What to open the displays with; they use the ticket up, and find out whether it is one.

        Raises BadTicketError where there is no such session at a sign-in.
        """
        self._waiting.pop(secret, None)
        session = await self._kit.store.sessions.session(session_id)
        if session is None or session.browser is None:
            raise BadTicketError
        ticket = viewer_ticket(kind, session.browser, secret)
        return Knock(session_id=session_id, ticket=ticket, browser=session.browser)

    async def signed_out(self, browsers: Collection[str]) -> frozenset[str]:
        """Which of these sign-ins are over."""
        found: set[str] = set()
        asked = list(browsers)
        for start in range(0, len(asked), limits.IDENTITY_BATCH_MAX):
            batch = asked[start : start + limits.IDENTITY_BATCH_MAX]
            good = await self._kit.store.credentials.signed_in(batch, self._kit.clock.now())
            found.update(set(batch) - good)
        return frozenset(found)
