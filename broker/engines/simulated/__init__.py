"""The simulated engine: machines that exist in memory and behave like a profile's.

Boot times, contention, failures and display traffic come from figures (calibration.toml),
knobs (knobs.py) and a seed, so that a run can be repeated. Nothing is started on this machine.
"""

from __future__ import annotations

from broker.engines.registry import EngineContext
from broker.engines.simulated.engine import SimulatedEngine
from broker.engines.simulated.profile import load_calibration
from broker.ports import Engine


def build(context: EngineContext) -> Engine:
    """The factory that the entry point names; figures as shipped, knobs from the hosts."""
    return SimulatedEngine(
        clock=context.clock,
        chance=context.chance,
        calibration=load_calibration(),
        speed=context.speed,
        partial=context.shared,
    )


__all__ = ["SimulatedEngine", "build", "load_calibration"]
