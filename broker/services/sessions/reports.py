"""What endpoints and displays say about sessions. Late, repeated and foreign words change nothing.

A report counts for a session that is at that place, in that generation. Each is decided from the
session as it is and carried out only if it still is so: one that crosses a take-over or a log-off
loses to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from broker import limits
from broker.architectures import rules_of
from broker.domain.lifecycle import SESSION, SessionEvent
from broker.domain.model import Instant, PhaseReport, Session, SessionState, Traffic
from broker.domain.settings import AfterGrace
from broker.ports import SessionChange
from broker.services.parking import AWAY
from broker.services.sessions.activity import Activity
from broker.services.sessions.away import Away
from broker.services.sessions.core import BROKER, Core, Decide, Step
from broker.services.sessions.ending import Ending
from broker.services.sessions.timing import first_look

_IDLE_S_MAX: Final = 1e7
"""a longer time is taken as that long, about four months"""


class Reports:
    def __init__(self, core: Core, ending: Ending, away: Away, activity: Activity) -> None:
        self._core = core
        self._ending = ending
        self._away = away
        self._activity = activity

    async def _at(self, session_id: str, endpoint_id: str | None) -> Session | None:
        """The session, if it is this endpoint's: no endpoint speaks for another's."""
        session = await self._core.find(session_id)
        if session is None or session.endpoint_id != endpoint_id:
            return None
        return session

    async def phases(
        self, session_id: str, endpoint_id: str, reports: Sequence[PhaseReport]
    ) -> None:
        """An endpoint finished these steps."""
        if reports and await self._at(session_id, endpoint_id) is not None:
            await self._core.kit.store.sessions.note_phases(session_id, reports, Traffic())

    async def traffic(self, session_id: str, endpoint_id: str | None, traffic: Traffic) -> None:
        """Bytes since the last report, as the endpoint (or, without one, the display) counted."""
        if traffic != Traffic() and await self._at(session_id, endpoint_id) is not None:
            await self._core.kit.store.sessions.note_phases(session_id, [], traffic)

    # ------------------------------------------------------------------ live, and not

    async def live(
        self, session_id: str, endpoint_id: str | None, generation: int
    ) -> Session | None:
        """The person has the desktop at the endpoint; None: in a browser."""
        session = await self._at(session_id, endpoint_id)
        if session is None or session.generation != generation:
            return None
        return await self._live(session, endpoint_id, session.browser, None)

    async def shown(self, session: Session, *, browser: str | None, display: str) -> Session | None:
        """This display is open in that browser, and is the session's own from now on, unless the
        session has moved; who asks sees by `display`."""
        return await self._live(session, None, browser, display)

    async def _live(
        self, session: Session, endpoint_id: str | None, browser: str | None, display: str | None
    ) -> Session | None:
        core, pool = self._core, await self._core.pool_of(session)
        rules = rules_of(session.architecture)

        async def decide(session: Session) -> Step | None:
            if (session.endpoint_id, session.browser) != (endpoint_id, browser):
                return None
            if not SESSION.allows(session.state, SessionEvent.REPORTED_LIVE):
                return _another_display(session, display)
            now = core.now
            return Step(
                event=SessionEvent.REPORTED_LIVE,
                why="the desktop is in front of the person",
                deadline_at=first_look(session, pool, now),
                lease_until=rules.lease_until(pool, now),
                change=SessionChange(active_at=now, display=display),
            )

        moved = await core.move(session.id, decide, actor=endpoint_id or BROKER)
        if moved.changed and moved.before.state is not SessionState.ACTIVE:
            core.tally.count("live", session.architecture)
            if moved.before.live_at is None:
                seconds = (core.now - session.requested_at) / 1000
                core.tally.took("to_live", session.architecture, seconds)
            await core.delivery.attend(moved.after)
        return moved.after

    async def failed(
        self, session_id: str, endpoint_id: str | None, generation: int, why: str
    ) -> None:
        """The session's desktop is lost, or could not be started."""
        await self._fail(session_id, _about(endpoint_id, generation, why), endpoint_id)

    async def could_not(self, session_id: str, endpoint_id: str, generation: int, why: str) -> None:
        """The endpoint could not show the session, or lost it. A desktop at the server that its
        person had before outlives that: it waits for the pool's grace, as after a disconnect."""
        session = await self._at(session_id, endpoint_id)
        if session is None or session.generation != generation:
            return
        kept = session.live_at is not None and rules_of(session.architecture).moves
        if kept and session.state is not SessionState.ENDING:
            await self._away.lost(session, why)
        else:
            await self._fail(session_id, _about(endpoint_id, generation, why), endpoint_id)

    async def _fail(self, session_id: str, decide: Decide, actor: str | None) -> None:
        if await self._core.find(session_id) is not None:
            await self._ending.finish_if(session_id, decide, actor or BROKER)

    async def ended(self, session_id: str, endpoint_id: str, generation: int) -> None:
        """The session is over at the endpoint: after Stop, or by the person's own log-off."""

        async def log_off(session: Session) -> Step | None:
            if session.endpoint_id != endpoint_id or session.generation != generation:
                return None
            if not SESSION.allows(session.state, SessionEvent.LOG_OFF):
                return None
            return Step(
                event=SessionEvent.LOG_OFF,
                why="logged off at the endpoint",
                deadline_at=self._core.now + limits.ENDING_S * 1000,
            )

        async def finish(session: Session) -> Step | None:
            if session.endpoint_id != endpoint_id or session.generation != generation:
                return None
            if session.state is not SessionState.ENDING:
                return None
            if await self._ending.waits_for_guest(session):
                return None
            return Step(event=SessionEvent.FINISHED, why=session.why)

        if await self._at(session_id, endpoint_id) is not None:
            await self._core.move(session_id, log_off, actor=endpoint_id)
            await self._ending.finish_if(session_id, finish, endpoint_id)

    # ------------------------------------------------------------------ endpoints

    async def endpoint_back(self, endpoint_id: str) -> None:
        """An endpoint connected: what it should be carrying is delivered to it again.

        Its agent carries on where it still can (and says so at once), and otherwise starts the
        session anew with the fresh ticket that comes with the order. A desktop that was suspended
        meanwhile waits for its person, who need not be there.
        """
        states = (SessionState.ACTIVE, SessionState.DISCONNECTED)

        async def decide(session: Session) -> Step | None:
            if session.endpoint_id != endpoint_id or session.state not in states:
                return None
            if await self._rests(session):
                return None
            deadline_at = self._core.now + limits.DELIVER_S * 1000
            return Step(
                event=SessionEvent.RECONNECTED, why="its endpoint is back", deadline_at=deadline_at
            )

        for session in await self._core.kit.store.sessions.at_endpoints([endpoint_id], states):
            await self._core.move(session.id, decide, actor=endpoint_id)

    async def _rests(self, session: Session) -> bool:
        pool = await self._core.pool_of(session)
        if pool.settings.after_grace is not AfterGrace.SUSPEND or session.desktop_id is None:
            return False
        desktop = await self._core.kit.store.desktops.desktop(session.desktop_id)
        return desktop is not None and desktop.state in AWAY

    async def carried(
        self,
        endpoint_id: str,
        session_ids: Iterable[str],
        idle_s: Mapping[str, float] | None = None,
    ) -> None:
        """An endpoint says what it carries, and for how long each person has been idle: let go
        there what is over or has moved, renew old leases, hand over messages that are due."""
        for session_id in sorted(session_ids):
            session = await self._core.find(session_id)
            if session is None or session.state in SESSION.terminal:
                generation = session.generation if session is not None else 0
                self._core.delivery.stop(endpoint_id, session_id, generation)
            elif session.endpoint_id != endpoint_id:
                self._core.delivery.leave(endpoint_id, session)
            else:
                await self._carries(session, (idle_s or {}).get(session_id))

    async def _carries(self, session: Session, idle_s: float | None) -> None:
        if idle_s is not None and session.state is SessionState.ACTIVE:
            idle_ms = int(min(max(idle_s, 0.0), _IDLE_S_MAX) * 1000)
            self._activity.note(session.id, self._core.now - idle_ms)
        if await self._lease_is_old(session):
            await self._core.delivery.order_again(session)
        await self._core.delivery.attend(session)

    async def _lease_is_old(self, session: Session) -> bool:
        """Half of the lease is gone: with the broker in reach it is time for a new one."""
        if session.lease_until is None or session.state is not SessionState.ACTIVE:
            return False
        pool = await self._core.pool_of(session)
        return session.lease_until - self._core.now < pool.lease_s * 1000 / 2

    async def renewed(self, session: Session, lease_until: Instant | None) -> None:
        """An endpoint that has the session up already was granted a new lease."""
        place = session.endpoint_id

        async def decide(now: Session) -> Step | None:
            if now.state is not SessionState.ACTIVE or now.endpoint_id != place:
                return None
            return Step(
                event=SessionEvent.LEASE_RENEWED,
                why=now.why,
                deadline_at=now.deadline_at,
                lease_until=lease_until,
            )

        if lease_until is not None:
            await self._core.move(session.id, decide, actor=place or BROKER)


def _another_display(session: Session, display: str | None) -> Step | None:
    """It is live already; another display of the same browser shows it now."""
    if display is None or session.state is not SessionState.ACTIVE or session.display == display:
        return None
    return Step(
        event=SessionEvent.NOTED,
        why=session.why,
        deadline_at=session.deadline_at,
        change=SessionChange(display=display),
    )


def _about(endpoint_id: str | None, generation: int, why: str) -> Decide:
    async def decide(session: Session) -> Step | None:
        if session.endpoint_id != endpoint_id or session.generation != generation:
            return None
        if not SESSION.allows(session.state, SessionEvent.FAILED):
            return None
        return Step(event=SessionEvent.FAILED, why=why)

    return decide
