"""Engines by short name, from the entry-point group `trivium.engines`.

A distribution that brings an engine declares it in its pyproject:

    [project.entry-points."trivium.engines"]
    simulated = "broker.engines.simulated:build"

The entry point is an `EngineFactory`. A host names its engine by that short name. An engine whose
libraries are not installed raises ConfigError when it is loaded, or built, and is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias, cast

from broker.domain.errors import ConfigError
from broker.ports import Chance, Clock, Engine, GuestLinks, Ids, MachineReport

GROUP = "trivium.engines"
_log = logging.getLogger("trivium.engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """What an engine may use. `installation_id` tags its machines; `ids` makes their secrets.

    `data`: the broker's folder, where an engine finds what the administrator keeps for it, or
    keeps something of its own, in a file or folder of its own name; None where there is none.
    Golden images that were uploaded are in its `images`, as NAME-vVERSION.qcow2.
    `guests`: the agents that reach the broker by the network, and what a machine must be given for
    that; None where there is no such way.
    `speed` is for simulated engines only: time runs `speed` times as fast. `shared`: other
    processes may serve the same installation, each with an engine object of its own.
    """

    clock: Clock
    chance: Chance
    ids: Ids
    installation_id: str
    speed: float = 1.0
    shared: bool = False
    data: Path | None = None
    guests: GuestLinks | None = None


EngineFactory: TypeAlias = Callable[[EngineContext], Engine]


def known_engines() -> tuple[str, ...]:
    """The short names of every engine installed, sorted."""
    return tuple(sorted(entry_points(group=GROUP).names))


def engine_factory(name: str) -> EngineFactory:
    """The factory of one engine.

    Raises:
        ConfigError: no installed distribution brings an engine of that name.
    """
    found = entry_points(group=GROUP, name=name)
    if not found:
        known = ", ".join(known_engines()) or "none"
        raise ConfigError(f"no engine is called {name!r}; known: {known}")
    return cast("EngineFactory", next(iter(found)).load())


def usable_engines() -> tuple[str, ...]:
    """The short names of the engines installed whose libraries are here, too, sorted."""
    usable = []
    for name in known_engines():
        try:
            engine_factory(name)
        except ConfigError as error:
            _log.info("the engine %s is left out: %s", name, error.detail)
        else:
            usable.append(name)
    return tuple(usable)


class EngineSet(Mapping[str, Engine]):
    """The engines of this process by short name, opened and closed together."""

    def __init__(self, engines: Iterable[Engine]) -> None:
        self._engines = {engine.name: engine for engine in engines}

    @classmethod
    def named(cls, names: Iterable[str], context: EngineContext) -> EngineSet:
        """Build the engines of these names; raises ConfigError for an unknown one. One whose
        factory raises it is left out: the hosts of the others are served without it."""
        built = []
        for name in sorted(set(names)):
            factory = engine_factory(name)
            try:
                built.append(factory(context))
            except ConfigError as error:
                _log.warning("the engine %s is left out: %s", name, error.detail)
        return cls(built)

    def __getitem__(self, name: str) -> Engine:
        return self._engines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)

    async def open(self) -> None:
        """Open all; if one fails, those opened before it are closed again."""
        opened: list[Engine] = []
        try:
            for engine in self._engines.values():
                await engine.open()
                opened.append(engine)
        except BaseException:
            for engine in reversed(opened):
                await engine.close()
            raise

    async def close(self) -> None:
        for engine in reversed(self._engines.values()):
            await engine.close()

    async def pump(self, handle: Callable[[MachineReport], Awaitable[None]]) -> None:
        """Hand every report of every engine to `handle`, until all are closed."""

        async def one(engine: Engine) -> None:
            async for report in engine.reports():
                await handle(report)

        async with asyncio.TaskGroup() as group:
            for engine in self._engines.values():
                group.create_task(one(engine))
