"""Machines held against what they should be, and what differs told. Nothing is put right: whoever
changed a machine at its host may have had a reason, and a reset makes a fresh one anyway.

Engines that can compare (DriftInspector) are asked for a few machines at a time. What differs alike
in two looks is told: a resize or a move is on its way in between. It is kept in one document, so
that every broker shows it, and written into the audit trail when it begins and when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from broker import limits
from broker.domain.drift import Difference
from broker.domain.errors import (
    ConflictError,
    EngineError,
    NotFoundError,
    TriviumError,
    UnsupportedError,
)
from broker.domain.model import Desktop, DesktopState, Host, Instant
from broker.ports import DriftInspector, Engine, Operation
from broker.services.decisions import decision
from broker.services.kit import Kit
from broker.services.pools import Pools
from broker.services.shared_work import SharedWork, Work

_log = logging.getLogger("trivium.drift")

DOCUMENT: Final = "drift"
_RUNNING: Final = frozenset({DesktopState.READY, DesktopState.ASSIGNED})
_Found = dict[str, tuple[Difference, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """One desktop's differences, of this generation, seen first at `since`."""

    generation: int
    since: Instant
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """`count`: desktops that differ; `desktops`: by id, DRIFTS_KEPT of them at most."""

    count: int = 0
    desktops: Mapping[str, Drifted] = field(default_factory=dict)


def read_report(value: Mapping[str, Any]) -> DriftReport:
    """The document as `_keep` writes it."""
    return DriftReport(
        count=value["count"],
        desktops={
            name: Drifted(
                generation=one["generation"],
                since=one["since"],
                differences=tuple(Difference(**each) for each in one["differences"]),
            )
            for name, one in value["desktops"].items()
        },
    )


