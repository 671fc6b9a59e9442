"""Looking at hosts: what one can and cannot do, and whether one would do before it is added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from broker.domain.errors import (
    BadProfileError,
    BusyError,
    EngineError,
    NotFoundError,
    UnsupportedError,
)
from broker.domain.inspection import Abilities, Condition, Step
from broker.domain.model import Host, HostState, Resources
from broker.limits import PROBE_S, PROBES_MAX
from broker.ports import Engine, HostInspector, HostWatcher
from broker.services.kit import Kit

_NO_SIZE = Resources(cpus=1, memory_mib=1)
_RETRY_S = 5.0


class HostChecks:
    """At most PROBES_MAX hosts are looked at at once before they are added."""

    def __init__(self, kit: Kit, engines: Callable[[str], Engine]) -> None:
        self._kit = kit
        self._engines = engines
        self._probes = 0

    async def abilities(self, ref: str) -> tuple[Host, Abilities]:
        """Of a host, by id or name, as it is found now.

        Raises:
            NotFoundError: there is no such host, or no such engine in this process.
            UnsupportedError: its engine does not look at hosts.
            BadProfileError: its engine does not understand its profile.
            EngineError: the host did not answer.
        """
        host = await self._host(ref)
        inspector = self._inspector(host.engine)
        _understood(self._engine(host.engine), host)
        return host, await inspector.abilities(host)

    async def condition(self, ref: str) -> tuple[Host, Condition]:
        """How a host, by id or name, is at this moment. Raises as `abilities`."""
        host = await self._host(ref)
        engine = self._engine(host.engine)
        if not isinstance(engine, HostWatcher):
            raise UnsupportedError(f"the engine {host.engine} does not tell how its hosts are")
        _understood(engine, host)
        return host, await engine.condition(host)

    async def _host(self, ref: str) -> Host:
        loads = await self._kit.store.directory.host_loads()
        host = next((load.host for load in loads if ref in {load.host.id, load.host.name}), None)
        if host is None:
            raise NotFoundError(f"there is no host {ref!r}")
        return host

    def _engine(self, name: str) -> Engine:
        try:
            return self._engines(name)
        except KeyError:
            raise NotFoundError(f"no engine is called {name!r} here") from None

    def _inspector(self, name: str) -> HostInspector:
        engine = self._engine(name)
        if not isinstance(engine, HostInspector):
            raise UnsupportedError(f"the engine {name} does not look at hosts")
        return engine

    def check(self, name: str, engine: str, profile: str) -> AsyncGenerator[Step, None]:
        """The steps of looking at a host with this record, as they are done; nothing is kept.
        What PROBE_S is not enough for is left out.

        Raises:
            NotFoundError, UnsupportedError: as `abilities`. BusyError: too many look at once.
        """
        inspector = self._inspector(engine)
        if self._probes >= PROBES_MAX:
            raise BusyError("too many hosts are being looked at", retry_after_s=_RETRY_S)
        now = self._kit.clock.now()
        host = Host(
            id=self._kit.ids.new("hst"),
            name=name,
            engine=engine,
            profile=profile,
            state=HostState.UP,
            capacity=_NO_SIZE,
            overcommit_cpu=1.0,
            start_limit=1,
            created_at=now,
            changed_at=now,
        )
        return self._steps(inspector, host)

    async def _steps(self, inspector: HostInspector, host: Host) -> AsyncGenerator[Step, None]:
        self._probes += 1
        steps = inspector.probe(host)
        try:
            async with asyncio.timeout(PROBE_S):
                async for step in steps:
                    yield step
        except TimeoutError:
            return
        finally:
            self._probes -= 1
            close = getattr(steps, "aclose", None)
            if close is not None:
                await close()


def _understood(engine: Engine, host: Host) -> None:
    """Raises BadProfileError: such a host cannot be asked anything, now or later."""
    try:
        engine.check_profile(host.profile)
    except EngineError as error:
        raise BadProfileError(f"{host.name}: {error.detail}") from None
