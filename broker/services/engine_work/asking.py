"""Asks engines: finds host, pool, image and engine of a job, and bounds the call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from broker import limits
from broker.domain.errors import EngineError, NotFoundError, NotHereError, TriviumError
from broker.domain.model import Desktop, Host, Job
from broker.ports import Engine, Operation
from broker.services.engine_work.hooks import Hooks
from broker.services.kit import Kit
from broker.services.pools import Pools

_log = logging.getLogger("trivium.engines")
_T = TypeVar("_T")

HOSTS_FRESH_S: Final = 1.0
"""age in seconds after which the copy of the hosts is read again"""


class Asking:
    def __init__(
        self, kit: Kit, pools: Pools, engines: Callable[[str], Engine], hooks: Hooks
    ) -> None:
        self._kit = kit
        self._pools = pools
        self._engines = engines
        self._hooks = hooks
        self._hosts: dict[str, Host] = {}
        self._read_at: float | None = None

    async def hosts(self) -> dict[str, Host]:
        """Every host by id, as it is now. Their engines are told of all of them: what is done on
        one may need another, of which this process has not heard."""
        loads = await self._kit.store.directory.host_loads()
        self._hosts = {load.host.id: load.host for load in loads}
        self._read_at = self._kit.clock.monotonic()
        for host in self._hosts.values():
            try:
                engine = self._engines(host.engine)
            except KeyError:
                continue
            engine.features(host)
        return self._hosts

    async def host(self, host_id: str, *, fresh: bool = False) -> Host:
        """The host as it is, or (not `fresh`) was HOSTS_FRESH_S ago. Raises NotFoundError."""
        age_s = self._kit.clock.monotonic() - (self._read_at or 0.0)
        stale = self._read_at is None or age_s >= HOSTS_FRESH_S
        if fresh or stale or host_id not in self._hosts:
            await self.hosts()
        if host_id not in self._hosts:
            raise NotFoundError("the host is gone")
        return self._hosts[host_id]

    def engine(self, host: Host) -> Engine:
        """Raises NotHereError where no engine of the host's name is installed."""
        try:
            return self._engines(host.engine)
        except KeyError:
            raise NotHereError(f"{host.name}: no engine is called {host.engine!r} here") from None

    async def operation(self, job: Job, desktop: Desktop) -> Operation:
        """What the job asks for this desktop. Raises NotFoundError: host, pool or image is gone."""
        pool = await self._pools.find(desktop.pool_id)
        return Operation(
            id=job.id,
            desktop=desktop,
            host=await self.host(job.host_id),
            image=await self._pools.image_of(desktop, pool),
            deadline_s=float(limits.JOB_S),
            guarantee=pool.settings.guarantee,
            weights=pool.settings.weights,
            limits=pool.settings.limits,
            share_pages=pool.settings.share_pages,
            storage=pool.settings.storage,
            restart=job.arguments.get("restart") == "true",
        )

    async def ask(self, call: Awaitable[_T]) -> _T:
        """Wait for an engine, JOB_S at most.

        Raises EngineError for whatever went wrong: an engine is somebody else's code, and nothing
        that it raises may end the work on the others.
        """
        try:
            async with asyncio.timeout(limits.JOB_S):
                return await call
        except TriviumError as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(error.detail) from error
        except TimeoutError:
            raise EngineError("no answer in time") from None
        except Exception as error:
            _log.exception("an engine raised what no engine may")
            self._hooks.on_bug(error)
            raise EngineError("the engine failed by a fault of its own") from error
