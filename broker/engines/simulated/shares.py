"""How what is contended is divided: by weight, and nobody below what he is guaranteed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from broker.domain.settings import EQUAL_SHARES, Share

Resource = Literal["cpus", "disk", "network"]

_ROUNDS: Final = 60
"""halvings of an interval: the parts add up to within 2^-60 of what there is"""
_WEIGHT_MIN: Final = 1e-6
"""a weight of 0 gets what nobody else wants, and ends some time"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a machine's pool says of it; see PoolSettings."""

    weights: Share = EQUAL_SHARES
    guarantee: Share = field(default_factory=Share)


USUAL: Final = Claim()


def parts(total: float, claims: Mapping[str, Claim], resource: Resource) -> dict[str, float]:
    """Each machine's part (0 to 1) of what it would have alone; together they have `total` times
    that. Guarantees beyond the total are cut alike."""
    count = len(claims)
    if total >= count:
        return dict.fromkeys(claims, 1.0)
    weights = {
        one: max(getattr(claim.weights, resource), _WEIGHT_MIN) for one, claim in claims.items()
    }
    floors = {
        one: min(1.0, float(getattr(claim.guarantee, resource))) for one, claim in claims.items()
    }
    promised = sum(floors.values())
    if promised >= total > 0:
        return {one: floor * total / promised for one, floor in floors.items()}
    if not promised and len(set(weights.values())) == 1:
        return dict.fromkeys(claims, total / count)

    def given(level: float) -> dict[str, float]:
        return {one: min(1.0, max(floors[one], level * weights[one])) for one in claims}

    low, high = 0.0, 1.0 / min(weights.values())
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if sum(given(middle).values()) < total:
            low = middle
        else:
            high = middle
    return given(high)
