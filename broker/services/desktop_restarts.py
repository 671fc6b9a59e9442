"""Switching one desktop's machine off and on again, its disk kept, also under its session.

It is the restart that a kept desktop gets whose person could not be logged off: a resume which
switches the machine off first. A session stays the desktop's and waits for it as for one that is
resumed; only the report of that start brings it back. The machine is switched off as it is: nobody
is logged off first.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.errors import (
    ConflictError,
    IllegalTransitionError,
    NotFoundError,
    TriviumError,
)
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, Host, JobVerb, Session
from broker.domain.restarting import refusal
from broker.ports import PageQuery
from broker.services.decisions import decision
from broker.services.desktop_care import about_desktop
from broker.services.engine_work import EngineWork
from broker.services.host_silence import HostSilence
from broker.services.jobs import new_job
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.sessions import Sessions

_log = logging.getLogger("trivium.desktops")

_TOLD: Final = "Your desktop was restarted by the staff: it is back in a moment."


class DesktopRestarts:
    def __init__(
        self, kit: Kit, works: EngineWork, sessions: Sessions, silences: HostSilence
    ) -> None:
        self._kit = kit
        self._works = works
        self._sessions = sessions
        self._silences = silences

    async def refusal(self, desktop: Desktop) -> str:
        """Why this machine is not restarted now, in words; empty: it is."""
        if desktop.host_id is None:
            return f"{desktop.name} is its endpoint's own: restart the endpoint"
        host = await self._host(desktop.host_id)
        snapshots = await self._kit.store.snapshots.of_desktop(desktop.id)
        silent = desktop.host_id in await self._silences.known()
        return refusal(desktop, host, snapshots, silent=silent)

    async def restart(self, desktop_id: str, *, actor: str, origin: Origin = NOWHERE) -> Desktop:
        """Its machine is on its way off and on again; it has BOOT_S to be ready.

        Raises:
            NotFoundError. ConflictError: it is an endpoint's own. IllegalTransitionError: it does
            not run, is in the middle of something, or its host does not run or answer.
        """
        kit, now = self._kit, self._kit.clock.now()
        desktop = await kit.store.desktops.desktop(desktop_id)
        if desktop is None:
            raise NotFoundError(f"there is no desktop {desktop_id!r}")
        why_not = await self.refusal(desktop)
        if desktop.host_id is None:
            raise ConflictError(why_not)
        if why_not:
            raise IllegalTransitionError(why_not)
        session = await self._session(desktop)
        entry = decision(
            kit, "desktop.restart", "somebody of the staff asked for it",
            about=about_desktop(desktop) | _about_session(session), actor=actor, origin=origin,
        )  # fmt: skip
        moved = await kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.RESTART_ASKED,
            now,
            generation=desktop.generation,
            deadline_at=now + limits.BOOT_S * 1000,
            note="restarted by the staff",
            job=replace(new_job(kit, desktop, JobVerb.RESUME), arguments={"restart": "true"}),
            entry=entry,
        )
        self._works.wake()
        kit.events.publish("desktop", id=moved.id, pool_id=moved.pool_id)
        kit.events.publish("work", pool_id=moved.pool_id)
        if session is not None:
            await self._tell(session)
        return moved

    async def _tell(self, session: Session) -> None:
        try:
            await self._sessions.tell(session.id, _TOLD)
        except TriviumError as error:
            # it has ended meanwhile, or the store is away: the order stands
            _log.debug("%s was not told of the restart: %s", session.id, error.detail)

    async def _session(self, desktop: Desktop) -> Session | None:
        query = PageQuery(limit=1, filters={"desktop_id": desktop.id, "live": "true"})
        found = (await self._kit.store.sessions.sessions(query)).items
        return found[0] if found else None

    async def _host(self, host_id: str) -> Host | None:
        loads = await self._kit.store.directory.host_loads()
        return next((load.host for load in loads if load.host.id == host_id), None)


def _about_session(session: Session | None) -> dict[str, str]:
    return {} if session is None else {"session_id": session.id, "user_id": session.user_id}
