"""Suspends the desktop of a person who is away, and sees to it that it runs for one who is back.

Only asks: the engine's work is a job stored with the desktop's new state, so a crash loses
nothing, and asking again is refused by the desktop's lifecycle. To resume it is the planner's
work: a desktop takes its host's memory again, which others may have got meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker import limits
from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, Host, HostState, JobVerb
from broker.domain.snapshots import under_way
from broker.ports import Engine, Feature
from broker.services.jobs import desktop_job
from broker.services.kit import Kit

_log = logging.getLogger("trivium.parking")

RUNS = frozenset({HostState.UP, HostState.DRAINING, HostState.MAINTENANCE})
"""states of a host whose own machines may run"""
AWAY = frozenset({DesktopState.PARKING, DesktopState.PARKED})
"""states in which a desktop rests while a session still has it"""


class Parking:
    def __init__(self, kit: Kit, engines: Callable[[str], Engine]) -> None:
        self._kit = kit
        self._engines = engines

    async def cannot_suspend(self, desktop: Desktop) -> str:
        """Why this desktop cannot be suspended, in words; "" where it can."""
        host = await self._host(desktop)
        if host is None:
            return "it runs on its endpoint" if desktop.host_id is None else "its host is gone"
        if Feature.SUSPEND not in self._engines(host.engine).features(host):
            return f"{host.name} cannot suspend machines"
        return ""

    async def suspend(self, desktop: Desktop) -> bool:
        """Ask for it; False when the desktop is not in use any more, or changes right now: also
        when a snapshot of it is under way, which may take longer than a suspend has."""
        kit, now = self._kit, self._kit.clock.now()
        if under_way(await kit.store.snapshots.of_desktop(desktop.id), desktop):
            return False
        try:
            await kit.store.desktops.advance(
                desktop.id,
                DesktopEvent.SUSPEND_ASKED,
                now,
                generation=desktop.generation,
                deadline_at=now + limits.SUSPEND_S * 1000,
                job=desktop_job(kit, desktop, JobVerb.SUSPEND),
            )
        except IllegalTransitionError as error:
            _log.debug("%s is not suspended: %s", desktop.name, error.detail)
            return False
        kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)
        self._hint(desktop)
        return True

    def awake(self, desktop: Desktop) -> bool:
        """Whether a desktop whose person is back runs. One that rests is resumed by the planner,
        which knows where there is room: it is told to look."""
        if desktop.state is DesktopState.PARKED:
            self._hint(desktop)
        return desktop.state not in AWAY and desktop.state is not DesktopState.UNPARKING

    def _hint(self, desktop: Desktop) -> None:
        self._kit.events.publish("work", pool_id=desktop.pool_id)

    async def _host(self, desktop: Desktop) -> Host | None:
        loads = await self._kit.store.directory.host_loads()
        return next((load.host for load in loads if load.host.id == desktop.host_id), None)
