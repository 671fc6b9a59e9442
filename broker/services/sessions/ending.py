"""How sessions end: the endpoint is told and answers, the desktop is given back, once."""

from __future__ import annotations

from broker import limits
from broker.architectures import rules_of
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
from broker.services.jobs import desktop_job
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.sessions.core import BROKER, Core, Decide, Step


class Ending:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def end(
        self, session: Session, event: SessionEvent, why: str, *, actor: str = BROKER
    ) -> Session:
        """Begin the end: the endpoint is told and has ENDING_S to confirm; without one, at once.
        Where the session has moved on since it was read, it is left as it is."""
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
        if await self._answers(session):
            await core.delivery.owe(session)
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

    async def finish(
        self, session: Session, event: SessionEvent, why: str, *, actor: str = BROKER
    ) -> Session:
        """Move to a terminal state and give the desktop back, in one transaction."""
        return await self.finish_if(session.id, _if_still(session, event, why, self._core), actor)

    async def finish_if(
        self, session_id: str, decide: Decide, actor: str = BROKER, origin: Origin = NOWHERE
    ) -> Session:
        """End it for good by the step that `decide` makes, if it makes one."""

        async def releasing(session: Session) -> Step | None:
            step = await decide(session)
            if step is None:
                return None
            release = await self._release(session)
            return Step(event=step.event, why=step.why, release=release)

        moved = await self._core.move(session_id, releasing, actor=actor, origin=origin)
        if moved.changed:
            await self._released(moved.after)
        return moved.after

    async def _released(self, session: Session) -> None:
        core, events = self._core, self._core.kit.events
        events.publish("desktop", id=session.desktop_id, pool_id=session.pool_id)
        events.publish("work", pool_id=session.pool_id)
        if session.desktop_id is not None and rules_of(session.architecture).runs_on_endpoint:
            desktop = await core.kit.store.desktops.desktop(session.desktop_id)
            if desktop is not None and desktop.state is DesktopState.RESETTING:
                core.delivery.owe_fresh(desktop)

    async def _release(self, session: Session) -> Release | None:
        if session.desktop_id is None:
            return None
        desktop = await self._core.kit.store.desktops.desktop(session.desktop_id)
        if desktop is None:
            return None
        return release_of(desktop, await self._core.pool_of(session), self._core.kit)

    async def desktop_lost(self, desktop_id: str, why: str) -> None:
        """The desktop is gone under its session: the person is told why, and may connect again
        at once. Whatever the pool does at log-off, the desktop fails: nothing is left to keep."""
        release = Release(event=DesktopEvent.FAILED, fresh=False, deadline_at=None)
        query = PageQuery(filters={"desktop_id": desktop_id, "live": "true"})
        for session in (await self._core.kit.store.sessions.sessions(query)).items:

            async def fail(now: Session) -> Step | None:
                if now.state not in SESSION_HOLDS_DESKTOP:
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
