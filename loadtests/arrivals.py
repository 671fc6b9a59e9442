"""Arrival processes: when people come, decided before the campaign, from a seed.

Each gives exactly `count` instants within [0, window_s], in order. The i-th draw comes from its
own generator, so a plan does not change with the number of workers that carry it out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

NORMAL_SIGMAS: float = 6.0
"""the window spans this many standard deviations, as in VMware's 10,000 sign-ins within an hour
(loadtest facts: sigma 10 min of 60)"""
FLASH_SHARE: float = 0.8
"""part of the people that comes in the flash"""
FLASH_AT: float = 0.3
"""where the flash begins, as a part of the window"""
FLASH_LENGTH: float = 0.05
"""how long the flash lasts, as a part of the window"""

Process = Callable[[int, int, float], list[float]]


def chance(seed: int, name: str) -> random.Random:
    """The generator of one named entity of a campaign."""
    return random.Random(f"{seed}:{name}")  # noqa: S311 - reproducible, not secret


def poisson(seed: int, count: int, window_s: float) -> list[float]:
    """A Poisson process, given that `count` people come: independent and uniform."""
    return sorted(chance(seed, f"{i}").random() * window_s for i in range(count))


def ramp(seed: int, count: int, window_s: float) -> list[float]:
    """Evenly paced over the window, as Login VSI paces its sign-ins. Uses no chance."""
    del seed
    return [window_s * i / count for i in range(count)]


def normal(seed: int, count: int, window_s: float) -> list[float]:
    """Normally distributed around the middle of the window; draws outside are drawn again."""
    sigma = window_s / NORMAL_SIGMAS

    def draw(i: int) -> float:
        generator = chance(seed, f"{i}")
        while True:
            at = generator.gauss(window_s / 2, sigma)
            if 0 <= at <= window_s:
                return at

    return sorted(draw(i) for i in range(count))


def flash(seed: int, count: int, window_s: float) -> list[float]:
    """The bell rings: most come within a moment, the others at any time."""
    crowd = math.ceil(count * FLASH_SHARE)

    def draw(i: int) -> float:
        at = chance(seed, f"{i}").random()
        return (FLASH_AT + at * FLASH_LENGTH if i < crowd else at) * window_s

    return sorted(draw(i) for i in range(count))


PROCESSES: Mapping[str, Process] = {
    "poisson": poisson,
    "ramp": ramp,
    "normal": normal,
    "flash": flash,
}