class Drifts:
    def __init__(
        self, kit: Kit, shared: SharedWork, pools: Pools, engines: Callable[[str], Engine]
    ) -> None:
        self._kit = kit
        self._shared = shared
        self._pools = pools
        self._engines = engines
        self._suspects: _Found = {}
        self._told: _Found = {}
        self._since: dict[str, Instant] = {}
        self._fence: int | None = None
        self._after = ""
        self.failures: Counter[str] = Counter()
        """what failed -> how often, since the start of this process"""
        self.count: int | None = None
        """desktops that differ, as this process found; None: another does this work"""
        self.on_bug: Callable[[BaseException], None] = lambda _: None

    # ------------------------------------------------------------------------- for people

    async def compare(self, desktop_id: str) -> tuple[Desktop, tuple[Difference, ...]]:
        """How this desktop's machine differs now.

        Raises:
            NotFoundError. ConflictError: it does not run on a host. UnsupportedError: its engine
            does not compare. EngineError: its host did not answer.
        """
        desktop = await self._kit.store.desktops.desktop(desktop_id)
        if desktop is None:
            raise NotFoundError(f"there is no desktop {desktop_id!r}")
        loads = await self._kit.store.directory.host_loads()
        host = next((one.host for one in loads if one.host.id == desktop.host_id), None)
        if host is None or desktop.state not in _RUNNING:
            raise ConflictError(f"{desktop.name} does not run on a host")
        return desktop, await self._differences(desktop, host)

    async def compares(self, desktop: Desktop) -> bool:
        """Whether it runs on a host whose engine can compare it."""
        if desktop.host_id is None or desktop.state not in _RUNNING:
            return False
        for load in await self._kit.store.directory.host_loads():
            if load.host.id == desktop.host_id:
                try:
                    return isinstance(self._engines(load.host.engine), DriftInspector)
                except KeyError:
                    return False
        return False

    async def report(self) -> DriftReport:
        """What is known to differ, whichever broker found it."""
        document = await self._kit.store.documents.document(DOCUMENT)
        if document is None:
            return DriftReport()
        return read_report(document.value)

    # ------------------------------------------------------------------------- for ever

    async def run(self, engines: Sequence[Engine]) -> None:
        """Compare some every DRIFT_S while this process has the lease; without engines that can,
        at once over."""
        names = {one.name for one in engines if isinstance(one, DriftInspector)}
        while names:
            await self._kit.clock.sleep(limits.DRIFT_S)
            try:
                await self.look(names)
            except TriviumError as error:
                self.failures["drift"] += 1
                _log.warning("the machines could not be looked at: %s", error.detail)
            except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
                self.failures["drift"] += 1
                _log.exception("a look for drift failed by a fault of the broker")
                self.on_bug(error)

    async def look(self, names: set[str]) -> None:
        """Compare the next DRIFT_BATCH_MAX machines of these engines."""
        lease = await self._shared.hold(Work.SWEEPER)
        if lease is None:
            self.count = None
            return
        if lease.fence != self._fence:
            self._fence = lease.fence
            await self._remember()
        running = await self._running(names)
        batch = [one for one in sorted(running) if one > self._after][: limits.DRIFT_BATCH_MAX]
        self._after = batch[-1] if len(batch) == limits.DRIFT_BATCH_MAX else ""
        for desktop_id in batch:
            await self._look_at(*running[desktop_id])
        for desktop_id in self._told.keys() - running.keys():
            self._forget(desktop_id)
        self.count = len(self._told)
        if await self._shared.keep(lease):
            await self._keep()

    async def _running(self, names: set[str]) -> dict[str, tuple[Desktop, Host]]:
        store = self._kit.store
        found: dict[str, tuple[Desktop, Host]] = {}
        for load in await store.directory.host_loads():
            if load.host.engine in names:
                rows = await store.desktops.on_host(
                    load.host.id, _RUNNING, limits.DESKTOPS_PER_HOST_MAX
                )
                found |= {row.id: (row, load.host) for row in rows if row.moving_to is None}
        return found

    async def _look_at(self, desktop: Desktop, host: Host) -> None:
        try:
            every = await self._differences(desktop, host)
        except UnsupportedError:
            return
        except EngineError as error:
            self.failures["compare"] += 1
            _log.info("%s was not compared: %s", desktop.name, error.detail)
            return
        now = await self._kit.store.desktops.desktop(desktop.id)
        if now != desktop:
            return  # it changed meanwhile: the next look sees how it is then
        found = every[: limits.DIFFERENCES_KEPT]
        before = self._suspects.pop(desktop.id, ())
        if not found:
            if desktop.id in self._told:
                await self._tell(desktop, (), "its machine is again what it should be")
            self._forget(desktop.id)
        elif found == self._told.get(desktop.id):
            return
        elif found == before:
            await self._tell(desktop, found, "its machine is not what it should be")
            self._told[desktop.id] = found
            self._since.setdefault(desktop.id, self._kit.clock.now())
        else:
            self._suspects[desktop.id] = found

    async def _differences(self, desktop: Desktop, host: Host) -> tuple[Difference, ...]:
        try:
            engine = self._engines(host.engine)
        except KeyError:
            raise UnsupportedError(f"no engine is called {host.engine!r} here") from None
        if not isinstance(engine, DriftInspector):
            raise UnsupportedError(f"the engine {host.engine} does not compare machines")
        pool = await self._pools.find(desktop.pool_id)
        operation = Operation(
            id=self._kit.ids.new("job"),
            desktop=desktop,
            host=host,
            image=await self._pools.image_of(desktop, pool),
            deadline_s=limits.DRIFT_ONE_S,
            guarantee=pool.settings.guarantee,
            weights=pool.settings.weights,
            limits=pool.settings.limits,
            share_pages=pool.settings.share_pages,
            storage=pool.settings.storage,
        )
        try:
            async with asyncio.timeout(limits.DRIFT_ONE_S):
                return await engine.drift(operation)
        except TimeoutError:
            raise EngineError(f"{host.name} did not answer in time") from None

    # ------------------------------------------------------------------------- told, kept

    async def _tell(self, desktop: Desktop, found: Sequence[Difference], why: str) -> None:
        entry = decision(
            self._kit,
            "machine.drift",
            why,
            about={
                "desktop_id": desktop.id,
                "pool_id": desktop.pool_id,
                "host_id": desktop.host_id or "",
            },
            reasons=[str(one) for one in found],
        )
        await self._kit.store.audit.append([entry])
        self._kit.events.publish("desktop", id=desktop.id, pool_id=desktop.pool_id)

    def _forget(self, desktop_id: str) -> None:
        self._told.pop(desktop_id, None)
        self._suspects.pop(desktop_id, None)
        self._since.pop(desktop_id, None)

    async def _remember(self) -> None:
        """What the process before this one knew, so that nothing is told twice."""
        known = (await self.report()).desktops
        self._suspects, self._after = {}, ""
        self._told = {name: one.differences for name, one in known.items()}
        self._since = {name: one.since for name, one in known.items()}

    async def _keep(self) -> None:
        documents, kit = self._kit.store.documents, self._kit
        generations = {
            row.id: row.generation
            for row in await kit.store.desktops.known(sorted(self._told)[: limits.DRIFTS_KEPT])
        }
        value = {
            "count": len(self._told),
            "desktops": {
                name: {
                    "generation": generation,
                    "since": self._since.get(name, kit.clock.now()),
                    "differences": [asdict(one) for one in self._told[name]],
                }
                for name, generation in generations.items()
            },
        }
        document = await documents.document(DOCUMENT)
        if document is None and not self._told:
            return
        if document is None or document.value != value:
            revision = 0 if document is None else document.revision
            try:
                await documents.save(DOCUMENT, value, revision=revision)
            except ConflictError:
                return  # another process does this work by now
