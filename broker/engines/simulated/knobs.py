"""Knobs: how the simulated engine misbehaves when asked to.

A host turns them in its profile, after a question mark, as in an address:

    bare-metal?boot_fail=0.05&slow_factor=2

so that a drill needs no restart. All are off by default; every draw comes from the seed. What
the profile can do (suspend, migrate, resize, host_power, snapshot) is turned off the same way:

    bare-metal?migrate=0
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl

from broker.domain.errors import EngineError
from broker.domain.features import Feature

_NOT_SHARES = frozenset({"slow_factor", "stall_s", "crash_per_hour"})
_SWITCHES = frozenset(feature.value for feature in Feature) | {"guest"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Shares are probabilities from 0 to 1, drawn once for each call or boot.

    create_fail, reset_fail, destroy_fail (discards, too), suspend_fail, resume_fail, migrate_fail,
        resize_fail, power_fail, snapshot_fail (reverts and drops, too): the verb raises EngineError
        and did nothing.
    lost_reply: the verb did its work, then raises EngineError all the same; the same operation
        again succeeds without doing it twice.
    boot_fail: the machine stops half-way through its boot (or its resume) and is reported as not
        ready.
    never_ready: the machine runs, its agent never reports.
    duplicate_report: a report comes twice.
    stale_report: a report of the generation before comes first, claiming ready.
    crash_per_hour: how often a ready machine dies by itself, on average; it is reported as not
        ready and stays listed, not running.
    slow_factor: every time is multiplied by this.
    stall_s: each verb answers up to this many (simulated) seconds late.
    guest: 1 where agents in the machines can be asked things; 0, as it is by default, where not.
    guest_refuse: what an agent was asked it says it could not do.
    guest_silent: an agent did what it was asked, and its answer does not come.
    suspend, migrate, resize, host_power, snapshot: 1, or 0 for a host that cannot; a profile that
        cannot do it by itself is not taught.
    """

    create_fail: float = 0.0
    reset_fail: float = 0.0
    destroy_fail: float = 0.0
    suspend_fail: float = 0.0
    resume_fail: float = 0.0
    migrate_fail: float = 0.0
    resize_fail: float = 0.0
    power_fail: float = 0.0
    snapshot_fail: float = 0.0
    lost_reply: float = 0.0
    boot_fail: float = 0.0
    never_ready: float = 0.0
    duplicate_report: float = 0.0
    stale_report: float = 0.0
    crash_per_hour: float = 0.0
    slow_factor: float = 1.0
    stall_s: float = 0.0
    guest: float = 0.0
    guest_refuse: float = 0.0
    guest_silent: float = 0.0
    suspend: float = 1.0
    migrate: float = 1.0
    resize: float = 1.0
    host_power: float = 1.0
    snapshot: float = 1.0

    @property
    def turned_off(self) -> frozenset[Feature]:
        """What the host cannot do whatever its profile can."""
        return frozenset(feature for feature in Feature if not getattr(self, feature.value))


def _allowed(key: str, number: float) -> bool:
    if key in _SWITCHES:
        return number in {0.0, 1.0}
    return 0 <= number <= (float("inf") if key in _NOT_SHARES else 1)


def split_profile(text: str, base: Knobs) -> tuple[str, Knobs]:
    """A host's profile text as (profile name, knobs): `base` with what the text turns.

    Raises:
        EngineError: an unknown knob or a value out of range, listing the known knobs.
    """
    name, _, query = text.partition("?")
    known = tuple(one.name for one in fields(Knobs))
    turned: dict[str, float] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            raise EngineError(f"no knob is called {key!r}; known: {', '.join(known)}")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not _allowed(key, number):
            raise EngineError(f"knob {key}: {value!r} is out of range")
        turned[key] = number
    return name, replace(base, **turned)
