"""A broker in the simulation does in the background what the app does."""

from __future__ import annotations

from pathlib import Path
from random import Random

from broker.app import background_work, build
from broker.config import load
from broker.simulation.process import NOT_RUN, Process
from broker.simulation.simulation import Simulation, Spec


async def test_the_simulation_runs_every_task_of_the_app(tmp_path: Path) -> None:
    config = load({"TRIVIUM_DATA": str(tmp_path), "TRIVIUM_DATABASE_URL": "memory:"})
    async with build(config) as broker:
        ours = background_work(broker)
        for work in ours.values():
            work.close()
    process = Process(Simulation(Spec(seed=1, operations=0)), "broker", Random(1))
    theirs = process.background()
    for work in theirs.values():
        work.close()
    assert theirs.keys() == ours.keys() - NOT_RUN
