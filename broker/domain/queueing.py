"""The queue's order: fair between groups, first come first served within one.

Round robin: everybody's first waiting member goes before anybody's second, so a class of thirty
that arrives at once does not stand in front of the one teacher who came a second later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
