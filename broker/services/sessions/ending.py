"""How sessions end: the endpoint is told and answers, the desktop is given back, once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from broker import limits
from broker.architectures import rules_of
from broker.domain.audit import Outcome
from broker.domain.guest_care import is_logged_off_first
from broker.domain.lifecycle import SESSION, SESSION_HOLDS_DESKTOP, DesktopEvent, SessionEvent
from broker.domain.model import (
    Architecture,
    Desktop,
    DesktopState,
    EndpointState,
    JobVerb,
    Pool,
    Session,
    SessionState,
)
from broker.ports import PageQuery, Release
from broker.services.decisions import decision
from broker.services.guest_reach import GuestReach
from broker.services.jobs import desktop_job
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.sessions.core import BROKER, Core, Decide, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guest:
    """What the agent in the desktop said: the person is `gone`, or why not."""

    gone: bool
    why: str


_SILENT: Final = _Guest(
    gone=False, why="the guest agent did not say in time that the person is logged off"
)


class Ending:
    def __init__(self, core: Core, reach: GuestReach) -> None:
        self._core = core
        self._reach = reach

    async def end(
        self, session: Session, event: SessionEvent, why: str, *, actor: str = BROKER
    ) -> Session:
        """Begin the end: whoever has to confirm it has ENDING_S for that; without one, at once.
        That is the agent in a desktop that is kept, which logs the person off, and else the
        endpoint. Where the session has moved on since it was read, it is left as it is."""
        return await self.begin(session.id, _if_still(session, event, why, self._core), actor)

    async def begin(
        self, session_id: str, decide: Decide, actor: str = BROKER, origin: Origin = NOWHERE
    ) -> Session:
        """End it by the step that `decide` makes, if it makes one."""
        core = self._core
        moved = await core.move(session_id, decide, actor=actor, origin=origin)
        session = moved.after
        if not moved.changed or session.state is not SessionState.ENDING:
            return session
        answers = await self._answers(session)
        if answers:
            await core.delivery.owe(session)
        if answers or await self.waits_for_guest(session):
            return session
        finish = _if_still(session, SessionEvent.FINISHED, session.why, core)
        return await self.finish_if(session.id, finish, actor, origin)

    async def _answers(self, session: Session) -> bool:
        """Whether there is an endpoint that can confirm."""
        if session.endpoint_id is None:
            return False
        if self._core.delivery.connected(session.endpoint_id):
            return True
        endpoint = await self._core.kit.store.endpoints.endpoint(session.endpoint_id)
        return endpoint is not None and endpoint.state is EndpointState.ONLINE

    async def waits_for_guest(self, session: Session) -> bool:
        """Whether its person has to be logged off in the desktop before that is free."""
        desktop = await self._desktop(session)
        return desktop is not None and await self._logs_off(session, desktop)

    async def _logs_off(self, session: Session, desktop: Desktop) -> bool:
        pool = await self._core.pool_of(session)
        if desktop.state is not DesktopState.ASSIGNED:
            return False
        if not is_logged_off_first(pool, desktop.owner_id):
            return False
        return await self._reach.agents(desktop) is not None

    async def logged_off(self, session: Session, *, error: str = "") -> Session:
        """The agent in the desktop of a session that ends has logged its person off, or (`error`)
        could not."""
        finish = _if_still(session, SessionEvent.FINISHED, session.why, self._core)
        return await self.finish_if(session.id, finish, guest=_Guest(gone=not error, why=error))

    async def _desktop(self, session: Session) -> Desktop | None:
        if session.desktop_id is None:
            return None
        return await self._core.kit.store.desktops.desktop(session.desktop_id)

    async def finish(
        self, session: Session, event: SessionEvent, why: str, *, actor: str = BROKER
    ) -> Session:
        """Move to a terminal state and give the desktop back, in one transaction."""
        return await self.finish_if(session.id, _if_still(session, event, why, self._core), actor)

    async def finish_if(
        self,
        session_id: str,
        decide: Decide,
        actor: str = BROKER,
        origin: Origin = NOWHERE,
        guest: _Guest = _SILENT,
    ) -> Session:
        """End it for good by the step that `decide` makes, if it makes one. A desktop that is kept
        and in which the person may be logged on still (`guest`) is started anew."""
        released: list[Release | None] = [None]

        async def releasing(session: Session) -> Step | None:
            step = await decide(session)
            if step is None:
                return None
            released[0] = await self._release(session, guest)
            return Step(event=step.event, why=step.why, release=released[0])

        moved = await self._core.move(session_id, releasing, actor=actor, origin=origin)
        if moved.changed:
            if released[0] is not None and released[0].event is DesktopEvent.RELEASED_RESTART:
                await self._tell_restart(moved.after, guest.why)
            await self._released(moved.after)
        return moved.after

    async def _tell_restart(self, session: Session, why: str) -> None:
        kit, text = self._core.kit, f"{why}; the desktop is started anew"
        about = {
            "session_id": session.id,
            "user_id": session.user_id,
            "desktop_id": session.desktop_id or "",
            "pool_id": session.pool_id,
        }
        entry = decision(kit, "guest.log_off", text, about=about)
        await kit.store.audit.append([replace(entry, outcome=Outcome.FAILED)])

    async def _released(self, session: Session) -> None:
        core, events = self._core, self._core.kit.events
        events.publish("desktop", id=session.desktop_id, pool_id=session.pool_id)
        events.publish("work", pool_id=session.pool_id)
        if session.desktop_id is not None and rules_of(session.architecture).runs_on_endpoint:
            desktop = await core.kit.store.desktops.desktop(session.desktop_id)
            if desktop is not None and desktop.state is DesktopState.RESETTING:
                core.delivery.owe_fresh(desktop)

    async def _release(self, session: Session, guest: _Guest) -> Release | None:
        desktop = await self._desktop(session)
        if desktop is None:
            return None
        if not guest.gone and await self._logs_off(session, desktop):
            return _restart(desktop, self._core.kit)
        return release_of(desktop, await self._core.pool_of(session), self._core.kit)

    async def desktop_lost(self, desktop_id: str, generation: int, why: str) -> None:
        """The desktop is gone under the session that has it in that generation: the person is told
        why, and may connect again at once. Whatever the pool does at log-off, the desktop fails:
        nothing is left to keep."""
        release = Release(event=DesktopEvent.FAILED, fresh=False, deadline_at=None)
        query = PageQuery(filters={"desktop_id": desktop_id, "live": "true"})
        for session in (await self._core.kit.store.sessions.sessions(query)).items:

            async def fail(now: Session) -> Step | None:
                if now.state not in SESSION_HOLDS_DESKTOP or now.generation != generation:
                    return None
                text = f"its desktop was lost: {why}"
                return Step(event=SessionEvent.FAILED, why=text, release=release)

            moved = await self._core.move(session.id, fail)
            if moved.changed:
                await self._released(moved.after)


def _if_still(read: Session, event: SessionEvent, why: str, core: Core) -> Decide:
    """The step, while the session is in the state it was read in, at the same place."""

    async def decide(session: Session) -> Step | None:
        if session.state is not read.state or session.endpoint_id != read.endpoint_id:
            return None
        if not SESSION.allows(session.state, event):
            return None
        deadline_at = core.now + limits.ENDING_S * 1000
        ending = SESSION.advance(session.state, event) is SessionState.ENDING
        return Step(event=event, why=why, deadline_at=deadline_at if ending else None)

    return decide


def _restart(desktop: Desktop, kit: Kit) -> Release:
    """Off and on again, as it is: what lies on its disk stays, and nobody is logged on."""
    job = desktop_job(kit, desktop, JobVerb.RESUME)
    return Release(
        event=DesktopEvent.RELEASED_RESTART,
        fresh=False,
        deadline_at=kit.clock.now() + limits.BOOT_S * 1000,
        job=None if job is None else replace(job, arguments={"restart": "true"}),
    )


def release_of(desktop: Desktop, pool: Pool, kit: Kit) -> Release:
    """What happens to this desktop when its session ends. A machine that is to be made fresh waits
    for its host's turn: a class that logs off at once does not start all at once."""
    event = rules_of(Architecture(desktop.architecture)).release_event(pool, desktop.owner_id)
    asleep = desktop.state is DesktopState.PARKED and desktop.owner_id is None
    if asleep and event is DesktopEvent.RELEASED_RESET:
        # made fresh it would run, on a host whose room others may have by now
        event = DesktopEvent.RELEASED_DELETE
    now = kit.clock.now()
    if event is DesktopEvent.RELEASED_KEEP:
        return Release(event=event, fresh=False, deadline_at=None)
    if event is DesktopEvent.RELEASED_DELETE:
        return Release(
            event=event,
            fresh=True,
            deadline_at=now + limits.DELETE_S * 1000,
            job=desktop_job(kit, desktop, JobVerb.DESTROY, fresh=True),
        )
    waits = desktop.host_id is not None
    return Release(
        event=event, fresh=True, deadline_at=None if waits else now + limits.RESET_S * 1000
    )
