"""The n-th await of a scenario goes wrong, for n = 1, 2, 3 …, until the scenario has fewer.

Each time a new small world: one broker, a scenario that a person would go through, one mishap at
the n-th call of a port (before or after it is carried out), and then calm. A mishap is one of
    crash    the process dies there and another starts from the store alone
    cancel   the request that was being carried out is cancelled (in the broker's own loops there
             is nobody to cancel, so there it is a crash)
    error    the store or the engine says that it is away
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from broker.domain.errors import EngineError, UnavailableError
from broker.domain.settings import SiteSettings
from broker.simulation.history import Violation
from broker.simulation.process import Process
from broker.simulation.simulation import Simulation, Spec
from broker.simulation.town import Town
from broker.simulation.weather import CALM

SAME_MAX = 2
"""times that one call counts in the broker's own loops, which go round for ever"""
_ASKED = frozenset({"request", "line"})
SETUP_S = 16.0
"""for endpoints to connect and spares to boot before a scenario begins"""

Scenario = Callable[["Drill"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`reached`: the scenario had an n-th await, so something went wrong there, `at`."""

    reached: bool
    at: str
    violations: tuple[Violation, ...]


def _one_of_each(town: Town) -> tuple[tuple[str, str], ...]:
    """One endpoint for each architecture."""
    return tuple(
        {architecture: (name, architecture) for name, architecture in town.stations}.values()
    )


class Drill(Simulation):
    """One broker and no faults but the one. A scenario sets `armed`: points count from then on.

    `looks`: those of the broker's own loops (reconciler, jobs, reports) count too.
    """

    def __init__(self, scenario: Scenario, mishap: str, n: int, *, seed: int) -> None:
        super().__init__(Spec(seed=seed, operations=0))
        self.weather = CALM
        self.processes_wanted = 1
        self.at = ""
        self.settle_look_s = 2.0
        self.armed = False
        self.looks = False
        self.town = replace(
            self.town,
            stations=_one_of_each(self.town),
            people=self.town.people[:1],
            site=SiteSettings(),  # its limits are not what a scenario is about
        )
        self._struck: Counter[tuple[str, str]] = Counter()
        self._scenario = scenario
        self._mishap = mishap
        self._left = n

    def start_process(self) -> Process:
        process = super().start_process()

        async def on_point(what: str) -> None:
            await self._point(process, what)

        process.on_point = on_point
        return process

    async def _point(self, process: Process, what: str) -> None:
        task = asyncio.current_task()
        if not self.armed or self.at or task is None:
            return
        kind = task.get_name().partition(" ")[0]
        if kind not in _ASKED:
            self._struck[kind, what] += 1
            if not self.looks or self._struck[kind, what] > SAME_MAX:
                return
        self._left -= 1
        if self._left > 0:
            return
        self.at = what
        if self._mishap == "error":
            if what.startswith("engine"):
                raise EngineError("the engine is away")
            raise UnavailableError("the store is away")
        if self._mishap == "cancel" and task.get_name() == "request":
            task.cancel()
            await asyncio.sleep(0)
        process.dies_in = 0

    async def _live(self) -> None:
        await self.begin(people=False)
        await asyncio.sleep(SETUP_S)
        await self._scenario(self)
        self.armed = False
        await self._settle()


def nth(scenario: Scenario, mishap: str, n: int, *, seed: int) -> Outcome:
    """The scenario with its n-th await gone wrong."""
    drill = Drill(scenario, mishap, n, seed=seed)
    drill.run()
    return Outcome(reached=bool(drill.at), at=drill.at, violations=tuple(drill.history.violations))
