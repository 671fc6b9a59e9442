"""Acting on machines that come and go: make, clear, freshen, expire, and telling of no room."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from broker import limits
from broker.domain.errors import IllegalTransitionError
from broker.domain.lifecycle import DESKTOP, DesktopEvent
from broker.domain.model import Desktop, DesktopState, JobVerb, Pool, WorkLease
from broker.domain.planning.commands import (
    ClearDesktop,
    ExpireDesktop,
    FreshenDesktop,
    MakeDesktop,
    NoRoom,
    RenewDesktop,
    ResetDesktop,
)
from broker.services.breakers import Breakers
from broker.services.decisions import decision
from broker.services.delivery import Delivery
from broker.services.engine_work import EngineWork
from broker.services.jobs import desktop_job, new_job
from broker.services.kit import Kit
from broker.services.tally import Tally

_log = logging.getLogger("trivium.reconciler")

NAMES_FRESH_S: Final = 60.0
"""age in seconds after which a pool's names are read again: deleted desktops freed some"""
NO_ROOM_AGAIN_S: Final = 60.0
"""between two entries that a pool gets no machine, each with another reason than the one before"""
_MAKING: Final = frozenset({DesktopState.CREATING, DesktopState.STARTING})
"""states in which a late machine speaks against its pool on its host"""
_UNDER_SESSION: Final = frozenset(DESKTOP.sources(DesktopEvent.RELEASED_RESET))


class Names:
    """Free names for a pool's machines, the lowest number first: `library-001`."""

    def __init__(self, pool: Pool, taken: Iterable[str], read_at_s: float) -> None:
        self._prefix = pool.name
        self._taken = set(taken)
        self._number = 0
        self.read_at_s = read_at_s

    def next(self) -> str:
        while True:
            self._number += 1
            name = f"{self._prefix}-{self._number:03d}"
            if name not in self._taken:
                return name


