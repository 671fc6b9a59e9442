"""The site's own settings, and opening, draining and maintenance of the site, a pool or a host.

Every connect asks for the site's settings, so each process keeps a copy that is at most
SITE_FRESH_S old; a "site" hint makes it new at once. Each change is asked in the audit trail
before it is made and settled after, so that a crash in between is seen there, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final

from broker.domain.errors import ConflictError, NotFoundError
from broker.domain.lifecycle import HostEvent
from broker.domain.model import Host, Pool
from broker.domain.settings import ServiceState, SiteSettings
from broker.domain.site import SITE_DOCUMENT, plain, settings_of
from broker.services.decisions import asked, decision
from broker.services.kit import Kit
from broker.services.origin import NOWHERE, Origin
from broker.services.pools import Pools

SITE_FRESH_S: Final = 2.0
"""age in seconds after which the copy is read again: another process may have changed it"""
_SAVE_TRIES: Final = 5
"""of a change that only sets the state, when somebody else saves at the same time"""

_HOST_EVENT: Final = {
    ServiceState.OPEN: HostEvent.OPENED,
    ServiceState.DRAINING: HostEvent.DRAIN_ASKED,
    ServiceState.MAINTENANCE: HostEvent.MAINTENANCE_ASKED,
}
_VERB: Final = {
    ServiceState.OPEN: "open",
    ServiceState.DRAINING: "drain",
    ServiceState.MAINTENANCE: "maintain",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSettings:
    """`revision` is 0 while nobody has saved any: what `save` must name to replace these."""

    settings: SiteSettings
    revision: int


class Site:
    def __init__(self, kit: Kit, pools: Pools) -> None:
        self._kit = kit
        self._pools = pools
        self._copy = SiteSettings()
        self._read_at: float | None = None

    # ------------------------------------------------------------------ settings

    def forget(self) -> None:
        """Something changed: the next look reads the store."""
        self._read_at = None

    async def settings(self) -> SiteSettings:
        """The settings, at most SITE_FRESH_S old. Raises UnavailableError, BusyError."""
        now = self._kit.clock.monotonic()
        if self._read_at is None or now - self._read_at >= SITE_FRESH_S:
            self._copy = (await self.read()).settings
            self._read_at = now
        return self._copy

    async def read(self) -> SavedSettings:
        """The settings as they are stored now, with their revision: to change them."""
        document = await self._kit.store.documents.document(SITE_DOCUMENT)
        if document is None:
            return SavedSettings(settings=SiteSettings(), revision=0)
        return SavedSettings(settings=settings_of(document.value), revision=document.revision)

    async def save(
        self,
        settings: SiteSettings,
        revision: int,
        *,
        actor: str,
        why: str = "",
        origin: Origin = NOWHERE,
    ) -> SavedSettings:
        """Replace the settings that were read as `revision`.

        Raises:
            ConflictError: somebody saved others since.
        """
        details = {"settings": plain(settings)}
        async with self._asked("site.change", actor, why, details, origin=origin):
            return await self._store(settings, revision)

    async def _store(self, settings: SiteSettings, revision: int) -> SavedSettings:
        document = await self._kit.store.documents.save(
            SITE_DOCUMENT, plain(settings), revision=revision
        )
        self.forget()
        self._kit.events.publish("site", revision=document.revision)
        self._kit.events.publish("work")
        return SavedSettings(settings=settings, revision=document.revision)

    async def open(self, *, actor: str, why: str = "") -> SavedSettings:
        return await self.set_state(ServiceState.OPEN, actor=actor, why=why)

    async def drain(self, *, actor: str, why: str = "") -> SavedSettings:
        return await self.set_state(ServiceState.DRAINING, actor=actor, why=why)

    async def maintenance(self, *, actor: str, why: str = "") -> SavedSettings:
        return await self.set_state(ServiceState.MAINTENANCE, actor=actor, why=why)

    async def set_state(
        self,
        state: ServiceState,
        *,
        actor: str,
        why: str = "",
        message: str | None = None,
        origin: Origin = NOWHERE,
    ) -> SavedSettings:
        """Open the site, drain it, or put it under maintenance. `message` is told to those who
        are turned away; None leaves it as it is. Other settings stay, whoever saves meanwhile.

        Raises:
            ConflictError: others saved again and again while this tried.
        """
        details = {"state": state.value}
        async with self._asked(f"site.{_VERB[state]}", actor, why, details, origin=origin):
            for _ in range(_SAVE_TRIES):
                now = await self.read()
                text = now.settings.message if message is None else message
                changed = replace(now.settings, state=state, message=text)
                try:
                    return await self._store(changed, now.revision)
                except ConflictError:
                    continue
            raise ConflictError("the site's settings were changed by others all the time")

    # ------------------------------------------------------------------ a pool, a host

    async def set_pool_state(
        self,
        ref: str,
        state: ServiceState,
        *,
        actor: str,
        why: str = "",
        origin: Origin = NOWHERE,
    ) -> Pool:
        """Open a pool, drain it, or put it under maintenance. Raises NotFoundError."""
        self._pools.forget()
        pool = await self._pools.find(ref)
        about = {"pool_id": pool.id}
        details = {"state": state.value, "before": pool.settings.state.value}
        async with self._asked(f"pool.{_VERB[state]}", actor, why, details, about, origin):
            changed = replace(pool, settings=replace(pool.settings, state=state))
            await self._kit.store.directory.save_pool(changed, new=False)
            self._pools.forget()
        self._kit.events.publish("pool", id=pool.id)
        self._kit.events.publish("work", pool_id=pool.id)
        return changed

    async def set_host_state(
        self,
        ref: str,
        state: ServiceState,
        *,
        actor: str,
        why: str = "",
        origin: Origin = NOWHERE,
    ) -> Host:
        """Open a host, drain it, or put it under maintenance: nothing new comes to it; its idle
        desktops are moved or removed under maintenance.

        Raises:
            NotFoundError. IllegalTransitionError: it is in that state, or on its way elsewhere.
        """
        host = await self.host(ref)
        details = {"state": state.value, "before": host.state.value}
        about = {"host_id": host.id}
        async with self._asked(f"host.{_VERB[state]}", actor, why, details, about, origin):
            moved = await self._kit.store.directory.move_host(
                host.id, _HOST_EVENT[state], self._kit.clock.now(), note=why
            )
        self._kit.events.publish("host", id=host.id)
        self._kit.events.publish("work", host_id=host.id)
        return moved

    async def set_host_lost(
        self, ref: str, *, lost: bool, actor: str, why: str = "", origin: Origin = NOWHERE
    ) -> Host:
        """An administrator says that a host is down, or that it answers again.

        Raises:
            NotFoundError. IllegalTransitionError: it is so already, or off.
        """
        host = await self.host(ref)
        event = HostEvent.LOST if lost else HostEvent.BACK
        about, details = {"host_id": host.id}, {"before": host.state.value}
        async with self._asked(f"host.{event}", actor, why, details, about, origin):
            moved = await self._kit.store.directory.move_host(
                host.id, event, self._kit.clock.now(), note=why
            )
        self._kit.events.publish("host", id=host.id)
        self._kit.events.publish("work", host_id=host.id)
        return moved

    async def host(self, ref: str) -> Host:
        """By id or by name. Raises NotFoundError."""
        loads = await self._kit.store.directory.host_loads()
        found = next((load.host for load in loads if ref in {load.host.id, load.host.name}), None)
        if found is None:
            raise NotFoundError(f"there is no host {ref!r}")
        return found

    def _asked(
        self,
        action: str,
        actor: str,
        why: str,
        details: Mapping[str, object],
        about: Mapping[str, str] | None = None,
        origin: Origin = NOWHERE,
    ) -> AbstractAsyncContextManager[None]:
        entry = decision(
            self._kit, action, why, about=about or {}, actor=actor, details=details, origin=origin
        )
        return asked(self._kit, entry)
