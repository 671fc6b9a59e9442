"""Moving a live session to another place, once its person at the first one agrees."""

from __future__ import annotations

from broker import limits
from broker.domain.errors import ConflictError, ForbiddenError
from broker.domain.lifecycle import SESSION, SessionEvent
from broker.domain.model import Identity, Session
from broker.ports import SessionChange
from broker.services.origin import NOWHERE, Origin
from broker.services.sessions import notes
from broker.services.sessions.core import Core, Moved, Step
from broker.services.sessions.people import People


class Roaming:
    def __init__(self, core: Core, people: People) -> None:
        self._core = core
        self._people = people

    async def consent(
        self,
        identity: Identity,
        session_id: str,
        wish_id: str,
        *,
        granted: bool,
        origin: Origin = NOWHERE,
    ) -> Session:
        """The person answers in a browser whether the session may move.

        Raises:
            NotFoundError. ForbiddenError: it is somebody else's session.
                Or the session is at another place than this browser: its person answers there.
            ConflictError: nobody wishes that (any more): answered, withdrawn, or too late.
        """
        session = await self._people.get(identity, session_id)
        if session.user_id != identity.user_id:
            raise ForbiddenError("only the session's own person lets it move")
        here = (None, identity.token_id)
        asked = session.wish is not None and session.wish.id == wish_id
        if asked and (session.endpoint_id, session.browser) != here:
            raise ForbiddenError("whether it may move is answered where the session is open")
        moved = await self._answer(
            session_id,
            wish_id,
            granted=granted,
            here=here,
            actor=identity.user_id,
            origin=origin,
        )
        if not moved.changed:
            raise ConflictError("nobody asks for the session to be moved, or not any more")
        return moved.after

    async def answered(
        self, session_id: str, endpoint_id: str, wish_id: str, *, granted: bool
    ) -> None:
        """The person answered at the endpoint. Late and foreign answers are ignored."""
        if await self._core.find(session_id) is not None:
            await self._answer(
                session_id, wish_id, granted=granted, here=(endpoint_id, None), actor=endpoint_id
            )

    async def _answer(
        self,
        session_id: str,
        wish_id: str,
        *,
        granted: bool,
        here: tuple[str | None, str | None],
        actor: str,
        origin: Origin = NOWHERE,
    ) -> Moved:
        async def decide(session: Session) -> Step | None:
            wish, now = session.wish, self._core.now
            if wish is None or wish.id != wish_id or wish.until <= now:
                return None
            if (session.endpoint_id, session.browser) != here:
                return None
            if not granted:
                return Step(
                    event=SessionEvent.NOTED,
                    why=notes.KEPT_AT_FIRST,
                    deadline_at=session.deadline_at,
                    change=SessionChange(clear_wish=True),
                )
            if not SESSION.allows(session.state, SessionEvent.TAKEN_OVER):
                return None
            return Step(
                event=SessionEvent.TAKEN_OVER,
                why="moved, as the person at the first place agreed",
                deadline_at=now + limits.DELIVER_S * 1000,
                change=SessionChange(
                    clear_wish=True,
                    move=True,
                    move_to=wish.endpoint_id,
                    move_to_browser=wish.browser,
                ),
            )

        moved = await self._core.move(session_id, decide, actor=actor, origin=origin)
        if moved.changed and granted:
            if moved.before.endpoint_id is not None:
                self._core.delivery.leave(moved.before.endpoint_id, moved.after)
            await self._core.delivery.owe(moved.after)
        return moved
