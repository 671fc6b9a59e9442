"""The queue's order: fair between groups, first come first served within one.

Round robin: every group's first waiting member goes before any group's second, so a class of
thirty that arrives at once does not stand in front of the one teacher who came a second later.

Desktops come one at a time, so the rounds must outlast one look: a pool's round is the set of
groups that had a turn in it. Whoever's group is not among them goes before those whose is; when
all who wait had their turn, the next one served begins a new round. That is start-time fair
queueing with turns of one desktop each (Goyal, Vin, Cheng 1996): the virtual time is the round's
number, and a group's next start is this round, or the next one if it had its turn. A group that
was idle begins with the present round and gets no credit for the past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from broker import limits
from broker.domain.model import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """`start`: rounds until the group's next turn: 1 if it had one in the pool's round, else 0."""

    session_id: str
    group_id: str | None
    requested_at: Instant
    start: int = 0


def group_key(group_id: str | None) -> str:
    """The group's name in a round: people without a group count as one."""
    return group_id or ""


def after(served: frozenset[str], group_id: str | None) -> frozenset[str]:
    """The round once a member of this group was served. Who had a turn already begins a new one."""
    key = group_key(group_id)
    return frozenset({key}) if key in served else served | {key}


def fair_order(waiting: Sequence[Waiting]) -> tuple[str, ...]:
    """Session ids in the order in which they are served.

    Those without a group count as one group. Ties in time go to the id, which sorts by arrival.
    """
    arrivals = sorted(waiting, key=lambda one: (one.requested_at, one.session_id))
    rounds: dict[str | None, int] = {}
    ranked: list[tuple[int, int, str]] = []
    for place, one in enumerate(arrivals):
        turn = rounds.get(one.group_id, one.start)
        rounds[one.group_id] = turn + 1
        ranked.append((turn, place, one.session_id))
    return tuple(session_id for _, _, session_id in sorted(ranked))


ROUND_PREFIX: Final = "queue/"
"""what the name of a pool's round begins with, among the stored documents"""


def round_name(pool_id: str) -> str:
    return ROUND_PREFIX + pool_id


def round_value(served: frozenset[str]) -> dict[str, object]:
    """As it is stored."""
    return {"served": sorted(served)}


def round_of(value: Mapping[str, object]) -> frozenset[str]:
    """As it was stored, by this version or another."""
    served = value.get("served")
    return frozenset(map(str, served)) if isinstance(served, list | tuple) else frozenset()


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
