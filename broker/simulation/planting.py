"""Where a bug can be put in, to see that the simulation finds it. The bugs are in plants.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.simulation.process import Process
from broker.simulation.station import Station
from broker.simulation.watched import WatchedState
from broker.store.memory import MemoryStore


def put(target: object, name: str, wrap: Callable[[Any], Any]) -> None:
    """Replace a method of one object by what `wrap` makes of it."""
    setattr(target, name, wrap(getattr(target, name)))


class Plant:
    """No bug. A subclass wraps a real part; production code knows nothing of it."""

    name = ""
    says = ""
    """what is wrong, in a sentence"""

    def into_store(self, store: MemoryStore, state: WatchedState) -> None:
        """The shared store, before anything is in it."""

    def into_process(self, process: Process) -> None:
        """A broker process, before it starts."""

    def into_station(self, station: Station) -> None:
        """An endpoint, before it begins. A reboot makes its core anew: see `make_core`."""
