"""Switching hosts on and off, as the planner or an administrator asks; jobs carry it out."""

from __future__ import annotations

from typing import Final

from broker import limits
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Host, Job, JobState, JobVerb
from broker.services.decisions import BROKER, asked, decision
from broker.services.engine_work import EngineWork
from broker.services.kit import Kit

_EVENT: Final = {True: HostEvent.POWER_ON_ASKED, False: HostEvent.POWER_OFF_ASKED}
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
    def __init__(self, kit: Kit, works: EngineWork) -> None:
        self._kit = kit
        self._works = works

    async def switch(self, host: Host, *, on: bool, why: str, actor: str = BROKER) -> Host:
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
