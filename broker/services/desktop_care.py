"""What administrators do with one desktop: give it to somebody, take it back, renew, remove it.

None of it is done under a live session: whoever works in the desktop is logged off first. What is
taken back is made fresh under a new generation before anybody else may have it.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker import limits
from broker.domain.errors import ConflictError, DesktopInUseError, NotFoundError
from broker.domain.keeping import keeps_work
from broker.domain.lifecycle import DESKTOP, DesktopEvent
from broker.domain.model import Desktop, DesktopState, JobVerb, PoolKind
from broker.ports import PageQuery
from broker.services.decisions import decision
from broker.services.delivery import Delivery
from broker.services.directory import Directory
from broker.services.engine_work import EngineWork
from broker.services.jobs import desktop_job
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools


class DesktopCare:
    def __init__(
        self, kit: Kit, pools: Pools, directory: Directory, works: EngineWork, delivery: Delivery
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._directory = directory
        self._works = works
        self._delivery = delivery

    async def unassign(self, desktop_id: str, *, actor: str, origin: Origin = NOWHERE) -> Desktop:
        """It is nobody's any more, and is made fresh: what its owner left there is gone.

        Raises:
            NotFoundError. ConflictError: nobody owns it. DesktopInUseError: a session has it.
            IllegalTransitionError: it is in the middle of something.
        """
        desktop = await free_desktop(self._kit, desktop_id)
        if desktop.owner_id is None:
            raise ConflictError(f"{desktop.name} is nobody's")
        details = {"owner_id": desktop.owner_id}
        return await self._renew(desktop, "desktop.unassign", actor, origin, details, disown=True)

    async def reset(self, desktop_id: str, *, actor: str, origin: Origin = NOWHERE) -> Desktop:
        """It is made fresh for whoever has it: what is in it is gone, its owner stays.

        Raises as `unassign`. ConflictError: an endpoint carries it with its owner's work, who may
        come back before it is done; unassign it.
        """
        desktop = await free_desktop(self._kit, desktop_id)
        pool = await self._pools.find(desktop.pool_id)
        if desktop.endpoint_id is not None and keeps_work(pool, desktop.owner_id):
            raise ConflictError(f"{desktop.name} holds its owner's work; unassign it")
        return await self._renew(desktop, "desktop.reset", actor, origin, {}, disown=False)

    async def _renew(
        self,
        desktop: Desktop,
        action: str,
        actor: str,
        origin: Origin,
        details: Mapping[str, object],
        *,
        disown: bool,
    ) -> Desktop:
        kit, now = self._kit, self._kit.clock.now()
        # a machine waits for its host's turn without a deadline, an absent endpoint for its return
        away = desktop.host_id is not None or desktop.state is DesktopState.UNAVAILABLE
        entry = decision(
            kit, action, "an administrator asked for it", about=about_desktop(desktop), actor=actor,
            details=details, origin=origin,
        )  # fmt: skip
        moved = await kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.RESET_ASKED,
            now,
            generation=desktop.generation,
            deadline_at=None if away else now + limits.RESET_S * 1000,
            note="made fresh for an administrator",
            fresh=True,
            disown=disown,
            entry=entry,
        )
        if moved.endpoint_id is not None and moved.state is DesktopState.RESETTING:
            self._delivery.owe_fresh(moved)
        self._tell(moved)
        return moved

    async def assign(
        self, desktop_id: str, user: str, *, actor: str, origin: Origin = NOWHERE
    ) -> Desktop:
        """A free desktop of a dedicated pool is that user's, by id or username, from now on.

        Raises:
            NotFoundError. ConflictError: the pool is floating, somebody owns the desktop, or the
            user has one in this pool. DesktopInUseError: a session has it.
        """
        desktop = await free_desktop(self._kit, desktop_id)
        owner = await self._directory.user(user)
        pool = await self._pools.find(desktop.pool_id)
        if pool.kind is not PoolKind.DEDICATED:
            raise ConflictError(f"{pool.name} is floating: its desktops are nobody's")
        entry = decision(
            self._kit, "desktop.assign", "an administrator asked for it",
            about=about_desktop(desktop), actor=actor, details={"owner_id": owner.id},
            origin=origin,
        )  # fmt: skip
        assigned = await self._kit.store.desktops.assign(
            desktop.id, owner.id, desktop.generation, entry
        )
        self._tell(assigned)
        return assigned

    async def delete(self, desktop_id: str, *, actor: str, origin: Origin = NOWHERE) -> Desktop:
        """Its machine is removed, with whatever lies in it.

        Raises:
            NotFoundError. ConflictError: it is an endpoint's own. DesktopInUseError: a session
            has it. IllegalTransitionError: it is in the middle of something.
        """
        desktop = await free_desktop(self._kit, desktop_id)
        if desktop.endpoint_id is not None:
            raise ConflictError(f"{desktop.name} is its endpoint's own; retire the endpoint")
        if desktop.state in {DesktopState.DELETING, DesktopState.DELETED}:
            return desktop
        kit, now = self._kit, self._kit.clock.now()
        entry = decision(
            kit, "desktop.delete", "an administrator asked for it", about=about_desktop(desktop),
            actor=actor, details={"owner_id": desktop.owner_id or ""}, origin=origin,
        )  # fmt: skip
        moved = await kit.store.desktops.advance(
            desktop.id,
            DesktopEvent.DELETE_ASKED,
            now,
            generation=desktop.generation,
            deadline_at=now + limits.DELETE_S * 1000,
            note="removed by an administrator",
            job=desktop_job(kit, desktop, JobVerb.DESTROY),
            entry=entry,
        )
        self._works.wake()
        self._tell(moved)
        return moved

    def _tell(self, desktop: Desktop) -> None:
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)
        self._kit.events.publish("work", pool_id=desktop.pool_id)


def about_desktop(desktop: Desktop) -> dict[str, str]:
    """What an entry about it names."""
    return {
        "desktop_id": desktop.id,
        "pool_id": desktop.pool_id,
        "host_id": desktop.host_id or "",
        "endpoint_id": desktop.endpoint_id or "",
    }


async def free_desktop(kit: Kit, desktop_id: str) -> Desktop:
    """The desktop, if no session has it. Raises NotFoundError, DesktopInUseError."""
    desktop = await kit.store.desktops.desktop(desktop_id)
    if desktop is None:
        raise NotFoundError(f"there is no desktop {desktop_id!r}")
    query = PageQuery(limit=1, filters={"desktop_id": desktop.id, "live": "true"})
    held = (await kit.store.sessions.sessions(query)).items
    if held or DESKTOP.allows(desktop.state, DesktopEvent.RELEASED_RESET):
        raise DesktopInUseError(f"a session has {desktop.name}; log it off first")
    return desktop
