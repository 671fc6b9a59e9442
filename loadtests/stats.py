"""Percentiles of measured values, and how sure they are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import msgspec

from loadtests.limits import (
    BOOTSTRAP_ROUNDS,
    BOOTSTRAP_SAMPLE_MAX,
    CURVE_POINTS_MAX,
    PERCENTILE_TAIL_MIN,
)


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ms. Percentiles are values that occurred (nearest rank). `*_ci_ms`: 95 % interval
    by bootstrap. `too_few`: the percentiles that so few values cannot tell; they show the
    largest value."""

    n: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    mean_ms: float
    p50_ci_ms: tuple[float, float]
    p95_ci_ms: tuple[float, float]
    too_few: tuple[str, ...]


EMPTY = Distribution(
    n=0,
    p50_ms=0.0,
    p90_ms=0.0,
    p95_ms=0.0,
    p99_ms=0.0,
    p999_ms=0.0,
    max_ms=0.0,
    mean_ms=0.0,
    p50_ci_ms=(0.0, 0.0),
    p95_ci_ms=(0.0, 0.0),
    too_few=("p50", "p90", "p95", "p99", "p999"),
)

_SHOWN = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value of `ordered` that at least `percent` % do not exceed (nearest rank).

    Raises:
        ValueError: `ordered` is empty.
    """
    if not ordered:
        raise ValueError("no values")
    # 1e-9 keeps 99.9 % of 1000 from being rounded up to rank 1000 by the last bit of a float
    rank = math.ceil(percent / 100 * len(ordered) - 1e-9)
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def tells(n: int, percent: float) -> bool:
    """Whether `n` values can tell this percentile: at least PERCENTILE_TAIL_MIN lie beyond it."""
    return n * (1 - percent / 100) >= PERCENTILE_TAIL_MIN - 1e-9


def distribution(values: Sequence[float], seed: int = 0) -> Distribution:
    """The distribution of `values` in ms; the same values and seed give the same intervals."""
    if not values:
        return EMPTY
    ordered = sorted(values)
    found = {name: percentile(ordered, percent) for name, percent in _SHOWN.items()}
    middle = bootstrap(ordered, lambda sample: percentile(sample, 50), seed)
    high = bootstrap(ordered, lambda sample: percentile(sample, 95), seed)
    return Distribution(
        n=len(ordered),
        p50_ms=_ms(found["p50"]),
        p90_ms=_ms(found["p90"]),
        p95_ms=_ms(found["p95"]),
        p99_ms=_ms(found["p99"]),
        p999_ms=_ms(found["p999"]),
        max_ms=_ms(ordered[-1]),
        mean_ms=_ms(math.fsum(ordered) / len(ordered)),
        p50_ci_ms=(_ms(middle[0]), _ms(middle[1])),
        p95_ci_ms=(_ms(high[0]), _ms(high[1])),
        too_few=tuple(name for name, percent in _SHOWN.items() if not tells(len(ordered), percent)),
    )


def bootstrap(
    ordered: Sequence[float], figure: Callable[[Sequence[float]], float], seed: int
) -> tuple[float, float]:
    """95 % interval of `figure` by the percentile bootstrap. `figure` is given sorted samples."""
    values = thinned(ordered, BOOTSTRAP_SAMPLE_MAX)
    draw = random.Random(f"{seed}:bootstrap:{len(ordered)}")  # noqa: S311 - reproducible
    found = sorted(
        figure(sorted(draw.choices(values, k=len(values)))) for _ in range(BOOTSTRAP_ROUNDS)
    )
    return percentile(found, 2.5), percentile(found, 97.5)


def ratio_interval(
    before: Sequence[float],
    after: Sequence[float],
    figure: Callable[[Sequence[float]], float],
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of figure(after) / figure(before) by the bootstrap; None where 0 comes up."""
    draw = random.Random(f"{seed}:ratio")  # noqa: S311 - reproducible
    old, new = (thinned(sorted(values), BOOTSTRAP_SAMPLE_MAX) for values in (before, after))
    found = []
    for _ in range(BOOTSTRAP_ROUNDS):
        base = figure(sorted(draw.choices(old, k=len(old))))
        if base <= 0:
            return None
        found.append(figure(sorted(draw.choices(new, k=len(new)))) / base)
    found.sort()
    return percentile(found, 2.5), percentile(found, 97.5)


def thinned(ordered: Sequence[float], most: int) -> Sequence[float]:
    """At most `most` of `ordered`, evenly taken, with both ends."""
    if len(ordered) <= most:
        return ordered
    step = (len(ordered) - 1) / (most - 1)
    return [ordered[round(i * step)] for i in range(most)]


def percentile_curve(values: Sequence[float]) -> list[tuple[float, float]]:
    """(percent, value) for a percentile plot: every value up to CURVE_POINTS_MAX, then thinned,
    always dense towards the tail."""
    ordered = sorted(values)
    n = len(ordered)
    ranks = set(range(1, n + 1))
    if n > CURVE_POINTS_MAX:
        ranks = {
            max(1, n - round(n ** (i / CURVE_POINTS_MAX))) for i in range(CURVE_POINTS_MAX + 1)
        }
        ranks |= {1, n}
    return [(100 * rank / n, ordered[rank - 1]) for rank in sorted(ranks)]


def _ms(value: float) -> float:
    return round(value, 3)
