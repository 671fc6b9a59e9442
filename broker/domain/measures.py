"""What was measured of an open display."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.model import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayMeasure:
    """What one display carried in the `seconds` that ended at `at`.

    `bytes_down` went to the person, `bytes_up` to the desktop. `round_trip_ms`: of the last ping
    to the person's client, which goes behind the frames on their way; None before the first
    answer, and while one is overdue.
    """

    session_id: str
    at: Instant
    seconds: float
    bytes_down: int
    bytes_up: int
    round_trip_ms: float | None = None

    @property
    def down_per_s(self) -> float:
        return self.bytes_down / self.seconds if self.seconds > 0 else 0.0

    @property
    def up_per_s(self) -> float:
        return self.bytes_up / self.seconds if self.seconds > 0 else 0.0
