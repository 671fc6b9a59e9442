"""The audit trail beside what happened: nothing without its entry, and the chain holds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from broker.domain.audit import GENESIS, AuditEntry, Outcome, first_break
from broker.domain.model import Session
from broker.domain.site import SITE_DOCUMENT
from broker.limits import AUDIT_SETTLE_S
from broker.simulation.history import History
from broker.simulation.seams import SimClock
from broker.simulation.watched import WatchedState

ASKED_MS: Final = 240_000
"""how long a request may take from its entry to what it does, while calls are slow and repeated"""
SEALED_MS: Final = 1000 * (AUDIT_SETTLE_S + 30)
"""after which every entry is sealed, also one that nobody settled"""
_NOUNS: Final[Mapping[str, str]] = {
    "directory.save_pool": "pool",
    "directory.save_host": "host",
    "directory.save_rule": "rule",
    "directory.delete_rule": "rule",
    "directory.save_quota": "quota",
    "directory.delete_quota": "quota",
}
"""calls of the store that set something -> the noun of the request's action"""
_DONE: Final = frozenset({Outcome.DONE, Outcome.UNKNOWN, Outcome.ASKED})


class Ledger:
    def __init__(self, history: History, state: WatchedState, clock: SimClock) -> None:
        self._history = history
        self._state = state
        self._clock = clock
        self._moved: list[tuple[str, str]] = []
        self._seen = 0
        self._recent: deque[AuditEntry] = deque()
        """entries of administrators that may still be acted on"""

    def session_changed(self, old: Session | None, new: Session) -> None:
        if old is None or old.state is not new.state:
            self._moved.append((new.id, new.state.value))

    def called(self, name: str, args: tuple[Any, ...]) -> None:
        """The store carried out a call, all of it: what it wrote has its entries now."""
        entries = self._state.audit.entries
        fresh = len(entries) - self._seen
        self._seen = len(entries)
        new = list(islice(reversed(entries.values()), fresh))
        told = {one.session_id for one in new}
        for session_id, state in self._moved:
            if session_id not in told:
                text = f"{session_id} became {state} by {name} without an entry"
                self._history.violated("I21", text)
        self._moved.clear()
        self._recent += [one for one in reversed(new) if one.actor.startswith("usr_")]
        noun = _NOUNS.get(name)
        if name == "documents.save" and args[0] == SITE_DOCUMENT:
            noun = "site"
        if noun is not None:
            self._set(name, noun)

    def _set(self, name: str, noun: str) -> None:
        before = self._clock.now() - ASKED_MS
        while self._recent and self._recent[0].at < before:
            self._recent.popleft()
        asked = [one for one in self._recent if one.action.partition(".")[0] == noun]
        if not any(self._state.audit.entries[one.id].outcome in _DONE for one in asked):
            self._history.violated("I21", f"{name} changed a {noun} that nobody had asked for")

    # ------------------------------------------------------------------- in the end

    def complaints(self, acknowledged: Mapping[str, Counter[str]]) -> list[tuple[str, str]]:
        """`acknowledged`: actor -> action -> how often a broker said that it was done."""
        rows = self._state.audit
        before = self._clock.now() - SEALED_MS
        found = [
            ("L7", f"{one.id} ({one.action}) is not sealed")
            for one in rows.unsealed.values()
            if one.at < before
        ]
        broken, _, _ = first_break(GENESIS, 0, rows.chain)
        if broken is not None:
            found.append(("L7", f"the chain breaks at {broken.number}: {broken.why}"))
        found += [
            ("L7", f"{one.entry.id} is not what was sealed")
            for one in rows.chain
            if rows.entries.get(one.entry.id) != one.entry
        ]
        written = Counter(
            (one.actor, one.action) for one in rows.entries.values() if one.outcome in _DONE
        )
        found += [
            ("I21", f"{actor} was told {count} times that {action} was done, and it is not written")
            for actor, counts in acknowledged.items()
            for action, count in counts.items()
            if written[actor, action] < count
        ]
        return found
