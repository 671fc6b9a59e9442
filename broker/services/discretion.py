"""Keeps the hosts' names from people who do not run the site, in whatever they are told.

Reasons are written down whole, for those who run it. Which hosts there are is kept in memory: a
connect that is refused must not read them all.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial

from broker.domain.discretion import without_hosts
from broker.domain.errors import EngineError, NoHostFitsError, TriviumError
from broker.domain.model import Role, Session
from broker.domain.roles import Permission, allows
from broker.limits import HOST_NAMES_FRESH_S
from broker.services.kit import Kit

Tell = Callable[[str], str]
"""a text as somebody is told it"""


class Discretion:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._names: frozenset[str] = frozenset()
        self._read_at: float | None = None

    async def for_role(self, role: Role) -> Tell:
        """How texts are told to somebody of this role: to who may read the site's records, whole;
        to others without the hosts' names."""
        if allows(role, Permission.READ):
            return str
        return partial(without_hosts, names=await self._known())

    async def sessions(self, some: list[Session], role: Role) -> list[Session]:
        """These sessions with reasons as somebody of this role is told them."""
        tell = await self.for_role(role) if any(one.why for one in some) else str
        return [replace(one, why=tell(one.why)) for one in some]

    async def error(self, error: TriviumError, role: Role) -> TriviumError:
        """The error as somebody of this role is told it: engines name hosts in what they say.
        Others only say again what they were asked for."""
        if not isinstance(error, EngineError | NoHostFitsError):
            return error
        told = copy(error)
        told.detail = (await self.for_role(role))(error.detail)
        return told

    async def _known(self) -> frozenset[str]:
        """At most HOST_NAMES_FRESH_S old, and older while the store does not answer."""
        now_s = self._kit.clock.monotonic()
        if self._read_at is None or now_s - self._read_at >= HOST_NAMES_FRESH_S:
            try:
                loads = await self._kit.store.directory.host_loads()
            except TriviumError:
                return self._names
            self._names = frozenset(load.host.name for load in loads)
            self._read_at = now_s
        return self._names