class Machines:
    def __init__(
        self,
        kit: Kit,
        works: EngineWork,
        delivery: Delivery,
        breakers: Breakers,
        tally: Tally,
    ) -> None:
        self._kit = kit
        self._works = works
        self._delivery = delivery
        self._breakers = breakers
        self._tally = tally
        self._names: dict[str, Names] = {}
        self._told: dict[str, tuple[str, float]] = {}

    # ------------------------------------------------------------------ make

    async def make(self, command: MakeDesktop, lease: WorkLease, *, trial: bool) -> None:
        """A row, its job and why, in one transaction that only the lease's holder may commit.
        `trial`: the pool's breaker on that host lets this one through to see what becomes of it.

        Raises:
            ConflictError: the lease is another's by now. AlreadyExistsError: the name was taken.
        """
        kit, pool = self._kit, command.pool
        desktop = self._planned(command, await self._name(pool))
        entry = decision(
            kit,
            "desktop.make",
            command.why,
            about={"desktop_id": desktop.id, "pool_id": pool.id, "host_id": command.host_id},
            reasons=command.reasons,
            details={"name": desktop.name},
        )
        job = desktop_job(kit, desktop, JobVerb.CREATE)
        try:
            await kit.store.desktops.add(
                [desktop], [job] if job is not None else [], entries=[entry], lease=lease
            )
        except BaseException:
            # whatever it was: the name may be taken, or not
            self._names.pop(pool.id, None)
            raise
        self._works.wake()
        self._tell(desktop)
        if trial:
            await self._breakers.begun(pool, command.host_id)

    def _planned(self, command: MakeDesktop, name: str) -> Desktop:
        pool, now = command.pool, self._kit.clock.now()
        return Desktop(
            id=self._kit.ids.new("dsk"),
            name=name,
            pool_id=pool.id,
            architecture=pool.architecture,
            host_id=command.host_id,
            endpoint_id=None,
            owner_id=None,
            state=DesktopState.PLANNED,
            target=DesktopState.READY,
            deadline_at=now + limits.CREATE_S * 1000,
            generation=1,
            resources=pool.resources,
            note=command.why,
            created_at=now,
            changed_at=now,
            image_id=pool.image_id,
        )

    async def _name(self, pool: Pool) -> str:
        now_s = self._kit.clock.monotonic()
        names = self._names.get(pool.id)
        if names is None or now_s - names.read_at_s >= NAMES_FRESH_S:
            names = Names(pool, await self._kit.store.desktops.names(pool.id), now_s)
            self._names[pool.id] = names
        return names.next()

    async def no_room(self, command: NoRoom) -> None:
        """Write down that a pool gets no machine: once for each reason, and not ever again. That
        it waits for others to start is how it goes, and no news."""
        if command.paced:
            _log.debug("%s waits: %s", command.pool.name, command.why)
            return
        pool, now_s = command.pool, self._kit.clock.monotonic()
        told = self._told.get(pool.id)
        if told is not None and (told[0] == command.why or now_s - told[1] < NO_ROOM_AGAIN_S):
            return
        self._told[pool.id] = (command.why, now_s)
        _log.warning("%s wants %d more desktops: %s", pool.name, command.missing, command.why)
        entry = decision(
            self._kit,
            "pool.no_room",
            command.why,
            about={"pool_id": pool.id},
            reasons=command.reasons,
            details={"missing": command.missing},
        )
        await self._kit.store.audit.append([entry])

    def forget_told(self, wanting: set[str]) -> None:
        """Pools that are not among these lack nothing (any more): their next lack is news."""
        now_s = self._kit.clock.monotonic()
        for pool_id, (_, at_s) in tuple(self._told.items()):
            if pool_id not in wanting and now_s - at_s >= NO_ROOM_AGAIN_S:
                del self._told[pool_id]

    # ---------------------------------------------------------- clear, reset, freshen, expire

    async def clear(self, command: ClearDesktop) -> None:
        kit, desktop = self._kit, command.desktop
        now = kit.clock.now()
        await kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.DELETE_ASKED,
            now,
            generation=desktop.generation,
            deadline_at=now + limits.DELETE_S * 1000,
            note=command.why,
            job=desktop_job(kit, desktop, JobVerb.DESTROY),
            entry=decision(kit, "desktop.clear", command.why, about=about(desktop)),
        )
        self._works.wake()
        self._tell(desktop)

    async def reset(self, command: ResetDesktop) -> None:
        """Its session's end told why already."""
        kit, desktop = self._kit, command.desktop
        await kit.store.desktops.begin_reset(
            desktop.id,
            desktop.generation,
            kit.clock.now() + limits.RESET_S * 1000,
            new_job(kit, desktop, JobVerb.RESET),
            image_id=command.image_id,
        )
        self._works.wake()

    async def renew(self, command: RenewDesktop) -> None:
        """It waits for its host's turn then, as one that was given back.

        Raises:
            IllegalTransitionError: it is somebody's by now, or in the middle of something.
        """
        kit, desktop = self._kit, command.desktop
        found = await kit.store.desktops.desktop(desktop.id)
        if found is not None and found.owner_id is not None:
            # somebody took it, worked in it and left since the look: its state tells nothing
            raise IllegalTransitionError(f"{desktop.name} is somebody's by now")
        await kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.RESET_ASKED,
            kit.clock.now(),
            generation=desktop.generation,
            note=command.why,
            fresh=True,
            entry=decision(kit, "desktop.renew", command.why, about=about(desktop)),
        )
        kit.events.publish("work", pool_id=desktop.pool_id)
        self._tell(desktop)

    async def freshen(self, command: FreshenDesktop) -> None:
        """Only where its endpoint is connected to this process; the others leave it alone."""
        kit, desktop = self._kit, command.desktop
        if desktop.endpoint_id is None or not self._delivery.connected(desktop.endpoint_id):
            return
        now, kept = kit.clock.now(), command.kept
        moved = await kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.ENDPOINT_BACK_KEPT if kept else DesktopEvent.ENDPOINT_BACK,
            now,
            generation=desktop.generation,
            deadline_at=None if kept else now + limits.RESET_S * 1000,
            entry=decision(
                kit,
                "desktop.recover" if kept else "desktop.freshen",
                command.why,
                about=about(desktop),
            ),
        )
        if not kept:
            self._delivery.owe_fresh(moved)

    async def expire(self, command: ExpireDesktop) -> None:
        """Its state's time is over: failed, or, when it is being deleted, asked once more."""
        kit, desktop, now = self._kit, command.desktop, self._kit.clock.now()
        why = f"{desktop.state} took longer than its deadline"
        self._tally.count("desktops_late", desktop.architecture)
        if desktop.state is DesktopState.PARKING:
            await self._works.not_suspended(desktop, why)
            return
        if desktop.state in _UNDER_SESSION:
            # its session fails with it, in one transaction
            await self._works.lost(desktop, why)
            return
        deleting = desktop.state is DesktopState.DELETING
        await kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.DELETE_ASKED_AGAIN if deleting else DesktopEvent.DEADLINE_PASSED,
            now,
            generation=desktop.generation,
            deadline_at=now + limits.DELETE_S * 1000 if deleting else None,
            note=why,
            job=desktop_job(kit, desktop, JobVerb.DESTROY) if deleting else None,
            entry=decision(kit, "desktop.expire", why, about=about(desktop)),
        )
        self._works.wake()
        self._tell(desktop)
        if desktop.state in _MAKING and desktop.host_id is not None:
            await self._breakers.outcome(desktop.pool_id, desktop.host_id, ok=False, detail=why)

    def _tell(self, desktop: Desktop) -> None:
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)


def about(desktop: Desktop) -> dict[str, str]:
    """What an audit entry about this desktop names."""
    return {
        "desktop_id": desktop.id,
        "pool_id": desktop.pool_id,
        "host_id": desktop.host_id or "",
        "endpoint_id": desktop.endpoint_id or "",
    }
