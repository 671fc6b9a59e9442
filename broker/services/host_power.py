"""Switching hosts on and off, as the planner or an administrator asks; jobs carry it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker import limits
from broker.domain.errors import ConflictError, UnsupportedError
from broker.domain.features import Feature
from broker.domain.lifecycle import HostEvent
from broker.domain.model import DesktopState, Host, Job, JobState, JobVerb
from broker.ports import Engine
from broker.services.decisions import BROKER, asked, decision
from broker.services.engine_work import EngineWork
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.site import Site

_EVENT: Final = {True: HostEvent.POWER_ON_ASKED, False: HostEvent.POWER_OFF_ASKED}
RUNS_STATES: Final = frozenset(
    {
        DesktopState.CREATING,
        DesktopState.STARTING,
        DesktopState.READY,
        DesktopState.ASSIGNED,
        DesktopState.RESETTING,
        DesktopState.SUSPENDING,
        DesktopState.PARKING,
        DesktopState.RESUMING,
        DesktopState.UNPARKING,
    }
)
"""states of a desktop whose machine runs, or is made to"""
_NAMED_MAX: Final = 3
"""machines that a refusal names"""
_VERB: Final = {True: JobVerb.POWER_ON, False: JobVerb.POWER_OFF}


def host_job(kit: Kit, host: Host, verb: JobVerb) -> Job:
    """A job for this host, due at once."""
    now = kit.clock.now()
    return Job(
        id=kit.ids.new("job"),
        verb=verb,
        desktop_id="",
        host_id=host.id,
        generation=0,
        state=JobState.QUEUED,
        attempts=0,
        deadline_at=None,
        not_before_at=now,
        error="",
        created_at=now,
        finished_at=None,
    )


class HostPower:
    def __init__(
        self, kit: Kit, works: EngineWork, engines: Callable[[str], Engine], site: Site
    ) -> None:
        self._kit = kit
        self._works = works
        self._engines = engines
        self._site = site

    async def ask(self, ref: str, *, on: bool, actor: str, origin: Origin = NOWHERE) -> Host:
        """An administrator switches a host, by id or name. It has POWER_S.

        Raises:
            NotFoundError. UnsupportedError: its engine cannot switch it. ConflictError: machines
            run on it, which would go off with it. IllegalTransitionError: its state does not
            allow this.
        """
        host = await self._site.host(ref)
        if not self.can(host):
            raise UnsupportedError(f"{host.name} cannot be switched on or off from here")
        if not on:
            await self._check_empty(host)
        why = f"switched {'on' if on else 'off'} by an administrator"
        return await self.switch(host, on=on, why=why, actor=actor, origin=origin)

    def can(self, host: Host) -> bool:
        """Whether its engine can switch it."""
        try:
            return Feature.HOST_POWER in self._engines(host.engine).features(host)
        except KeyError:
            return False

    async def _check_empty(self, host: Host) -> None:
        there = await self._kit.store.desktops.on_host(host.id, RUNS_STATES, _NAMED_MAX)
        if there:
            names = ", ".join(one.name for one in there)
            raise ConflictError(f"machines run on {host.name} ({names}); put it under maintenance")

    async def switch(
        self, host: Host, *, on: bool, why: str, actor: str = BROKER, origin: Origin = NOWHERE
    ) -> Host:
        """Begin to switch it; it has POWER_S.

        Raises:
            NotFoundError. IllegalTransitionError: it is not in a state that allows this.
        """
        kit, verb, now = self._kit, _VERB[on], self._kit.clock.now()
        entry = decision(
            kit,
            f"host.{verb}",
            why,
            about={"host_id": host.id},
            actor=actor,
            details={"before": host.state.value},
            origin=origin,
        )
        async with asked(kit, entry):
            moved = await kit.store.directory.move_host(
                host.id,
                _EVENT[on],
                now,
                deadline_at=now + limits.POWER_S * 1000,
                note=why,
                job=host_job(kit, host, verb),
            )
        self._works.wake()
        kit.events.publish("host", id=host.id)
        return moved

    async def expire(self, host: Host) -> Host:
        """It did not go on or off in time: down, until an administrator opens it.

        Raises:
            IllegalTransitionError: it is not on its way any more.
        """
        kit = self._kit
        why = f"{host.state} took longer than {limits.POWER_S} s"
        entry = decision(
            kit,
            "host.expire",
            why,
            about={"host_id": host.id},
            details={"before": host.state.value},
        )
        async with asked(kit, entry):
            moved = await kit.store.directory.move_host(
                host.id, HostEvent.DEADLINE_PASSED, kit.clock.now(), note=why
            )
        kit.events.publish("host", id=host.id)
        return moved
