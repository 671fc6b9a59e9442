"""Whose work lies in a desktop, and how often one that failed is started again for it.

A dedicated desktop whose pool keeps it at log-off holds what its owner left there. Such a desktop
is never destroyed because it failed, did not run, or was slow: it is started again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from broker import limits
from broker.domain.model import Instant, LogOff, Pool, PoolKind

_DOUBLINGS_MAX: Final = 30


def keeps_work(pool: Pool, owner_id: str | None) -> bool:
    """Whether a desktop of this pool and this owner holds a person's work."""
    dedicated = pool.kind is PoolKind.DEDICATED and pool.log_off is LogOff.KEEP
    return dedicated and owner_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A failed desktop was started again `tries` times in a row; the next time is not before
    `next_at`."""

    tries: int
    next_at: Instant


def pause_s(tries: int) -> int:
    """Seconds between the `tries`-th start of a failed desktop and the next one."""
    doubled = limits.RECOVER_PAUSE_S << min(tries - 1, _DOUBLINGS_MAX)
    return min(doubled, limits.RECOVER_PAUSE_S_MAX)


def is_due(recoveries: Mapping[str, Recovery], desktop_id: str, now: Instant) -> bool:
    """Whether this failed desktop may be started again now."""
    known = recoveries.get(desktop_id)
    return known is None or known.next_at <= now


def tried(
    recoveries: Mapping[str, Recovery], desktop_ids: Iterable[str], now: Instant
) -> dict[str, Recovery]:
    """What is remembered once these were started. One that has run for RECOVER_PAUSE_S_MAX since
    it might have been started again is forgotten: its next failure is its first."""
    kept = {
        key: one
        for key, one in recoveries.items()
        if one.next_at + limits.RECOVER_PAUSE_S_MAX * 1000 > now
    }
    for desktop_id in desktop_ids:
        tries = kept[desktop_id].tries + 1 if desktop_id in kept else 1
        kept[desktop_id] = Recovery(tries=tries, next_at=now + pause_s(tries) * 1000)
    return kept
