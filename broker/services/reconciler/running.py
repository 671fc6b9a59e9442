"""Acting on machines that exist: suspend, resume, resize, migrate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from broker import limits
from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import DesktopEvent
from broker.domain.model import Desktop, DesktopState, JobVerb, Resources, WorkLease
from broker.domain.planning.commands import (
    MigrateDesktop,
    ResizeDesktop,
    ResumeDesktop,
    SuspendDesktop,
)
from broker.domain.snapshots import Snapshot, under_way
from broker.services.decisions import BROKER, asked, decision
from broker.services.engine_work import EngineWork
from broker.services.jobs import desktop_job
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.reconciler.machines import about

_RESIZED: Final = ("cpus", "memory_mib", "disk_mib", "disk_iops", "network_mbit")


class Running:
    def __init__(self, kit: Kit, works: EngineWork) -> None:
        self._kit = kit
        self._works = works

    async def suspend(self, command: SuspendDesktop) -> None:
        """Not under a snapshot, which may take longer than a suspend has.

        Raises:
            IllegalTransitionError: one is under way; or the desktop has moved on.
        """
        busy = await self._under_way(command.desktop)
        if busy is not None:
            raise IllegalTransitionError(f"the snapshot {busy.name!r} is {busy.state}")
        await self._advance(
            command.desktop, DesktopEvent.SUSPEND_ASKED, JobVerb.SUSPEND, command.why
        )

    async def resume(self, command: ResumeDesktop) -> None:
        """One that failed may be off, and has to boot. One of which a snapshot is under way has
        to wait for that first."""
        failed = command.desktop.state is DesktopState.FAILED
        kept = command.desktop.owner_id is not None
        busy = await self._under_way(command.desktop) if kept else None
        takes_s = limits.BOOT_S if failed else limits.SUSPEND_S
        await self._advance(
            command.desktop,
            DesktopEvent.RESUME_ASKED,
            JobVerb.RESUME,
            command.why,
            within_s=takes_s if busy is None else takes_s + limits.SNAPSHOT_S,
            arguments={"restart": "true"} if command.restart else None,
        )

    async def _under_way(self, desktop: Desktop) -> Snapshot | None:
        return under_way(await self._kit.store.snapshots.of_desktop(desktop.id), desktop)

    async def _advance(
        self,
        desktop: Desktop,
        event: DesktopEvent,
        verb: JobVerb,
        why: str,
        *,
        within_s: int = limits.SUSPEND_S,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        kit, now = self._kit, self._kit.clock.now()
        job = desktop_job(kit, desktop, verb)
        await kit.store.desktops.advance(
            desktop.id,
            event,
            now,
            generation=desktop.generation,
            deadline_at=now + within_s * 1000,
            note=why,
            job=None if job is None else replace(job, arguments=arguments or {}),
            entry=decision(kit, f"desktop.{verb}", why, about=about(desktop)),
        )
        self._works.wake()
        self._tell(desktop)

    async def resize(self, command: ResizeDesktop, lease: WorkLease) -> None:
        """Only a job: what the desktop takes changes when the engine has done it.

        Raises:
            ConflictError: the lease is another's by now.
        """
        kit, desktop = self._kit, command.desktop
        job = desktop_job(kit, desktop, JobVerb.RESIZE)
        if job is None:
            return
        entry = decision(
            kit,
            "desktop.resize",
            command.why,
            about=about(desktop),
            details={"from": _plain(desktop.resources), "to": _plain(command.to)},
        )
        await kit.store.desktops.add(
            (), [replace(job, arguments=_plain(command.to))], entries=[entry], lease=lease
        )
        self._works.wake()

    async def migrate(
        self,
        command: MigrateDesktop,
        *,
        action: str = "desktop.migrate",
        actor: str = BROKER,
        origin: Origin = NOWHERE,
    ) -> None:
        """Raises IllegalTransitionError: the desktop has moved on."""
        kit, desktop, to_host_id = self._kit, command.desktop, command.to_host_id
        job = desktop_job(kit, desktop, JobVerb.MIGRATE)
        if job is None:
            return
        entry = decision(
            kit,
            action,
            command.why,
            about=about(desktop),
            actor=actor,
            reasons=command.reasons,
            details={"to_host_id": to_host_id},
            origin=origin,
        )
        async with asked(kit, entry):
            await kit.store.desktops.begin_move(
                desktop.id,
                to_host_id,
                desktop.generation,
                replace(job, arguments={"to_host_id": to_host_id}),
            )
        self._works.wake()
        self._tell(desktop)

    def _tell(self, desktop: Desktop) -> None:
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)


def _plain(resources: Resources) -> dict[str, str]:
    """As a job's arguments are: texts by field."""
    return {name: str(getattr(resources, name)) for name in _RESIZED}
