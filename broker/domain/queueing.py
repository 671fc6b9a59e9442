"""The queue's order: fair between groups, first come first served within one.

Round robin: everybody's first waiting member goes before anybody's second, so a class of thirty
that arrives at once does not stand in front of the one teacher who came a second later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker import limits
from broker.domain.model import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    session_id: str
    group_id: str | None
    requested_at: Instant


def fair_order(waiting: Sequence[Waiting]) -> tuple[str, ...]:
    """Session ids in the order in which they are served.

    Those without a group count as one group. Ties in time go to the id, which sorts by arrival.
    """
    arrivals = sorted(waiting, key=lambda one: (one.requested_at, one.session_id))
    rounds: dict[str | None, int] = {}
    ranked: list[tuple[int, int, str]] = []
    for place, one in enumerate(arrivals):
        turn = rounds.get(one.group_id, 0)
        rounds[one.group_id] = turn + 1
        ranked.append((turn, place, one.session_id))
    return tuple(session_id for _, _, session_id in sorted(ranked))


def places(waiting: Sequence[Waiting]) -> dict[str, int]:
    """Each session's place, 1 being next."""
    return {session_id: place for place, session_id in enumerate(fair_order(waiting), start=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What a pool's queue will be served with, as far as it can be told.

    coming_s: for each machine on its way the seconds that it still needs, at best 0. served_per_s:
    how many people of this queue were served a second in the recent past.
    """

    coming_s: tuple[float, ...] = ()
    served_per_s: float = 0.0


WAIT_S_KNOWN: Final = float(limits.QUEUE_S)
"""longer waits are not foretold: the person is let go before"""


def remaining_s(usual_s: float, age_s: float) -> float:
    """How long a machine still needs that usually takes `usual_s` and was begun `age_s` ago. One
    that is late counts as needing a tenth of the usual time."""
    return max(usual_s - age_s, usual_s / 10)


def expected_wait_s(place: int, supply: Supply) -> float | None:
    """Seconds until the person at this place (1 is next) gets a desktop; None if nothing can be
    said, or the wait is past WAIT_S_KNOWN.

    With k machines on their way, sorted by when they come: the p-th for place p <= k. Behind them
    (p - k) / rate later, the rate being that of the recent past: in a steady state a queue empties
    at the rate at which people leave it, whatever the order of service within it (Little's law,
    L = lambda W). Assumes that the rate stays as it was, and that nobody before gives up.
    """
    coming = sorted(supply.coming_s)
    if place <= len(coming):
        wait = coming[place - 1]
    elif supply.served_per_s > 0:
        first = coming[-1] if coming else 0.0
        wait = first + (place - len(coming)) / supply.served_per_s
    else:
        return None
    return wait if wait <= WAIT_S_KNOWN else None
