"""Copies of golden images on simulated hosts, which go when their images were removed."""

from __future__ import annotations

from collections.abc import Sequence

from broker.domain.model import Host, Image
from broker.engines.simulated.plant import Plant


def clear(plant: Plant, host: Host, removed: Sequence[Image]) -> tuple[str, ...]:
    """Those on which no machine stands, on whichever host: one that moves stands on what it stood
    on. Of a machine that was taken up from the store's record nobody knows. Raises EngineError."""
    plant.check_answers(plant.host(host))
    stood_on = {machine.image_id for machine in plant.machines.values()}
    copies = plant.copies.get(host.id, set())
    if "" in stood_on:
        return ()
    gone = [one for one in removed if one.id in copies - stood_on]
    copies -= {one.id for one in gone}
    return tuple(f"{one.name}-v{one.version}" for one in gone)
