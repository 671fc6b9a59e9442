"""How often and how much one source may knock: connections at once and new ones in a while."""

from __future__ import annotations

from collections import OrderedDict, deque

from broker.ports import Clock


class SourceThrottle:
    """Counts by source. `total_max` and `open_max` are connections at once, of all and of one
    source; `new_max` is how many one source may open within `window_s` seconds."""

    def __init__(
        self,
        clock: Clock,
        *,
        total_max: int,
        open_max: int,
        new_max: int,
        window_s: float,
        sources_max: int,
    ) -> None:
        self._clock = clock
        self._total_max = total_max
        self._open_max = open_max
        self._new_max = new_max
        self._window_s = window_s
        self._sources_max = sources_max
        self._open: dict[str, int] = {}
        self._recent: OrderedDict[str, deque[float]] = OrderedDict()

    def enter(self, source: str) -> bool:
        """Whether one more may come in; if so it must `leave`. A refused one counts as new too,
        so that hammering does not pay."""
        now = self._clock.monotonic()
        recent = self._recent.setdefault(source, deque(maxlen=self._new_max))
        self._recent.move_to_end(source)
        if len(self._recent) > self._sources_max:
            self._recent.popitem(last=False)
        calm = len(recent) < self._new_max or now - recent[0] >= self._window_s
        recent.append(now)
        room = (
            self._open.get(source, 0) < self._open_max
            and sum(self._open.values()) < self._total_max
        )
        if calm and room:
            self._open[source] = self._open.get(source, 0) + 1
        return calm and room

    def leave(self, source: str) -> None:
        left = self._open[source] - 1
        if left:
            self._open[source] = left
        else:
            del self._open[source]
