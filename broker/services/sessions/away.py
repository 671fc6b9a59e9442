"""A session without its person: how long it is kept, when its desktop is suspended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from broker import limits
from broker.architectures import rules_of
from broker.domain.lifecycle import SESSION, SessionEvent
from broker.domain.model import Desktop, DesktopState, Instant, Pool, Session, SessionState
from broker.domain.session_time import ends_at
from broker.domain.settings import AfterGrace
from broker.ports import SessionChange
from broker.services.origin import NOWHERE, Origin
from broker.services.parking import AWAY, Parking
from broker.services.sessions import notes
from broker.services.sessions.core import BROKER, Core, Step
from broker.services.sessions.ending import Ending

_STRANDED: Final = (
    SessionState.QUEUED,
    SessionState.DELIVERING,
    SessionState.ACTIVE,
    SessionState.DISCONNECTED,
)
Guard = Callable[[Session], bool]
"""whether the session still is what the decision is about"""


class Away:
    def __init__(self, core: Core, ending: Ending, parking: Parking) -> None:
        self._core = core
        self._ending = ending
        self._parking = parking

    async def lost(self, session: Session, why: str, display: str | None = None) -> Session:
        """The session's endpoint or `display` went away; keep it for the architecture's time. It
        comes back by itself when that endpoint does. A display that was not the session's own any
        more is none to be missed."""
        place = session.endpoint_id

        def still(now: Session) -> bool:
            return now.endpoint_id == place and display in {None, now.display}

        return await self.leave(session.id, why, still=still, stays_at_place=True)

    async def leave(
        self,
        session_id: str,
        why: str,
        *,
        still: Guard = lambda _: True,
        stays_at_place: bool = False,
        actor: str = BROKER,
        origin: Origin = NOWHERE,
    ) -> Session:
        """Take the session from its place and keep its desktop for the pool's grace.

        Unless it `stays_at_place` it is nowhere then, and its endpoint is told to let go. A move
        that somebody waits for is settled by this: the session is free to be asked for.
        """

        async def decide(session: Session) -> Step | None:
            if not still(session) or not SESSION.allows(session.state, SessionEvent.DISCONNECTED):
                return None
            return await self._step(session, why, stays_at_place=stays_at_place)

        moved = await self._core.move(session_id, decide, actor=actor, origin=origin)
        left = moved.before.endpoint_id
        if moved.changed and left is not None and not stays_at_place:
            self._core.delivery.leave(left, moved.after)
        return moved.after

    # ------------------------------------------------------------------ a retired endpoint

    async def stranded(self, endpoint_ids: Sequence[str]) -> list[Session]:
        """Sessions at these endpoints, which are retired. One that is away already, and may go on
        elsewhere, needs nothing."""
        if not endpoint_ids:
            return []
        found = await self._core.kit.store.sessions.at_endpoints(endpoint_ids, _STRANDED)
        away = SessionState.DISCONNECTED
        return [one for one in found if one.state is not away or not _moves(one)]

    async def vacate(self, session: Session, why: str) -> None:
        """Its endpoint is retired: a desktop of the server's is kept for the person to go on
        elsewhere, one that is the endpoint itself ends, and nobody waits for it any more."""
        place = session.endpoint_id

        async def leave_queue(now: Session) -> Step | None:
            if now.state is not SessionState.QUEUED or now.endpoint_id != place:
                return None
            return Step(event=SessionEvent.CANCELLED, why=why)

        if session.state is SessionState.QUEUED:
            if (await self._core.move(session.id, leave_queue)).changed:
                await self._core.queues.tell(session.pool_id)
        elif _moves(session):
            await self.leave(session.id, why, still=lambda now: now.endpoint_id == place)
        else:
            ending = await self._ending.end(session, SessionEvent.LOG_OFF, why)
            # it was told to stop, and cannot answer any more
            await self._ending.finish(ending, SessionEvent.FINISHED, why)

    async def _step(self, session: Session, why: str, *, stays_at_place: bool) -> Step:
        pool, now = await self._core.pool_of(session), self._core.now
        until = rules_of(session.architecture).away_until(session, pool, now)
        desktop = await self._desktop(session)
        if desktop is not None and desktop.state is DesktopState.UNPARKING:
            # it closed the display itself, to start: its session waits for it at least as long
            until = max(until, desktop.deadline_at or now)
        elif (
            pool.settings.after_grace is AfterGrace.SUSPEND
            and desktop is not None
            and desktop.state in AWAY
        ):
            # it rests already: the person came back and left before it was resumed
            until = now + pool.settings.keep_suspended_s * 1000
        return Step(
            event=SessionEvent.DISCONNECTED,
            why=why,
            deadline_at=_not_past_end(until, session, pool, now),
            change=SessionChange(clear_wish=True, move=not stays_at_place),
        )

    async def _desktop(self, session: Session) -> Desktop | None:
        if session.desktop_id is None:
            return None
        return await self._core.kit.store.desktops.desktop(session.desktop_id)

    # ------------------------------------------------------------------ the grace is over

    async def over(self, session: Session) -> None:
        """The deadline of a disconnected session has passed: suspend its desktop, or end it."""
        pool = await self._core.pool_of(session)
        end = ends_at(session, pool.settings)
        if pool.settings.after_grace is not AfterGrace.SUSPEND:
            await self._end(session, "away for too long")
        elif end is not None and end <= self._core.now:
            await self._end(session, "away when its maximum time was over")
        else:
            await self._rest(session, pool)

    async def _end(self, session: Session, why: str) -> None:
        await self._ending.end(session, SessionEvent.DEADLINE_PASSED, why)

    async def _rest(self, session: Session, pool: Pool) -> None:
        desktop = await self._desktop(session)
        now, keep_ms = self._core.now, pool.settings.keep_suspended_s * 1000
        if desktop is None or desktop.state not in {
            DesktopState.ASSIGNED,
            DesktopState.UNPARKING,
            *AWAY,
        }:
            await self._end(session, "away for too long")
        elif desktop.state is DesktopState.UNPARKING:
            await self._keep(session, "away again", now + limits.PARK_AGAIN_S * 1000)
        elif desktop.state is DesktopState.ASSIGNED:
            unable = await self._parking.cannot_suspend(desktop)
            if unable:
                await self._end(session, f"away for too long; not suspended, for {unable}")
            elif await self._parking.suspend(desktop):
                until = _not_past_end(now + keep_ms, session, pool, now)
                await self._keep(session, notes.DESKTOP_RESTS, until)
            else:
                await self._keep(session, session.why, now + limits.PARK_AGAIN_S * 1000)
        elif session.deadline_at is not None and desktop.changed_at >= session.deadline_at:
            # whoever asked for it did not live to write down until when it is kept
            until = _not_past_end(desktop.changed_at + keep_ms, session, pool, now)
            await self._keep(session, notes.DESKTOP_RESTS, until)
        else:
            await self._end(session, "away for too long, suspended")

    async def _keep(self, session: Session, why: str, until: Instant) -> None:
        """It rests nowhere: an endpoint that comes back does not wake it, its person does."""
        read = session.revision

        async def decide(now: Session) -> Step | None:
            if now.revision != read or now.state is not SessionState.DISCONNECTED:
                return None
            return Step(
                event=SessionEvent.NOTED,
                why=why,
                deadline_at=until,
                change=SessionChange(move=rules_of(now.architecture).moves),
            )

        moved = await self._core.move(session.id, decide)
        if not moved.changed and moved.after.state is not SessionState.DISCONNECTED:
            await self.wake(moved.after)

    async def wake(self, session: Session) -> None:
        """The person came back while the desktop was being put to rest."""
        desktop = await self._desktop(session)
        if desktop is not None and session.state is SessionState.DELIVERING:
            self._parking.awake(desktop)


def _moves(session: Session) -> bool:
    return rules_of(session.architecture).moves


def _not_past_end(until: Instant, session: Session, pool: Pool, now: Instant) -> Instant:
    """A session that nobody uses is not kept beyond its maximum time."""
    end = ends_at(session, pool.settings)
    return until if end is None or end <= now else min(until, end)
