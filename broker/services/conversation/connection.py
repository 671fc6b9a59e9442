"""What is kept for one endpoint that is connected here. Thousands of these stand idle."""

from __future__ import annotations

from collections import deque

from broker.domain.model import PhaseReport
from broker.ports import Line


class Connection:
    """One endpoint's line. `heard_s`: monotonic seconds of its last message."""

    __slots__ = ("endpoint_id", "heard_s", "line", "orders", "pace_s", "phases", "writing")

    def __init__(self, line: Line, endpoint_id: str, heard_s: float) -> None:
        self.line = line
        self.endpoint_id = endpoint_id
        self.heard_s = heard_s
        self.pace_s = 0.0
        self.orders: deque[bytes] | None = None
        self.phases: dict[str, list[PhaseReport]] | None = None
        self.writing = False
