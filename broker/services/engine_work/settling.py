"""Settles what machines report, and what is lost.

A desktop is ready only by a positive report of its current generation; one that was resumed only
by a report that answers its resume, for a late report of its boot says the same of the same
generation.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from broker import limits
from broker.domain.errors import IllegalTransitionError, NotFoundError, TriviumError
from broker.domain.lifecycle import DESKTOP, SESSION, DesktopEvent, SessionEvent
from broker.domain.model import Desktop, DesktopState, Job, JobVerb, SessionState
from broker.ports import Engine, MachineReport, PageQuery
from broker.services.decisions import decision
from broker.services.engine_work.hooks import Hooks
from broker.services.kit import Kit
from broker.services.sessions import Sessions
from broker.services.tally import Tally

_log = logging.getLogger("trivium.engines")

D = DesktopState
_MAKING: Final = frozenset({D.CREATING, D.STARTING})
_RESUMING: Final = frozenset({D.RESUMING, D.UNPARKING})
_UNDER_SESSION: Final = frozenset(DESKTOP.sources(DesktopEvent.RELEASED_RESET))


def _about(desktop: Desktop) -> dict[str, str]:
    return {
        "desktop_id": desktop.id,
        "pool_id": desktop.pool_id,
        "host_id": desktop.host_id or "",
        "endpoint_id": desktop.endpoint_id or "",
    }


class Settling:
    def __init__(self, kit: Kit, sessions: Sessions, tally: Tally, hooks: Hooks) -> None:
        self._kit = kit
        self._sessions = sessions
        self._tally = tally
        self._hooks = hooks

    # ------------------------------------------------------------------ reports

    async def take_reports(self, engine: Engine) -> None:
        """Settle what this engine's machines report, until it closes."""
        async for report in engine.reports():
            try:
                await self.machine_reported(report)
            except (IllegalTransitionError, NotFoundError) as error:
                _log.debug("report of %s ignored: %s", report.desktop_id, error.detail)
            except TriviumError as error:
                # the desktop's deadline will ask again
                _log.warning("report of %s was lost: %s", report.desktop_id, error.detail)
            except Exception as error:  # noqa: BLE001 - reports of the others go on
                _log.exception("the report of %s could not be settled", report.desktop_id)
                self._hooks.on_bug(error)

    async def machine_reported(self, report: MachineReport) -> None:
        """A machine reports ready (or that it failed). Only its current generation counts; and not
        that it stopped before it was resumed, or to be started anew: one that then does not come up
        is late."""
        desktop = await self._kit.store.desktops.desktop(report.desktop_id)
        if desktop is None or desktop.generation != report.generation:
            return
        if report.ready:
            await self._ready(desktop, report)
        elif report.operation_id or desktop.state not in _RESUMING:
            await self.lost(desktop, report.detail)
            if desktop.state in _MAKING:
                await self.tell_outcome(desktop, report.detail, ok=False)

    async def endpoint_fresh(self, endpoint_id: str, desktop_id: str, generation: int) -> None:
        """A fat endpoint's own desktop is back at its image."""
        desktop = await self._kit.store.desktops.desktop(desktop_id)
        if desktop is None or desktop.endpoint_id != endpoint_id:
            return
        if desktop.generation == generation and desktop.state is DesktopState.RESETTING:
            report = MachineReport(desktop_id=desktop_id, generation=generation, ready=True)
            await self._ready(desktop, report)

    async def _ready(self, desktop: Desktop, report: MachineReport) -> None:
        store, clock = self._kit.store, self._kit.clock
        if desktop.state in _RESUMING and not await self._answers_resume(desktop, report):
            return
        if desktop.state is DesktopState.CREATING:
            # who speaks exists: the process that asked for it may be dead, or not told yet, or
            # is writing it down just now
            with suppress(IllegalTransitionError):
                await store.desktops.advance(
                    desktop.id,
                    DesktopEvent.CREATED,
                    clock.now(),
                    generation=report.generation,
                    deadline_at=clock.now() + limits.BOOT_S * 1000,
                )
        moved = await store.desktops.advance(
            desktop.id,
            DesktopEvent.REPORTED_READY,
            clock.now(),
            generation=report.generation,
            note="",
        )
        what = "resume" if desktop.state in _RESUMING else "boot"
        self._tally.took(what, moved.architecture, (clock.now() - desktop.changed_at) / 1000)
        self.tell(moved)
        self._kit.events.publish("work", pool_id=moved.pool_id)
        if desktop.state in _MAKING:
            await self.tell_outcome(moved, "", ok=True)
        self._hooks.on_ready()

    async def _answers_resume(self, desktop: Desktop, report: MachineReport) -> bool:
        """Whether it came up after it was resumed; an engine that cannot tell is believed."""
        if not report.operation_id:
            return True
        return await self._newest(desktop.id, JobVerb.RESUME) == report.operation_id

    async def newest(self, job: Job) -> str:
        """The id of the newest job of this job's verb for its desktop."""
        return await self._newest(job.desktop_id, job.verb) or job.id

    async def _newest(self, desktop_id: str, verb: JobVerb) -> str:
        query = PageQuery(limit=1, filters={"desktop_id": desktop_id, "verb": verb.value})
        page = await self._kit.store.jobs.jobs(query)
        return page.items[0].id if page.items else ""

    # ------------------------------------------------------------------ lost

    async def lost(self, desktop: Desktop, why: str) -> None:
        """Its machine is gone or cannot be had: the desktop fails, and is cleared away later;
        the session that has it fails with it, in the same transaction. One that is of another
        generation by now, or in another state, is none of whoever read it then: it may have
        another machine, and another person.

        Raises:
            IllegalTransitionError: it has moved on, or there is nothing to lose in its state.
        """
        if await self._is_past(desktop):
            raise IllegalTransitionError(f"{desktop.name} has moved on")
        if desktop.state in _UNDER_SESSION:
            await self._sessions.desktop_lost(desktop.id, desktop.generation, why)
            now = await self._kit.store.desktops.desktop(desktop.id)
            if now is None or now.generation != desktop.generation:
                return
            desktop = now
        if desktop.state is not DesktopState.FAILED:
            await self._kit.store.desktops.advance(
                desktop.id,
                DesktopEvent.FAILED,
                self._kit.clock.now(),
                generation=desktop.generation,
                note=why,
                entry=decision(self._kit, "desktop.fail", why, about=_about(desktop)),
            )
            # somebody may have been given it between the look and the move
            await self._sessions.desktop_lost(desktop.id, desktop.generation, why)
        self.tell(desktop)
        self._kit.events.publish("work", pool_id=desktop.pool_id)
        self._hooks.on_ready()

    async def _is_past(self, desktop: Desktop) -> bool:
        """Whether this row was read too long ago. One that was given to somebody meanwhile is on
        the same machine."""
        now = await self._kit.store.desktops.desktop(desktop.id)
        if now is None or now.generation != desktop.generation:
            return True
        given = (desktop.state, now.state) == (D.READY, D.ASSIGNED)
        return now.state is not desktop.state and not given

    async def not_suspended(self, desktop: Desktop, why: str) -> None:
        """It was to rest while its person is away, and could not be put to rest: the person is
        logged off and told why, and the desktop goes the way of its pool at log-off.

        Raises:
            IllegalTransitionError: it has moved on.
        """
        store = self._kit.store
        text = f"logged off while away: {desktop.name} could not be suspended: {why}"
        query = PageQuery(filters={"desktop_id": desktop.id, "live": "true"})
        for session in (await store.sessions.sessions(query)).items:
            if session.state is SessionState.ENDING:
                return
            if SESSION.allows(session.state, SessionEvent.LOG_OFF):
                ended = await self._sessions.end(session, SessionEvent.LOG_OFF, text)
                if ended.state is SessionState.ENDING:
                    return
        now = await store.desktops.desktop(desktop.id)
        if now is not None and now.state is desktop.state and now.generation == desktop.generation:
            await self.lost(now, why)

    # ------------------------------------------------------------------ telling

    async def tell_outcome(self, desktop: Desktop, detail: str, *, ok: bool) -> None:
        try:
            await self._hooks.on_outcome(desktop.pool_id, desktop.host_id or "", ok, detail)
        except TriviumError as error:
            # a circuit breaker that misses one outcome opens or closes at the next
            _log.warning("an outcome of %s was not counted: %s", desktop.name, error.detail)

    def tell(self, desktop: Desktop) -> None:
        """Every process hears it: delivery waits for desktops that are being resumed."""
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)
