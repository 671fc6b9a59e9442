"""Counts per bucket as Prometheus wants them."""

from __future__ import annotations

from collections.abc import Iterable


def cumulated(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Counts per bucket -> (upper bound, how many up to it), as Prometheus has them."""
    total = 0.0
    found: list[tuple[str, float]] = []
    for top, count in zip((*map(str, map(float, bounds)), "+Inf"), counts, strict=True):
        total += count
        found.append((top, total))
    return found
