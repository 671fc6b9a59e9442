"""How bad a run's world is: drawn from the seed, and all calm at the end.

Each seed leaves some kinds of fault out ("swarm testing"): with everything at once, one kind
hides another.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from random import Random
from typing import Final

_LEFT_OUT: Final = 0.35
"""share of the kinds of fault that a seed does without"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Shares are drawn once for each call, message or report; gaps are mean virtual seconds
    between two faults of a kind, 0 meaning never."""

    store_fails: float = 0.0
    """the call did nothing"""
    store_reply_lost: float = 0.0
    """the call was committed, and its caller is told that the store is away"""
    store_slow: float = 0.0
    """the call takes up to STORE_SLOW_S"""
    hint_lost: float = 0.0
    hint_doubled: float = 0.0
    hint_late: float = 0.0
    reply_lost: float = 0.0
    """a person's answer is lost on its way"""
    request_doubled: float = 0.0
    ticket_again: float = 0.0
    engine_fails: float = 0.0
    engine_reply_lost: float = 0.0
    engine_doubled: float = 0.0
    engine_slow: float = 0.0
    report_lost: float = 0.0
    report_doubled: float = 0.0
    report_late: float = 0.0
    report_old: float = 0.0
    """a report of an earlier generation comes once more"""
    boot_fails: float = 0.0
    boot_silent: float = 0.0
    link_slow: float = 0.0
    order_repeated: float = 0.0
    """an order comes again after the endpoint connected anew"""
    crash_gap_s: float = 0.0
    outage_gap_s: float = 0.0
    cut_gap_s: float = 0.0
    partition_gap_s: float = 0.0
    half_open_gap_s: float = 0.0
    reboot_gap_s: float = 0.0
    machine_lost_gap_s: float = 0.0
    display_gap_s: float = 0.0
    hostile_gap_s: float = 0.0
    storm_gap_s: float = 0.0
    """every endpoint of a process loses its link at once"""
    guest_fails: float = 0.0
    guest_silent: float = 0.0
    """an agent did what it was asked, and its answer does not come"""


CALM: Final = Weather()

STORMY: Final = Weather(
    store_fails=0.004,
    store_reply_lost=0.004,
    store_slow=0.01,
    hint_lost=0.2,
    hint_doubled=0.1,
    hint_late=0.2,
    reply_lost=0.06,
    request_doubled=0.08,
    ticket_again=0.2,
    engine_fails=0.1,
    engine_reply_lost=0.08,
    engine_doubled=0.08,
    engine_slow=0.05,
    report_lost=0.05,
    report_doubled=0.1,
    report_late=0.1,
    report_old=0.15,
    boot_fails=0.05,
    boot_silent=0.02,
    link_slow=0.03,
    order_repeated=0.15,
    crash_gap_s=60,
    outage_gap_s=120,
    cut_gap_s=15,
    partition_gap_s=60,
    half_open_gap_s=90,
    reboot_gap_s=45,
    machine_lost_gap_s=40,
    display_gap_s=40,
    hostile_gap_s=20,
    storm_gap_s=150,
    guest_fails=0.05,
    guest_silent=0.05,
)


def draw_weather(chance: Random) -> Weather:
    """A seed's weather: each kind left out, or as often as in STORMY times 0.3 to 2."""
    drawn = {}
    for one in fields(Weather):
        usual: float = getattr(STORMY, one.name)
        strength = 0.0 if chance.random() < _LEFT_OUT else chance.uniform(0.3, 2.0)
        if one.name.endswith("_gap_s"):
            drawn[one.name] = usual / strength if strength else 0.0
        else:
            drawn[one.name] = min(usual * strength, 0.5)
    return replace(CALM, **drawn)
