"""Strays: the engines' machines held against the store's rows, and what is wrong put right.

Machines that nobody should have are discarded; rows whose machine is gone fail, and with them the
sessions that have them. What is a stray, and that it must look so twice, is decided in
domain/planning/strays. Hosts, or a whole engine, that cannot list their machines say so and are
left out: a machine that is missing from a complete list is gone. An engine that never can (each
process simulates some of the machines) says UnsupportedError; that is told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from broker import limits
from broker.domain.errors import EngineError, TriviumError, UnsupportedError
from broker.domain.lifecycle import HOST_RUNS
from broker.domain.model import Desktop, Host, Instant, WorkLease
from broker.domain.planning.commands import (
    DiscardMachine,
    FailDesktop,
    SeenMachine,
    StrayCommand,
    Suspects,
)
from broker.domain.planning.strays import HAS_MACHINE, compare
from broker.ports import Engine, Machine, PartialListError
from broker.services.decisions import asked, decision
from broker.services.engine_work import EngineWork
from broker.services.kit import Kit
from broker.services.shared_work import SharedWork, Work

_log = logging.getLogger("trivium.strays")

COMPARED_AT_ONCE: Final = 2000
"""machines listed, or desktops compared, before other tasks run again"""
LIST_S: Final = 60.0
"""for an engine to list its machines"""


class Strays:
    def __init__(self, kit: Kit, shared: SharedWork, works: EngineWork) -> None:
        self._kit = kit
        self._shared = shared
        self._works = works
        self._suspects = Suspects()
        self._fence: int | None = None
        self._unlisted: set[str] = set()
        self.failures: Counter[str] = Counter()
        """what failed -> how often, since the start of this process"""
        self.resolved: Counter[str] = Counter()
        """command -> how often, since the start of this process"""
        self.on_bug: Callable[[BaseException], None] = lambda _: None

    async def run(self, engines: Sequence[Engine]) -> None:
        """Compare every STRAYS_S, for ever, while this process has the lease."""
        while True:
            await self._kit.clock.sleep(limits.STRAYS_S)
            try:
                await self.look(engines)
            except TriviumError as error:
                self.failures["strays"] += 1
                _log.warning("the machines could not be compared: %s", error.detail)
            except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
                self.failures["strays"] += 1
                _log.exception("a comparison failed by a fault of the broker")
                self.on_bug(error)

    async def look(self, engines: Sequence[Engine]) -> None:
        """One comparison, if it is this process's work. What looks wrong for the first time is
        only remembered. Raises UnavailableError, BusyError."""
        lease = await self._shared.hold(Work.STRAYS)
        if lease is None:
            return
        if lease.fence != self._fence:
            self._suspects, self._fence = Suspects(), lease.fence
        listed_at = self._kit.clock.now()
        seen, hosts = await self._listed(engines)
        rows = await self._rows(seen, hosts)
        commands = await self._compared(seen, rows, hosts, listed_at)
        machines = {engine.name: engine for engine in engines}
        for command in commands[: limits.STRAYS_MAX]:
            if not await self._shared.keep(lease):
                return
            await self._resolve(command, rows, machines, lease)

    # ------------------------------------------------------------------ looking

    async def _listed(
        self, engines: Sequence[Engine]
    ) -> tuple[dict[str, list[SeenMachine]], frozenset[str]]:
        """(desktop id -> its machines, the hosts that answered). One that is off or down has not:
        what is suspended there waits for it, what ran there HostLoss settles."""
        seen: defaultdict[str, list[SeenMachine]] = defaultdict(list)
        hosts: set[str] = set()
        for engine in engines:
            there = await self._hosts_of(engine)
            silent: frozenset[str] = frozenset()
            try:
                async with asyncio.timeout(LIST_S):
                    machines = await engine.machines()
            except UnsupportedError as error:
                if engine.name not in self._unlisted:
                    self._unlisted.add(engine.name)
                    _log.info("%s: its machines are not compared: %s", engine.name, error.detail)
                continue
            except PartialListError as error:
                self._failed(engine, error)
                machines, silent = error.machines, error.silent
            except (EngineError, TimeoutError) as error:
                self._failed(engine, error)
                continue
            hosts |= {host.id for host in there if host.state in HOST_RUNS} - silent
            for number, machine in enumerate(machines, 1):
                seen[machine.desktop_id].append(_seen(engine.name, machine))
                if number % COMPARED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return dict(seen), frozenset(hosts)

    async def _hosts_of(self, engine: Engine) -> list[Host]:
        """Its hosts, which it is told of: those that another process put up or switched on since
        are not in its book, or are away there, and their machines would be missing."""
        loads = await self._kit.store.directory.host_loads()
        hosts = [load.host for load in loads if load.host.engine == engine.name]
        for host in hosts:
            engine.features(host)
        return hosts

    def _failed(self, engine: Engine, error: Exception) -> None:
        self.failures[f"machines of {engine.name}"] += 1
        _log.warning("%s did not list its machines: %s", engine.name, _words(error))

    async def _rows(
        self, seen: dict[str, list[SeenMachine]], hosts: frozenset[str]
    ) -> dict[str, Desktop]:
        """Rows on these hosts that must have a machine, and the rows of every machine seen."""
        store = self._kit.store.desktops
        rows: dict[str, Desktop] = {}
        for host_id in sorted(hosts):
            for row in await store.on_host(host_id, HAS_MACHINE, limits.DESKTOPS_PER_HOST_MAX):
                rows[row.id] = row
        others = [desktop_id for desktop_id in seen if desktop_id not in rows]
        for part in _parts(others, limits.PAGE_LIMIT_MAX):
            for row in await store.known(part):
                rows[row.id] = row
        return rows

    async def _compared(
        self,
        seen: dict[str, list[SeenMachine]],
        rows: dict[str, Desktop],
        hosts: frozenset[str],
        listed_at: Instant,
    ) -> list[StrayCommand]:
        # desktop by desktop the outcome is the same, so a long list need not stop everything else
        commands: list[StrayCommand] = []
        machines: set[tuple[str, str, int]] = set()
        desktops: set[tuple[str, int]] = set()
        for part in _parts(sorted(rows.keys() | seen.keys()), COMPARED_AT_ONCE):
            found = compare(
                [machine for one in part for machine in seen.get(one, ())],
                [rows[one] for one in part if one in rows],
                listed_at=listed_at,
                hosts=hosts,
                before=self._suspects,
            )
            commands += found.commands
            machines |= found.suspects.machines
            desktops |= found.suspects.desktops
            await asyncio.sleep(0)
        self._suspects = Suspects(
            machines=frozenset(machines), desktops=frozenset(desktops), at=listed_at
        )
        return commands

    # ------------------------------------------------------------------ putting right

    async def _resolve(
        self,
        command: StrayCommand,
        rows: Mapping[str, Desktop],
        engines: dict[str, Engine],
        lease: WorkLease,
    ) -> None:
        """One that fails is seen again by the next comparison, and stops none of the others. They
        are done one after the other, for minutes where engines hang: a desktop whose row is not
        any more as it was compared (`rows`) waits for the next comparison."""
        name = type(command).__name__
        try:
            if await self._changed(command, rows):
                _log.info("%s: its desktop has moved on", name)
                return
            match command:
                case DiscardMachine(machine=machine):
                    await self._discard(command, engines[machine.engine])
                case FailDesktop(desktop=desktop, why=why):
                    await self._fail(desktop, why)
        except (TriviumError, TimeoutError) as error:
            self.failures[name] += 1
            _log.warning("%s (fence %d): %s", name, lease.fence, _words(error))
        except Exception as error:  # noqa: BLE001 - logged, counted, told; the rest goes on
            self.failures[name] += 1
            _log.exception("%s failed by a fault of the broker", name)
            self.on_bug(error)
        else:
            self.resolved[name] += 1

    async def _changed(self, command: StrayCommand, rows: Mapping[str, Desktop]) -> bool:
        if isinstance(command, DiscardMachine):
            desktop_id = command.machine.desktop_id
        else:
            desktop_id = command.desktop.id
        now = await self._kit.store.desktops.known([desktop_id])
        return _mark(now[0] if now else None) != _mark(rows.get(desktop_id))

    async def _discard(self, command: DiscardMachine, engine: Engine) -> None:
        machine = command.machine
        entry = decision(
            self._kit,
            "machine.discard",
            command.why,
            about={"desktop_id": machine.desktop_id, "host_id": machine.host_id},
            details={"generation": machine.generation, "engine": machine.engine},
        )
        async with asked(self._kit, entry), asyncio.timeout(limits.JOB_S):
            await engine.discard(
                Machine(
                    desktop_id=machine.desktop_id,
                    generation=machine.generation,
                    running=machine.running,
                    host_id=machine.host_id,
                    suspended=machine.suspended,
                )
            )

    async def _fail(self, desktop: Desktop, why: str) -> None:
        entry = decision(
            self._kit,
            "machine.lost",
            why,
            about={
                "desktop_id": desktop.id,
                "pool_id": desktop.pool_id,
                "host_id": desktop.host_id or "",
            },
        )
        async with asked(self._kit, entry):
            await self._works.lost(desktop, why)


def _words(error: Exception) -> str:
    """Some say nothing: TimeoutError."""
    return str(error) or type(error).__name__


def _mark(row: Desktop | None) -> tuple[object, ...]:
    """What of a row was compared with machines, and when it came to be so."""
    if row is None:
        return ()
    return (row.changed_at, row.generation, row.state, row.host_id, row.moving_to)


def _parts(items: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def _seen(engine: str, machine: Machine) -> SeenMachine:
    return SeenMachine(
        engine=engine,
        host_id=machine.host_id,
        desktop_id=machine.desktop_id,
        generation=machine.generation,
        running=machine.running,
        suspended=machine.suspended,
    )
