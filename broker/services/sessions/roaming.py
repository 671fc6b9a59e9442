"""Moving a live session to another endpoint, once its person at the first one agrees."""

from __future__ import annotations

from broker import limits
from broker.domain.errors import ConflictError, ForbiddenError
from broker.domain.lifecycle import SESSION, SessionEvent
from broker.domain.model import Identity, Session
from broker.ports import SessionChange
from broker.services.sessions import notes
from broker.services.sessions.core import Core, Moved, Step
from broker.services.sessions.people import People


class Roaming:
    def __init__(self, core: Core, people: People) -> None:
        self._core = core
        self._people = people

    async def consent(
        self, identity: Identity, session_id: str, wish_id: str, *, granted: bool
    ) -> Session:
        """The person answers in a browser whether the session may move.

        Raises:
            NotFoundError. ForbiddenError: it is somebody else's session.
            ConflictError: nobody wishes that (any more): answered, withdrawn, or too late.
        """
        session = await self._people.get(identity, session_id)
        if session.user_id != identity.user_id:
            raise ForbiddenError("only the session's own person lets it move")
        moved = await self._answer(
            session_id, wish_id, granted=granted, here=session.endpoint_id, actor=identity.user_id
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
                session_id, wish_id, granted=granted, here=endpoint_id, actor=endpoint_id
            )

    async def _answer(
        self, session_id: str, wish_id: str, *, granted: bool, here: str | None, actor: str
    ) -> Moved:
        async def decide(session: Session) -> Step | None:
            wish, now = session.wish, self._core.now
            if wish is None or wish.id != wish_id or wish.until <= now:
                return None
            if session.endpoint_id != here:
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
                why="moved, as the person at the first endpoint agreed",
                deadline_at=now + limits.DELIVER_S * 1000,
                change=SessionChange(clear_wish=True, move=True, move_to=wish.endpoint_id),
            )

        moved = await self._core.move(session_id, decide, actor=actor)
        if moved.changed and granted:
            if moved.before.endpoint_id is not None:
                self._core.delivery.leave(moved.before.endpoint_id, moved.after)
            await self._core.delivery.owe(moved.after)
        return moved
