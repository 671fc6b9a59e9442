"""What open displays carry, from every process: told by hints, kept for as long as it says much.

A measure is the one thing that a hint brings itself and does not only point at: it is worth
nothing a moment later, so it is in no table. A process that hears none says nothing of it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, Final

from broker.domain.measures import DisplayMeasure
from broker.limits import (
    DISPLAY_MEASURE_S,
    DISPLAY_MEASURES_MAX,
    DISPLAY_MEASURES_PER_HINT,
)
from broker.ports import Hint
from broker.services.kit import Kit

TOPIC: Final = "display"
ROUND_TRIP_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""upper bounds of the round trips' buckets, in seconds"""


class Measures:
    """`bytes_down`, `bytes_up`, `ends` and the round trips are of this process, since its start."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._latest: OrderedDict[str, DisplayMeasure] = OrderedDict()
        self.bytes_down = 0
        self.bytes_up = 0
        self.ends: Counter[str] = Counter()
        """displays that ended here, by the stable code that says why"""
        self.round_trips = [0] * (len(ROUND_TRIP_BOUNDS_S) + 1)
        self.round_trips_sum_s = 0.0

    def note(self, measures: Sequence[DisplayMeasure]) -> None:
        """Displays of this process were measured; the other processes are told."""
        for one in measures:
            self._keep(one)
            self._count(one)
        for first in range(0, len(measures), DISPLAY_MEASURES_PER_HINT):
            part = measures[first : first + DISPLAY_MEASURES_PER_HINT]
            self._kit.events.publish(TOPIC, measures=[astuple(one) for one in part])

    def over(self, why: str, rest: DisplayMeasure) -> None:
        """A display of this process has ended."""
        self.ends[why] += 1
        self.bytes_down += rest.bytes_down
        self.bytes_up += rest.bytes_up
        self._latest.pop(rest.session_id, None)

    def of(self, session_id: str) -> DisplayMeasure | None:
        """The last measure of the session's display, unless it is older than DISPLAY_MEASURE_S."""
        found = self._latest.get(session_id)
        if found is None or found.at < self._kit.clock.now() - DISPLAY_MEASURE_S * 1000:
            return None
        return found

    async def run(self) -> None:
        """Hear what the other processes measure, until cancelled."""
        subscription = self._kit.events.subscribe(TOPIC)
        try:
            async for hint in subscription:
                for one in _told(hint):
                    self._keep(one)
        finally:
            subscription.close()

    def _keep(self, measure: DisplayMeasure) -> None:
        before = self._latest.get(measure.session_id)
        if before is not None and before.at > measure.at:
            return
        self._latest[measure.session_id] = measure
        self._latest.move_to_end(measure.session_id)
        if len(self._latest) > DISPLAY_MEASURES_MAX:
            self._latest.popitem(last=False)

    def _count(self, measure: DisplayMeasure) -> None:
        self.bytes_down += measure.bytes_down
        self.bytes_up += measure.bytes_up
        if measure.round_trip_ms is not None:
            took_s = measure.round_trip_ms / 1000
            place = next((i for i, top in enumerate(ROUND_TRIP_BOUNDS_S) if took_s <= top), -1)
            self.round_trips[place] += 1
            self.round_trips_sum_s += took_s


def _told(hint: Hint) -> list[DisplayMeasure]:
    """The measures that the hint brings; none of one that was not understood."""
    rows: Any = hint.data.get("measures", ())
    try:
        return [
            DisplayMeasure(
                session_id=str(session_id),
                at=int(at),
                seconds=float(seconds),
                bytes_down=int(down),
                bytes_up=int(up),
                round_trip_ms=None if trip_ms is None else float(trip_ms),
            )
            for session_id, at, seconds, down, up, trip_ms in rows
        ]
    except (TypeError, ValueError):
        return []
