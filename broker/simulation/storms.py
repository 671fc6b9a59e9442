"""Whether endpoints that lost their links at one instant come back spread out."""

from __future__ import annotations

from typing import Final

from broker.simulation.history import History
from broker.simulation.loop import SimLoop

STORM_MIN: Final = 6
"""endpoints from which their return is looked at: of fewer, chance may bring most back at once"""
WINDOW_S: Final = 0.1
SHARE_MAX: Final = 0.75
"""of them may try again within WINDOW_S. With full jitter over 5 s, as agents/core/backoff.py
has it, 5 of 6 do so about once in 200,000 storms"""


class Storm:
    """One loss, and each endpoint's first try after it."""

    def __init__(self, loop: SimLoop, history: History, stations: list[str]) -> None:
        self._loop = loop
        self._history = history
        self._away = set(stations)
        self._count = len(stations)
        self._tries: list[float] = []

    def tried(self, station: str) -> bool:
        """An endpoint tries to connect; True when everybody of this storm has."""
        if station in self._away:
            self._away.discard(station)
            self._tries.append(self._loop.time())
        if self._away:
            return False
        self._judge()
        return True

    def _judge(self) -> None:
        at_once = max(
            sum(start <= other < start + WINDOW_S for other in self._tries) for start in self._tries
        )
        if at_once > self._count * SHARE_MAX:
            text = f"{at_once} of {self._count} endpoints came back within {WINDOW_S} s"
            self._history.violated("L4", text)
