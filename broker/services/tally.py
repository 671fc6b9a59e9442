"""Counters of what this process did, for the overview and for /metrics.

Kept apart from the store: rates are this process's own and start at zero.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SAMPLES_MAX: Final = 300
"""samples of the series: ten minutes at SAMPLE_S"""
SAMPLE_S: Final = 2.0
MINUTE_S: Final = 60.0
LATENCY_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""upper bounds of the histogram's buckets, in seconds"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How things stood at one time: architecture -> what -> how many."""

    at: int
    counts: Mapping[str, Mapping[str, int]]


class Tally:
    def __init__(self) -> None:
        self.totals: Counter[tuple[str, str]] = Counter()
        """(what, architecture) -> how often, since the start"""
        self.series: deque[Sample] = deque(maxlen=SAMPLES_MAX)
        self.latency: dict[tuple[str, str], list[int]] = {}
        """(what, architecture) -> counts per bucket, the last for everything above"""
        self.latency_sum_s: dict[tuple[str, str], float] = {}
        self._minutes: deque[tuple[float, Counter[tuple[str, str]]]] = deque(maxlen=60)

    def count(self, what: str, architecture: str, number: int = 1) -> None:
        self.totals[what, architecture] += number

    def took(self, what: str, architecture: str, seconds: float) -> None:
        key = (what, architecture)
        buckets = self.latency.setdefault(key, [0] * (len(LATENCY_BOUNDS_S) + 1))
        place = next((i for i, top in enumerate(LATENCY_BOUNDS_S) if seconds <= top), -1)
        buckets[place] += 1
        self.latency_sum_s[key] = self.latency_sum_s.get(key, 0.0) + seconds

    def mean_s(self, what: str, architecture: str) -> float | None:
        """How long it took on average since the start; None if it never happened here."""
        buckets = self.latency.get((what, architecture))
        return self.latency_sum_s[what, architecture] / sum(buckets) if buckets else None

    def mark(self, now_s: float) -> None:
        """Remember the totals now, so that `per_minute` can look back."""
        self._minutes.append((now_s, Counter(self.totals)))

    def per_minute(self, what: str, architecture: str, now_s: float) -> float:
        """How often in the last minute (or since the start, scaled), per minute."""
        past = next((one for one in self._minutes if now_s - one[0] <= MINUTE_S), None)
        if past is None or now_s <= past[0]:
            return 0.0
        done = self.totals[what, architecture] - past[1][what, architecture]
        return done * MINUTE_S / (now_s - past[0])
