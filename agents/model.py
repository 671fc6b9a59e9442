"""How long simulated steps take, from a seed: the part of an endpoint that is not real here.

Time that is really spent (connecting, fetching, the first frame) never comes from here. The
defaults below are those of loadtests/calibration.toml, where each is drawn evenly between its
bounds; an endpoint works without that file. Sources:

logon        5.1 to 5.5 s: Windows 11 log-on, images by MCS, 1 to 6 nodes (Nutanix reference
             architecture 2020).
local_boot   15 to 40 s: assumption, no independent measurement of IDV was found.
os_start     8 to 25 s: theorypc.ca 2016, Windows 10 by PVS in 8 s on one fast client; the upper
             end is an assumption.
reset        2 to 3 s: measured by this project, 2.5 s for libvirt to revert an internal snapshot,
             +-20 %; that a write layer on an endpoint takes as long is an assumption.
input_pause  1 s on average between two operations of a person: assumption.
consent      0.8 of the questions whether a session may move are answered with yes: assumption.
delta_share  0.021 of an image changes from one version to the next: 0.2 to 2 GB (0.25 measured,
             the upper end an assumption) of 40 to 64 GB (the same reference architecture).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from types import MappingProxyType

from agents import limits
from agents.chance import fraction_of

_PAUSES_MIN = 0.05
_PAUSES_MAX = 20.0
"""bounds of an exponential pause, as multiples of its mean"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Drawn evenly between two bounds, in seconds."""

    low_s: float
    high_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.low_s <= self.high_s <= limits.STEP_S_MAX:
            raise ValueError(f"not 0 <= low <= high <= {limits.STEP_S_MAX:g} s")


def _built_in() -> Mapping[str, Length]:
    return MappingProxyType(
        {
            "logon": Length(low_s=5.1, high_s=5.5),
            "local_boot": Length(low_s=15.0, high_s=40.0),
            "os_start": Length(low_s=8.0, high_s=25.0),
            "reset": Length(low_s=2.0, high_s=3.0),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is assumed or taken from publications; see the module."""

    steps: Mapping[str, Length] = field(default_factory=_built_in)
    input_pause_s: float = 1.0
    delta_share: float = 1.1 / 52
    consent_share: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.input_pause_s <= limits.STEP_S_MAX:
            raise ValueError("the pause between two operations is not above 0")
        if not 0 <= self.delta_share <= 1:
            raise ValueError("the share of an image that changes is not between 0 and 1")
        if not 0 <= self.consent_share <= 1:
            raise ValueError("the share of answers that are yes is not between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One fleet's figures, and how much its simulated time is compressed (1: not at all).

    `answers`: whether the simulated person answers questions; who is not simulated is not spoken
    for.
    """

    figures: Figures = field(default_factory=Figures)
    speed: float = 1.0
    answers: bool = True

    def agrees(self, key: bytes, wish_id: str) -> bool | None:
        """Whether the simulated person of `key` lets the session move; None if nobody answers."""
        if not self.answers:
            return None
        return fraction_of(key, f"consent {wish_id}") < self.figures.consent_share

    def step_s(self, step: str, key: bytes, ordinal: int) -> float:
        """The length of an endpoint's `ordinal`-th simulated step, in seconds.

        The same key, step and ordinal always give the same length.
        """
        length = self.figures.steps[step]
        drawn = fraction_of(key, f"{step} {ordinal}")
        return (length.low_s + (length.high_s - length.low_s) * drawn) / self.speed

    def pause_s(self, fraction: float) -> float:
        """An exponential pause between two operations of a person, in seconds."""
        pauses = min(max(-log(1 - fraction), _PAUSES_MIN), _PAUSES_MAX)
        return max(pauses * self.figures.input_pause_s / self.speed, limits.INPUT_PAUSE_S_MIN)
