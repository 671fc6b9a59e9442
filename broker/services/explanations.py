"""Why a session, a desktop, a pool or a host is as it is: the decisions about it, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import NotFoundError
from broker.domain.model import Identity, Instant, Session
from broker.domain.roles import Permission, allows
from broker.ports import Page, PageQuery
from broker.services.decisions import BROKER
from broker.services.discretion import Discretion
from broker.services.kit import Kit
from broker.services.sessions import notes
from broker.services.telling import reasons, sentence

NOTED: Final = "session.noted"
ROOM_ENTRIES_MAX: Final = 5
"""times that a pool had no room, told with the session that waited for it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One decision. `by`: who decided or asked, a user name or "broker"; "" if nobody known."""

    entry_id: str
    at: Instant
    action: str
    outcome: Outcome
    sentence: str
    reasons: tuple[str, ...]
    by: str


class Explanations:
    def __init__(self, kit: Kit, discretion: Discretion) -> None:
        self._kit = kit
        self._discretion = discretion

    async def of_session(
        self, identity: Identity, session_id: str, query: PageQuery
    ) -> Page[Explanation]:
        """Why this session has this desktop, waits, or is over; a person sees his own, without
        which host lacks what: that is for those who run the site.

        While it waits, or waited, the times at which its pool had no room for another desktop
        are told on the first page, too. Raises NotFoundError.
        """
        session = await self._kit.store.sessions.session(session_id)
        own = session is not None and session.user_id == identity.user_id
        whole = allows(identity.role, Permission.READ)
        if session is None or not (own or whole):
            raise NotFoundError(f"there is no session {session_id!r}")
        page = await self._entries({"session_id": session.id}, query)
        entries = list(page.items)
        if query.after is None:
            entries += await self._lack_of_room(session)
            entries.sort(key=lambda one: (one.at, one.id), reverse=True)
        names = await self._names(entries)
        who = "you" if own else names.get(session.user_id, "the person")
        tell = await self._discretion.for_role(identity.role)
        shown = (replace(one, why=tell(one.why)) for one in _news(entries))
        return Page(
            items=tuple(_told(one, who, names, whole=whole) for one in shown),
            next_after=page.next_after,
        )

    async def of(self, field: str, thing_id: str, query: PageQuery) -> Page[Explanation]:
        """The decisions about one thing: `field` is desktop_id, pool_id or host_id."""
        page = await self._entries({field: thing_id}, query)
        names = await self._names(page.items)
        return Page(
            items=tuple(
                _told(one, names.get(one.user_id, "the person"), names, whole=True)
                for one in _news(page.items)
            ),
            next_after=page.next_after,
        )

    async def _entries(self, filters: Mapping[str, str], query: PageQuery) -> Page[AuditEntry]:
        return await self._kit.store.audit.entries(
            PageQuery(limit=query.limit, after=query.after, filters=filters)
        )

    async def _lack_of_room(self, session: Session) -> Sequence[AuditEntry]:
        until = session.assigned_at or session.ended_at or self._kit.clock.now() + 1
        if until <= session.requested_at:
            return ()
        page = await self._kit.store.audit.entries(
            PageQuery(
                limit=ROOM_ENTRIES_MAX,
                filters={
                    "pool_id": session.pool_id,
                    "action": "pool.no_room",
                    "since": str(session.requested_at),
                    "until": str(until),
                },
            )
        )
        return page.items

    async def _names(self, entries: Iterable[AuditEntry]) -> Mapping[str, str]:
        """User and endpoint ids -> names."""
        ids = {one for entry in entries for one in (entry.actor, entry.user_id) if one}
        directory = self._kit.store.directory
        people = {one for one in ids if one.startswith("usr_")}
        endpoints = {one for one in ids if one.startswith("ept_")}
        found: dict[str, str] = {}
        if people:
            found |= await directory.names_of("users", people)
        if endpoints:
            found |= await directory.names_of("endpoints", endpoints)
        return found


def _news(entries: Iterable[AuditEntry]) -> Iterator[AuditEntry]:
    """Without notes that left a session's reason as it was: they explain nothing (a message shown,
    a time looked at)."""
    return (one for one in entries if one.action != NOTED or one.why in notes.TELLING)


def _told(entry: AuditEntry, who: str, names: Mapping[str, str], *, whole: bool) -> Explanation:
    by = entry.actor if entry.actor == BROKER else names.get(entry.actor, "")
    return Explanation(
        entry_id=entry.id,
        at=entry.at,
        action=entry.action,
        outcome=entry.outcome,
        sentence=sentence(entry, who),
        reasons=reasons(entry) if whole else (),
        by=by,
    )
