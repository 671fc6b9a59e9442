"""What people ask about sessions: look, wait, log off, disconnect; and what the staff asks."""

from __future__ import annotations

from broker import limits
from broker.architectures import rules_of
from broker.domain.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    IllegalTransitionError,
    NotFoundError,
)
from broker.domain.lifecycle import SESSION, SessionEvent
from broker.domain.model import Identity, Notice, Session, SessionState
from broker.domain.roles import Permission, allows
from broker.domain.session_time import ends_at
from broker.ports import PageQuery, SessionChange
from broker.services.decisions import BROKER
from broker.services.origin import NOWHERE, Origin
from broker.services.sessions.activity import Activity
from broker.services.sessions.away import Away
from broker.services.sessions.core import Core, Step
from broker.services.sessions.ending import Ending
from broker.services.sessions.notices import checked_text
from broker.services.watch import SessionWatch

_HAD = frozenset({SessionState.DELIVERING, SessionState.ACTIVE, SessionState.DISCONNECTED})


class People:
    def __init__(
        self,
        core: Core,
        ending: Ending,
        away: Away,
        activity: Activity,
        watch: SessionWatch,
    ) -> None:
        self._core = core
        self._ending = ending
        self._away = away
        self._activity = activity
        self._watch = watch

    # ------------------------------------------------------------------ reading

    async def get(self, identity: Identity, session_id: str) -> Session:
        """Raises NotFoundError, also for somebody else's session."""
        session = await self._core.find(session_id)
        own = session is not None and session.user_id == identity.user_id
        if session is None or not (own or allows(identity.role, Permission.READ)):
            raise NotFoundError(f"there is no session {session_id!r}")
        if own:
            self.waits_still(session)
        return session

    def waits_still(self, session: Session) -> None:
        """The person's client called: one that waits in a queue is still there."""
        if session.state is SessionState.QUEUED:
            self._activity.note(session.id, self._core.now)

    async def wait(
        self,
        identity: Identity,
        session_id: str,
        revision: int,
        wait_s: float,
        place: int | None = None,
    ) -> Session:
        """The session once it is later than `revision`, or as it is after `wait_s` seconds.

        Somebody who knows the own `place` in the queue is answered for another one, too.
        """
        session = await self.get(identity, session_id)
        if session.revision > revision:
            return session

        async def moved_up(now: Session) -> bool:
            return await self._core.queues.place(now) != place

        news = moved_up if place is not None else None
        wait_s = min(wait_s, limits.WAIT_S_MAX)
        later = await self._watch.later_than(session_id, revision, wait_s, news)
        if later is None:
            return session
        if later.user_id == identity.user_id:
            self.waits_still(later)
        return later

    async def own(self, identity: Identity) -> tuple[Session, ...]:
        """The caller's live sessions."""
        query = PageQuery(limit=100, filters={"user_id": identity.user_id, "live": "true"})
        return (await self._core.kit.store.sessions.sessions(query)).items

    async def here(self, identity: Identity) -> None:
        """The person's client is connected (an event stream): a sign of life for what waits."""
        for session in await self.own(identity):
            self.waits_still(session)

    async def at_endpoint(self, endpoint_id: str) -> tuple[Session, ...]:
        """Sessions that an endpoint may be carrying."""
        return await self._core.kit.store.sessions.at_endpoints([endpoint_id], sorted(_HAD))

    # ------------------------------------------------------------------ leaving

    def _may_change(self, identity: Identity, session: Session) -> None:
        own = session.user_id == identity.user_id
        if not own and not allows(identity.role, Permission.MANAGE_SESSIONS):
            raise ForbiddenError(f"ending somebody's session needs {Permission.MANAGE_SESSIONS}")

    async def log_off(
        self, identity: Identity, session_id: str, origin: Origin = NOWHERE
    ) -> Session:
        """End a session, or leave the queue. A session that is over already is answered as is."""
        session = await self.get(identity, session_id)
        self._may_change(identity, session)
        own = session.user_id == identity.user_id
        why = "the person logged off" if own else f"ended by {identity.username}"

        async def decide(session: Session) -> Step | None:
            if session.state is SessionState.QUEUED:
                return Step(event=SessionEvent.CANCELLED, why="left the queue")
            if not SESSION.allows(session.state, SessionEvent.LOG_OFF):
                return None
            deadline_at = self._core.now + limits.ENDING_S * 1000
            return Step(event=SessionEvent.LOG_OFF, why=why, deadline_at=deadline_at)

        ended = await self._ending.begin(session_id, decide, identity.user_id, origin)
        if session.state is SessionState.QUEUED and ended.state is SessionState.CANCELLED:
            await self._core.queues.tell(ended.pool_id)
        return ended

    async def disconnect(
        self, identity: Identity, session_id: str, origin: Origin = NOWHERE
    ) -> Session:
        """Take the display away and keep the desktop for the pool's grace.

        Raises:
            ConflictError: the desktop runs on the endpoint, so there is nothing to come back to.
            IllegalTransitionError: it has no display now.
        """
        session = await self.get(identity, session_id)
        self._may_change(identity, session)
        if not rules_of(session.architecture).moves:
            text = f"a session under {session.architecture} cannot be disconnected, only ended"
            raise ConflictError(text)
        if not SESSION.allows(session.state, SessionEvent.DISCONNECTED):
            raise IllegalTransitionError(f"a session that is {session.state} has no display")
        return await self._away.leave(
            session_id, "disconnected on request", actor=identity.user_id, origin=origin
        )

    async def abandon(self, session: Session) -> bool:
        """Take a queued session whose client has not called for CLIENT_SILENT_S out of the queue.

        One that is to start at an endpoint lives while that is connected: whoever waits in front
        of it need not call. Nobody is given up before this process could have heard of them.
        """
        silent_ms = limits.CLIENT_SILENT_S * 1000
        if self._activity.up_for_s < limits.CLIENT_SILENT_S:
            return False
        if session.endpoint_id is not None and await self._is_online(session.endpoint_id):
            self._activity.note(session.id, self._core.now)
            return False

        async def decide(session: Session) -> Step | None:
            stored = session.requested_at if session.active_at is None else session.active_at
            last = self._activity.latest(session.id, stored)
            if session.state is not SessionState.QUEUED or last > self._core.now - silent_ms:
                return None
            return Step(event=SessionEvent.CANCELLED, why="its client went away")

        moved = await self._core.move(session.id, decide)
        if moved.changed:
            await self._core.queues.tell(session.pool_id)
        return moved.changed

    async def _is_online(self, endpoint_id: str) -> bool:
        if self._core.delivery.connected(endpoint_id):
            return True
        endpoint = await self._core.kit.store.endpoints.endpoint(endpoint_id)
        return endpoint is not None and endpoint.state.value == "online"

    # ------------------------------------------------------------------ asked by the staff

    def _may_manage(self, identity: Identity) -> None:
        if not allows(identity.role, Permission.MANAGE_SESSIONS):
            raise ForbiddenError(f"this needs the permission {Permission.MANAGE_SESSIONS}")

    async def message(
        self, identity: Identity, session_id: str, text: str, origin: Origin = NOWHERE
    ) -> Session:
        """Tell the person something: at the endpoint, and to whoever reads the session.

        Raises:
            ForbiddenError, NotFoundError. BadRequestError: the text. ConflictError: it is over.
        """
        self._may_manage(identity)
        text = checked_text(text)
        await self.get(identity, session_id)
        return await self._say(session_id, text, identity.username, identity.user_id, origin)

    async def tell(self, session_id: str, text: str) -> Session:
        """As `message`, from the broker itself. Raises NotFoundError; ConflictError: it is over."""
        return await self._say(session_id, text, "", BROKER, NOWHERE)

    async def _say(
        self, session_id: str, text: str, sender: str, actor: str, origin: Origin
    ) -> Session:
        notice_id = self._core.kit.ids.new("ntc")

        async def decide(session: Session) -> Step | None:
            if not SESSION.allows(session.state, SessionEvent.NOTED):
                raise ConflictError(f"a session that is {session.state} has nobody to be told")
            notice = Notice(id=notice_id, text=text, sender=sender, at=self._core.now)
            return Step(
                event=SessionEvent.NOTED,
                why=session.why,
                deadline_at=session.deadline_at,
                change=SessionChange(notice=notice),
            )

        moved = await self._core.move(session_id, decide, actor=actor, origin=origin)
        await self._core.delivery.attend(moved.after)
        return moved.after

    async def extend(
        self, identity: Identity, session_id: str, seconds: int, origin: Origin = NOWHERE
    ) -> Session:
        """Let the session last longer than its pool's maximum time, by that much.

        Raises:
            ForbiddenError, NotFoundError. BadRequestError: not 1 to EXTEND_S_MAX seconds.
            ConflictError: the session has no end that could be moved.
        """
        self._may_manage(identity)
        if not 1 <= seconds <= limits.EXTEND_S_MAX:
            text = f"a session is extended by 1 to {limits.EXTEND_S_MAX} seconds at a time"
            raise BadRequestError(text, fields={"field": "seconds"})
        pool = await self._core.pool_of(await self.get(identity, session_id))

        async def decide(session: Session) -> Step | None:
            end = ends_at(session, pool.settings)
            if session.state not in _HAD:
                raise ConflictError(f"a session that is {session.state} has no end to be moved")
            if end is None:
                limited = f"it was not live yet ({pool.name} allows session_max_s from then on)"
                endless = f"{pool.name} ends none by time (its session_max_s is 0)"
                why = limited if pool.settings.session_max_s else endless
                raise ConflictError(f"the session has no end to be moved: {why}")
            now = self._core.now
            change = SessionChange(ends_at=max(end, now) + seconds * 1000)
            deadline_at = session.deadline_at
            if session.state is SessionState.ACTIVE:
                # the next look finds the new end; the old one is not waited for any more
                deadline_at = now if deadline_at is None else min(deadline_at, now)
            return Step(
                event=SessionEvent.NOTED, why=session.why, deadline_at=deadline_at, change=change
            )

        moved = await self._core.move(session_id, decide, actor=identity.user_id, origin=origin)
        return moved.after
