"""Deadlines of sessions: what is done when one has passed."""

from __future__ import annotations

from dataclasses import replace

from broker.architectures import rules_of
from broker.domain.lifecycle import SessionEvent
from broker.domain.model import EndpointState, Instant, Pool, Session, SessionState
from broker.domain.session_time import Limit, Look, look
from broker.ports import SessionChange
from broker.services.sessions.away import Away
from broker.services.sessions.core import Core, Moved, Step
from broker.services.sessions.ending import Ending
from broker.services.sessions.notices import idle_logs_off, warning

_WHY_LATE = "the endpoint did not answer in time"


def first_look(session: Session, pool: Pool, now: Instant) -> Instant:
    """When a session that goes live now is looked at first."""
    live = replace(
        session,
        state=SessionState.ACTIVE,
        live_at=now if session.live_at is None else session.live_at,
        active_at=now,
        deadline_at=None,
    )
    found = look(live, pool.settings, now)
    return found.again_at if found.warn is None and found.over is None else now


class Timing:
    def __init__(self, core: Core, ending: Ending, away: Away) -> None:
        self._core = core
        self._ending = ending
        self._away = away

    async def expire(self, session: Session) -> None:
        """The session's deadline has passed. One that has moved on since is left alone."""
        match session.state:
            case SessionState.QUEUED:
                await self._give_up_waiting(session)
            case SessionState.DELIVERING:
                await self._not_delivered(session)
            case SessionState.ACTIVE:
                await self._look(session)
            case SessionState.DISCONNECTED:
                await self._away.over(session)
            case SessionState.ENDING:
                await self._not_ended(session)
            case _:
                pass

    async def _not_ended(self, session: Session) -> None:
        """What had to be confirmed was not. Why it ended stays told where only the desktop's agent
        was silent: that has an entry of its own."""
        guest = await self._ending.waits_for_guest(session)
        why = session.why if guest else _WHY_LATE
        await self._ending.finish(session, SessionEvent.DEADLINE_PASSED, why)

    def _still_due(self, read: Session, now: Session) -> bool:
        return now.state is read.state and (
            now.deadline_at is not None and now.deadline_at <= self._core.now
        )

    async def _give_up_waiting(self, read: Session) -> None:
        async def decide(session: Session) -> Step | None:
            if not self._still_due(read, session):
                return None
            return Step(event=SessionEvent.DEADLINE_PASSED, why="waited past the limit")

        if (await self._core.move(read.id, decide)).changed:
            await self._core.queues.tell(read.pool_id)

    async def _not_delivered(self, read: Session) -> None:
        """A new session fails. One that its person had before is kept: the work in its desktop
        must not be lost because an endpoint or a browser did not show it. Only where the desktop
        is the endpoint, and that is in reach, there is nothing behind it that could be kept."""
        if read.live_at is not None and not await self._runs_in_reach(read):
            await self._away.leave(
                read.id,
                _WHY_LATE,
                still=lambda now: self._still_due(read, now),
                stays_at_place=True,
            )
            return

        async def decide(session: Session) -> Step | None:
            if not self._still_due(read, session):
                return None
            return Step(event=SessionEvent.DEADLINE_PASSED, why=_WHY_LATE)

        await self._ending.finish_if(read.id, decide)

    async def _runs_in_reach(self, session: Session) -> bool:
        """The desktop is an endpoint's own, and the endpoint is connected."""
        if not rules_of(session.architecture).runs_on_endpoint or session.endpoint_id is None:
            return False
        endpoint = await self._core.kit.store.endpoints.endpoint(session.endpoint_id)
        return endpoint is not None and endpoint.state is EndpointState.ONLINE

    # ------------------------------------------------------------------ live sessions

    async def _look(self, read: Session) -> None:
        """Warn of a limit, carry it out, or say when to look again."""
        pool, found = await self._core.pool_of(read), None

        async def decide(session: Session) -> Step | None:
            nonlocal found
            found = None
            if not self._still_due(read, session):
                return None
            now = self._core.now
            found = look(session, pool.settings, now)
            return None if found.over is not None else _noted(session, found, pool, now)

        moved = await self._core.move(read.id, decide)
        if found is not None:
            await self._act(moved, found, pool)

    async def _act(self, moved: Moved, found: Look, pool: Pool) -> None:
        session = moved.after
        if found.warn is not None:
            await self._core.delivery.attend(session)
        elif found.over is Limit.END:
            why = "its maximum time is over"
            await self._ending.end(session, SessionEvent.LOG_OFF, why)
        elif found.over is Limit.IDLE and idle_logs_off(session, pool.settings):
            await self._ending.end(session, SessionEvent.LOG_OFF, "idle for too long")
        elif found.over is Limit.IDLE:
            read = session.revision
            await self._away.leave(
                session.id, "idle for too long", still=lambda now: now.revision == read
            )


def _noted(session: Session, found: Look, pool: Pool, now: Instant) -> Step:
    notice = None
    if found.warn is not None:
        notice = warning(session, found, pool.settings, now)
    expired_wish = session.wish is not None and session.wish.until <= now
    return Step(
        event=SessionEvent.NOTED,
        why=session.why,
        deadline_at=found.again_at,
        change=SessionChange(notice=notice, clear_wish=expired_wish),
    )
