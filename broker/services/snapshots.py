"""What administrators do with a desktop's snapshots: take, revert to, drop.

Only desktops that keep one person's work have them: what others hold is gone at log-off. Taking
and dropping one leaves the desktop, and a session that has it, where it is. A revert is not done
under a session; it is a new generation, as a reset is, so nothing that was asked of the desktop
before reaches it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from broker import limits
from broker.domain.errors import EngineError, NotFoundError, SnapshotRefusedError
from broker.domain.features import Feature
from broker.domain.keeping import keeps_work
from broker.domain.lifecycle import HOST_RUNS, SnapshotEvent
from broker.domain.model import Desktop, Host, Job, JobVerb
from broker.domain.snapshots import Snapshot, SnapshotState
from broker.ports import Engine
from broker.services.decisions import decision
from broker.services.desktop_care import about_desktop, free_desktop
from broker.services.engine_work import EngineWork
from broker.services.jobs import new_job
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools

_ASKED: Final = "an administrator asked for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Album:
    """A desktop's snapshots, oldest first. `refusal`: why it takes none at all; empty: it does."""

    desktop: Desktop
    snapshots: tuple[Snapshot, ...]
    refusal: str


class Snapshots:
    def __init__(
        self, kit: Kit, pools: Pools, works: EngineWork, engines: Callable[[str], Engine]
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._works = works
        self._engines = engines

    async def album(self, desktop_id: str) -> Album:
        """Raises NotFoundError."""
        desktop = await self._desktop(desktop_id)
        return Album(
            desktop=desktop,
            snapshots=await self._kit.store.snapshots.of_desktop(desktop.id),
            refusal=await self._refusal(desktop),
        )

    async def take(
        self, desktop_id: str, name: str, note: str, *, actor: str, origin: Origin = NOWHERE
    ) -> Snapshot:
        """Keep the desktop as it is: the job is on its way then.

        Raises:
            NotFoundError. SnapshotRefusedError: it takes none, or has SNAPSHOTS_PER_DESKTOP_MAX.
            AlreadyExistsError: it has one of that name. IllegalTransitionError: it is in the
            middle of something.
        """
        desktop = await self._desktop(desktop_id)
        await self._must_take(desktop)
        now = self._kit.clock.now()
        snapshot = Snapshot(
            id=self._kit.ids.new("snp"),
            desktop_id=desktop.id,
            generation=desktop.generation,
            name=name,
            note=note,
            state=SnapshotState.MAKING,
            why="",
            resources=desktop.resources,
            size_bytes=None,
            created_at=now,
            changed_at=now,
        )
        entry = decision(
            self._kit, "desktop.snapshot", f"{snapshot.name!r}: {_ASKED}",
            about=about_desktop(desktop), actor=actor, details=_details(snapshot), origin=origin,
        )  # fmt: skip
        job = self._job(desktop, JobVerb.SNAPSHOT, snapshot)
        most = limits.SNAPSHOTS_PER_DESKTOP_MAX
        await self._kit.store.snapshots.add(snapshot, job, entry, most=most)
        self._tell(desktop)
        return snapshot

    async def revert(
        self, desktop_id: str, snapshot_id: str, *, actor: str, origin: Origin = NOWHERE
    ) -> Desktop:
        """Back to what it was then: what was done in it since is gone.

        Raises:
            NotFoundError. SnapshotRefusedError: it takes none any more, the snapshot is not ready,
            or another one is under way. DesktopInUseError: a session has the desktop.
            IllegalTransitionError: the desktop is in the middle of something.
        """
        desktop = await free_desktop(self._kit, desktop_id)
        snapshot = await self._snapshot(desktop, snapshot_id)
        await self._must_take(desktop)
        now = self._kit.clock.now()
        entry = decision(
            self._kit, "desktop.revert", f"{snapshot.name!r}: {_ASKED}",
            about=about_desktop(desktop), actor=actor, details=_details(snapshot), origin=origin,
        )  # fmt: skip
        moved = await self._kit.store.snapshots.begin_revert(
            snapshot.id,
            desktop.generation,
            now,
            deadline_at=now + limits.RESET_S * 1000,
            note=f"reverted to the snapshot {snapshot.name!r}",
            job=self._job(desktop, JobVerb.REVERT, snapshot),
            entry=entry,
        )
        self._tell(moved)
        return moved

    async def drop(
        self, desktop_id: str, snapshot_id: str, *, actor: str, origin: Origin = NOWHERE
    ) -> Snapshot:
        """It goes, and what it takes is free; the desktop stays as it is. One that goes already is
        left to it.

        Raises:
            NotFoundError. IllegalTransitionError: it is still being made.
        """
        desktop = await self._desktop(desktop_id)
        snapshot = await self._snapshot(desktop, snapshot_id)
        entry = decision(
            self._kit, "desktop.drop_snapshot", f"{snapshot.name!r}: {_ASKED}",
            about=about_desktop(desktop), actor=actor, details=_details(snapshot), origin=origin,
        )  # fmt: skip
        if snapshot.state is SnapshotState.DROPPING:
            await self._kit.store.audit.append([entry])
            return snapshot
        dropped = await self._kit.store.snapshots.advance(
            snapshot.id,
            SnapshotEvent.DROP_ASKED,
            self._kit.clock.now(),
            job=self._job(desktop, JobVerb.DROP_SNAPSHOT, snapshot),
            entry=entry,
        )
        self._tell(desktop)
        return dropped

    # ------------------------------------------------------------------------ parts

    async def _desktop(self, desktop_id: str) -> Desktop:
        desktop = await self._kit.store.desktops.desktop(desktop_id)
        if desktop is None:
            raise NotFoundError(f"there is no desktop {desktop_id!r}")
        return desktop

    async def _snapshot(self, desktop: Desktop, snapshot_id: str) -> Snapshot:
        """By id, or by name."""
        for one in await self._kit.store.snapshots.of_desktop(desktop.id):
            if snapshot_id in {one.id, one.name}:
                return one
        raise NotFoundError(f"{desktop.name} has no snapshot {snapshot_id!r}")

    async def _must_take(self, desktop: Desktop) -> None:
        refusal = await self._refusal(desktop)
        if refusal:
            raise SnapshotRefusedError(refusal)

    async def _refusal(self, desktop: Desktop) -> str:
        if desktop.host_id is None:
            return f"{desktop.name} is its endpoint's own: only machines on hosts have snapshots"
        pool = await self._pools.find(desktop.pool_id)
        if not keeps_work(pool, desktop.owner_id):
            rule = "only a dedicated desktop that is kept at log-off, and somebody's, has snapshots"
            return f"{desktop.name} keeps nobody's work: {rule}"
        host = await self._host(desktop.host_id)
        if host is None or host.state not in HOST_RUNS:
            return f"the host of {desktop.name} does not run"
        try:
            can = self._engines(host.engine).features(host)
        except (KeyError, EngineError):
            return f"no engine here is called {host.engine!r}"
        return "" if Feature.SNAPSHOT in can else f"{host.name} keeps no snapshots"

    async def _host(self, host_id: str) -> Host | None:
        loads = await self._kit.store.directory.host_loads()
        return next((load.host for load in loads if load.host.id == host_id), None)

    def _job(self, desktop: Desktop, verb: JobVerb, snapshot: Snapshot) -> Job:
        job = new_job(self._kit, desktop, verb)
        return replace(job, arguments={"snapshot_id": snapshot.id})

    def _tell(self, desktop: Desktop) -> None:
        self._works.wake()
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)
        self._kit.events.publish("work", pool_id=desktop.pool_id)


def _details(snapshot: Snapshot) -> dict[str, object]:
    return {"snapshot_id": snapshot.id, "name": snapshot.name}
