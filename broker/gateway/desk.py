"""What the display relay asks of the services, and the switch that ends displays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from broker.architectures import rules_of
from broker.domain.errors import (
    BadTicketError,
    EngineError,
    NotFoundError,
    TriviumError,
    UnavailableError,
)
from broker.domain.lifecycle import SESSION_HOLDS_DESKTOP
from broker.domain.measures import DisplayMeasure
from broker.domain.model import Desktop, Session, SessionState, Traffic
from broker.domain.session_time import Heard
from broker.gateway.display import DisplayLeave
from broker.gateway.ends import DisplayEnd
from broker.limits import DISPLAYS_CHECK_S, DISPLAYS_CHECKED_TOGETHER
from broker.ports import Console, Displays, Engine, Hint
from broker.services.kit import Kit
from broker.services.measures import Measures
from broker.services.sessions import Sessions
from broker.services.showing import Showing
from broker.services.tickets import protocol_of

_log = logging.getLogger("trivium.display")

_WITH_DISPLAY = frozenset({SessionState.DELIVERING, SessionState.ACTIVE})
_WITHOUT_DISPLAY = frozenset(SessionState) - _WITH_DISPLAY
_SESSION_STAYS = frozenset({DisplayEnd.KILLED, DisplayEnd.BROKER_STOPS})
"""ends that say nothing about the session: it has ended or moved by itself, or its display is
opened at another broker"""


class Desk:
    """The DisplayDesk of `gateway/display.py`, over the services."""

    def __init__(
        self,
        kit: Kit,
        sessions: Sessions,
        engines: Callable[[str], Engine],
        showing: Showing,
        measures: Measures | None = None,
    ) -> None:
        self._kit = kit
        self._showing = showing
        self._measures = measures or Measures(kit)
        self._sessions = sessions
        self._engines = engines

    async def redeem(
        self, ticket: str, session_id: str | None, browser: str | None = None
    ) -> DisplayLeave:
        """Raises ResumingError, too: the desktop is suspended and was asked for now; whoever asks
        for the session again gets another ticket."""
        session, ticket_id = await self._sessions.redeem_display(ticket, session_id, browser)
        if rules_of(session.architecture).runs_on_endpoint:
            raise BadTicketError(f"a desktop under {session.architecture} has no display here")
        desktop = (
            await self._kit.store.desktops.desktop(session.desktop_id)
            if session.desktop_id is not None and session.state in SESSION_HOLDS_DESKTOP
            else None
        )
        if desktop is None:
            raise BadTicketError("the session has no desktop any more")
        self._sessions.check_runs(session, desktop)
        return DisplayLeave(
            session_id=session.id,
            desktop=desktop,
            endpoint_id=session.endpoint_id,
            browser=browser,
            display=await self._showing.named(ticket_id),
            protocol=protocol_of(ticket),
        )

    async def connect(self, leave: DisplayLeave) -> Console:
        engine = await self._engine(leave.desktop)
        return await engine.console(leave.desktop, leave.session_id, leave.protocol)

    async def _engine(self, desktop: Desktop) -> Engine:
        for load in await self._kit.store.directory.host_loads():
            if load.host.id == desktop.host_id:
                engine = self._engines(load.host.engine)
                # an engine knows the hosts that it was asked of: perhaps nothing was, here, yet
                engine.displays(load.host)
                return engine
        raise EngineError("the desktop's host is not known any more")

    async def opened(self, leave: DisplayLeave) -> None:
        """A session in a browser is live once its display is open, which is the session's own from
        then on; an endpoint says so itself, after its own steps."""
        session = await self._kit.store.sessions.session(leave.session_id)
        if session is None:
            raise NotFoundError(f"there is no session {leave.session_id!r}")
        if session.endpoint_id != leave.endpoint_id:
            raise BadTicketError("the session has moved to another place")
        if session.endpoint_id is not None and session.state in _WITHOUT_DISPLAY:
            raise BadTicketError("the session has ended, or left its place")
        if session.endpoint_id is None:
            live = await self._sessions.shown(
                session, browser=leave.browser, display=leave.display or ""
            )
            if live is None or live.display != leave.display:
                raise BadTicketError("the session has moved to another place")

    async def closed(self, leave: DisplayLeave, why: DisplayEnd) -> None:
        if leave.endpoint_id is not None or why in _SESSION_STAYS:
            return
        session = await self._kit.store.sessions.session(leave.session_id)
        if session is not None and session.endpoint_id is None:
            await self._sessions.lost(session, "its display was closed", display=leave.display)

    def measured(self, measures: Sequence[DisplayMeasure]) -> None:
        self._measures.note(measures)

    def over(self, why: DisplayEnd, rest: DisplayMeasure) -> None:
        self._measures.over(why, rest)

    def inputs(self, last_of: Mapping[str, Heard]) -> None:
        for session_id, heard in last_of.items():
            self._sessions.activity.heard(session_id, heard)

    async def traffic(self, bytes_of: Mapping[str, int]) -> Mapping[str, int]:
        """Each session for itself: one that cannot be written must not count the others twice.
        Once the database is found away the others are not tried."""
        left = dict(bytes_of)
        for session_id, size in bytes_of.items():
            try:
                await self._kit.store.sessions.note_phases(session_id, [], Traffic(display=size))
            except UnavailableError:
                break
            except TriviumError as error:
                _log.warning("%d display bytes of %s are lost: %s", size, session_id, error.code)
            del left[session_id]
        return left


async def end_displays(kit: Kit, displays: Displays) -> None:
    """End the display of every session that ends, moves or is taken away, in whichever process.

    Hints may be lost without a word, so what is open here is held against the database every
    DISPLAYS_CHECK_S, too.
    """
    subscription = kit.events.subscribe("session")
    doubts = _Doubts(kit, displays)
    try:
        async with asyncio.TaskGroup() as tasks:
            checks = (
                tasks.create_task(_check_for_ever(kit, displays), name="display check"),
                tasks.create_task(doubts.run(), name="display doubts"),
            )
            async for hint in subscription:
                if hint.topic == "missed":
                    doubts.add(displays.open_sessions())
                elif hint.data.get("state") in _WITHOUT_DISPLAY:
                    displays.kill(str(hint.data.get("id")))
                else:
                    doubts.add(_doubtful(displays, hint))
            for check in checks:
                check.cancel()
    finally:
        subscription.close()


def _doubtful(displays: Displays, hint: Hint) -> tuple[str, ...]:
    """The hint's session, if its display here seems to have moved away. The hint may be older than
    the display: only the database knows."""
    session_id, data = str(hint.data.get("id")), hint.data
    moved = "endpoint_id" in data and displays.elsewhere(
        session_id, data["endpoint_id"], data.get("display")
    )
    return (session_id,) if moved else ()


class _Doubts:
    """Displays to be held against the database at once, beside the hints: one that is slow to
    answer keeps no other display open that a later hint ends."""

    def __init__(self, kit: Kit, displays: Displays) -> None:
        self._kit = kit
        self._displays = displays
        self._of: set[str] = set()
        self._came = asyncio.Event()

    def add(self, session_ids: Iterable[str]) -> None:
        self._of.update(session_ids)
        if self._of:
            self._came.set()

    async def run(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            asked = sorted(self._of)
            self._of.clear()
            await _check_all(self._kit, self._displays, asked)


async def _check_for_ever(kit: Kit, displays: Displays) -> None:
    while True:
        await kit.clock.sleep(DISPLAYS_CHECK_S)
        await _check_all(kit, displays, displays.open_sessions())


async def _check_all(kit: Kit, displays: Displays, session_ids: Sequence[str]) -> None:
    for first in range(0, len(session_ids), DISPLAYS_CHECKED_TOGETHER):
        await _check(kit, displays, session_ids[first : first + DISPLAYS_CHECKED_TOGETHER])


async def _check(kit: Kit, displays: Displays, session_ids: Sequence[str]) -> None:
    """Ask the database whether the displays that are open here still are the sessions' own. While
    it is away what is open stays open."""
    try:
        found = {one.id: one for one in await kit.store.sessions.some(session_ids)}
        moved = [one.id for one in found.values() if _elsewhere(displays, one)]
        if moved:
            # read again: a display may have been opened after the answer was on its way
            found |= {one.id: one for one in await kit.store.sessions.some(moved)}
    except TriviumError as error:
        _log.warning("%d open displays could not be checked: %s", len(session_ids), error.code)
        return
    for session_id in session_ids:
        session = found.get(session_id)
        if session is None or session.state in _WITHOUT_DISPLAY:
            displays.kill(session_id)
        elif _elsewhere(displays, session):
            displays.kill(session_id, code=DisplayEnd.TAKEN_OVER)


def _elsewhere(displays: Displays, session: Session) -> bool:
    return displays.elsewhere(session.id, session.endpoint_id, session.display)
