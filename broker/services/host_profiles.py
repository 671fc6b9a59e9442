"""How hosts are reached and what they offer: their profiles, as engines understand them.

A profile is checked by its engine before it is stored, and one that would leave a host's machines
behind is stored only while there are none. Whoever changed it tells his own engine at once; the
other processes hear a hint, or look every HOST_PROFILES_LOOK_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from broker import limits
from broker.domain.errors import BadRequestError, EngineError, TriviumError
from broker.domain.homes import left_behind
from broker.domain.model import Host, HostState
from broker.ports import Engine, ProfileReader
from broker.services.kit import Kit

_log = logging.getLogger("trivium.hosts")

_MISSED = "missed"


class HostProfiles:
    def __init__(self, kit: Kit, engines: Callable[[str], Engine]) -> None:
        self._kit = kit
        self._engines = engines
        self._told: dict[str, int] = {}
        """host id -> the revision of the record that this process's engine has"""
        self._wake = asyncio.Event()

    def check(self, engine: str, profile: str) -> None:
        """Raises BadRequestError for a profile that the engine does not understand, or with which
        it makes no desktops. One of an engine that is not in this process is not checked."""
        reader = self._reader(engine)
        if reader is None:
            return
        try:
            reader.home(profile)
        except EngineError as error:
            raise BadRequestError(error.detail, fields={"field": "profile"}) from None

    def left_behind(self, host: Host, profile: str) -> tuple[str, ...]:
        """What of the host's profile says where its machines live, and is not in that one: empty
        where they are found again. Of an engine that does not tell, every other profile leaves
        them behind; one that nobody understands has none to leave."""
        if host.profile == profile:
            return ()
        reader = self._reader(host.engine)
        if reader is None:
            return ("profile",)
        try:
            before = reader.home(host.profile)
        except EngineError:
            return ()
        return left_behind(before, reader.home(profile))

    def use(self, host: Host) -> None:
        """Have this process's engine go by that record from now on."""
        # one that was retired is reached by nobody; an engine that is not here has nothing to reach
        if host.state is not HostState.RETIRED:
            with contextlib.suppress(KeyError):
                self._engines(host.engine).features(host)
        self._told[host.id] = host.revision

    def _reader(self, name: str) -> ProfileReader | None:
        try:
            engine = self._engines(name)
        except KeyError:
            return None
        return engine if isinstance(engine, ProfileReader) else None

    # ------------------------------------------------------------ of other processes

    async def run(self) -> None:
        """Tell this process's engines of records that others changed, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(), name="profile hints")
            while True:
                await self._look_once()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limits.HOST_PROFILES_LOOK_S):
                        await self._wake.wait()
                self._wake.clear()

    async def look(self) -> None:
        """Read every host, and tell of those that changed. Raises UnavailableError, BusyError."""
        for host in await self._kit.store.directory.hosts():
            if self._told.get(host.id) != host.revision:
                self.use(host)

    async def _look_once(self) -> None:
        try:
            await self.look()
        except TriviumError as error:
            # the store is away: the next look tries again, nothing is lost
            _log.warning("the hosts' profiles could not be read: %s", error.detail)

    async def _hear(self) -> None:
        subscription = self._kit.events.subscribe("host")
        try:
            async for hint in subscription:
                revision = hint.data.get("revision")
                known = self._told.get(str(hint.data.get("id")))
                # most hints are of a host's state
                if hint.topic == _MISSED or (revision is not None and revision != known):
                    self._wake.set()
        finally:
            subscription.close()
