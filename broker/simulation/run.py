"""Runs one seed, and says what came of it."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.simulation.history import Violation
from broker.simulation.simulation import Simulation, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run came to. `virtual_s` includes the time in which it settled, `settled_s`.

    `digest` is over the whole history, in order: two runs of one spec have the same.
    `trace` is the history's end, as (virtual seconds, what, about).
    """

    spec: Spec
    operations: Mapping[str, int]
    faults: Mapping[str, int]
    done: int
    virtual_s: float
    settled_s: float
    processes: int
    digest: str
    violations: tuple[Violation, ...]
    trace: tuple[tuple[float, str, str], ...]


@dataclass(slots=True)
class Total:
    """The sum of many runs."""

    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    done: int = 0
    virtual_s: float = 0.0
    broken: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.runs += 1
        self.done += result.done
        self.virtual_s += result.virtual_s
        self.operations.update(result.operations)
        self.faults.update(result.faults)
        if result.violations:
            self.broken.append(result)


def run_one(spec: Spec) -> Result:
    """One seed, from its beginning until it is settled."""
    collects = gc.isenabled()
    # a run makes little garbage in cycles, and looking for it among all that is loaded took a
    # fifth of the time
    gc.freeze()
    gc.disable()
    try:
        simulation = Simulation(spec)
        simulation.run()
        return _result(simulation)
    finally:
        if collects:
            gc.enable()
        gc.collect()


def _result(simulation: Simulation) -> Result:
    history = simulation.history
    return Result(
        spec=simulation.spec,
        operations=dict(history.operations),
        faults=dict(history.faults),
        done=history.done,
        virtual_s=simulation.loop.time(),
        settled_s=simulation.settled_after_s,
        processes=simulation.processes_wanted,
        digest=history.digest(),
        violations=tuple(history.violations),
        trace=tuple(history.trace),
    )
