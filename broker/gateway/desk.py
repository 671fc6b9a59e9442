"""What the display relay asks of the services, and the switch that ends displays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from broker.architectures import rules_of
from broker.domain.errors import BadTicketError, EngineError, NotFoundError, TriviumError
from broker.domain.lifecycle import SESSION_HOLDS_DESKTOP
from broker.domain.model import Desktop, SessionState, Traffic
from broker.gateway.display import DisplayEnd, DisplayLeave
from broker.ports import Console, Displays, Engine
from broker.services.kit import Kit
from broker.services.sessions import Sessions

_log = logging.getLogger("trivium.display")

_WITHOUT_DISPLAY = frozenset(SessionState) - {SessionState.DELIVERING, SessionState.ACTIVE}


class Desk:
    """The DisplayDesk of `gateway/display.py`, over the services."""

    def __init__(self, kit: Kit, sessions: Sessions, engines: Callable[[str], Engine]) -> None:
        self._kit = kit
        self._sessions = sessions
        self._engines = engines

    async def redeem(self, ticket: str, session_id: str | None) -> DisplayLeave:
        session = await self._sessions.redeem_display(ticket, session_id)
        if rules_of(session.architecture).runs_on_endpoint:
            raise BadTicketError(f"a desktop under {session.architecture} has no display here")
        desktop = (
            await self._kit.store.desktops.desktop(session.desktop_id)
            if session.desktop_id is not None and session.state in SESSION_HOLDS_DESKTOP
            else None
        )
        if desktop is None:
            raise BadTicketError("the session has no desktop any more")
        return DisplayLeave(session_id=session.id, desktop=desktop)

    async def connect(self, leave: DisplayLeave) -> Console:
        return await (await self._engine(leave.desktop)).console(leave.desktop)

    async def _engine(self, desktop: Desktop) -> Engine:
        for load in await self._kit.store.directory.host_loads():
            if load.host.id == desktop.host_id:
                return self._engines(load.host.engine)
        raise EngineError("the desktop's host is not known any more")

    async def opened(self, leave: DisplayLeave) -> None:
        """A session without an endpoint is live once its display is open; an endpoint says so
        itself, after its own steps."""
        session = await self._kit.store.sessions.session(leave.session_id)
        if session is None:
            raise NotFoundError(f"there is no session {leave.session_id!r}")
        if session.endpoint_id is None:
            await self._sessions.live(session.id, None, session.generation)

    async def closed(self, leave: DisplayLeave, why: DisplayEnd) -> None:
        session = await self._kit.store.sessions.session(leave.session_id)
        if session is not None and session.endpoint_id is None and why is not DisplayEnd.KILLED:
            await self._sessions.lost(session, "its display was closed")

    async def traffic(self, bytes_of: Mapping[str, int]) -> None:
        """Each session for itself: one that cannot be written must not count the others twice."""
        for session_id, size in bytes_of.items():
            try:
                await self._kit.store.sessions.note_phases(session_id, [], Traffic(display=size))
            except TriviumError as error:
                _log.warning("%d display bytes of %s are lost: %s", size, session_id, error.code)


async def end_displays(kit: Kit, displays: Displays) -> None:
    """Kill the display of every session that ends or is taken away, in whichever process."""
    subscription = kit.events.subscribe("session")
    try:
        async for hint in subscription:
            if hint.topic == "missed":
                await _check_all(kit, displays)
            elif hint.data.get("state") in _WITHOUT_DISPLAY:
                displays.kill(str(hint.data["id"]))
    finally:
        subscription.close()


async def _check_all(kit: Kit, displays: Displays) -> None:
    """Hints were lost: ask the database about every display that is open here."""
    for session_id in displays.open_sessions():
        try:
            session = await kit.store.sessions.session(session_id)
        except TriviumError as error:
            _log.warning("the display of %s could not be checked: %s", session_id, error.code)
            continue
        if session is None or session.state in _WITHOUT_DISPLAY:
            displays.kill(session_id)
