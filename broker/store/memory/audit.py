"""The audit trail, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.domain.audit import GENESIS, AuditEntry, Outcome, SealedEntry, first_break
from broker.domain.errors import ConflictError
from broker.domain.model import Instant, WorkLease
from broker.ports import Page, PageQuery
from broker.store.memory.leases import hold_lease
from broker.store.trail import entry_query, place_of, settled, stored


@dataclass(slots=True, kw_only=True)
class AuditRows:
    """Entries by id; those without a seal are in `unsealed` too."""

    entries: dict[str, AuditEntry] = field(default_factory=dict)
    unsealed: dict[str, AuditEntry] = field(default_factory=dict)
    chain: list[SealedEntry] = field(default_factory=list)


def insert_entries(rows: AuditRows, entries: Iterable[AuditEntry]) -> None:
    """Store entries with the change they tell of; ids that are known are left as they are."""
    for entry in entries:
        if entry.id not in rows.entries:
            _put(rows, stored(entry))


def _put(rows: AuditRows, entry: AuditEntry) -> None:
    rows.entries[entry.id] = entry
    rows.unsealed[entry.id] = entry


def _place(entry: AuditEntry) -> tuple[Instant, str]:
    return entry.at, entry.id


class MemoryAudit:
    """Implements broker.ports.AuditStore."""

    def __init__(self, rows: AuditRows, leases: Mapping[str, WorkLease]) -> None:
        self._rows = rows
        self._leases = leases

    async def append(self, entries: Sequence[AuditEntry]) -> None:
        insert_entries(self._rows, entries)

    async def settle(
        self,
        entry_id: str,
        outcome: Outcome,
        why: str,
        details: Mapping[str, object],
        about: Mapping[str, str] | None = None,
    ) -> bool:
        entry = self._rows.unsealed.get(entry_id)
        if entry is None or entry.outcome is not Outcome.ASKED:
            return False
        _put(self._rows, settled(entry, outcome, why, details, about or {}))
        return True

    async def unsealed(self, asked_before: Instant, limit: int) -> tuple[AuditEntry, ...]:
        due = (
            entry
            for entry in self._rows.unsealed.values()
            if entry.outcome is not Outcome.ASKED or entry.at < asked_before
        )
        return tuple(sorted(due, key=_place)[:limit])

    async def last_seal(self) -> tuple[int, bytes]:
        if not self._rows.chain:
            return 0, GENESIS
        last = self._rows.chain[-1]
        return last.number, last.seal

    async def seal(self, chain: Sequence[SealedEntry], lease: WorkLease) -> None:
        hold_lease(self._leases, lease)
        number, before = await self.last_seal()
        if first_break(before, number, chain)[0] is not None:
            raise ConflictError("the chain does not start behind the last seal")
        ids = {one.entry.id for one in chain}
        for one in chain:
            known = self._rows.unsealed.get(one.entry.id)
            if known is None or known.outcome is Outcome.ASKED or len(ids) < len(chain):
                raise ConflictError("an entry is sealed already, or not settled")
        for one in chain:
            self._rows.chain.append(replace(one, entry=self._rows.unsealed.pop(one.entry.id)))

    async def chain(self, after: int, limit: int) -> tuple[SealedEntry, ...]:
        return tuple(self._rows.chain[after : after + limit])

    async def entries(self, query: PageQuery) -> Page[AuditEntry]:
        asked = entry_query(query)
        found = [
            entry
            for entry in self._rows.entries.values()
            if (asked.after is None or _place(entry) < asked.after)
            and (asked.since is None or entry.at >= asked.since)
            and (asked.until is None or entry.at < asked.until)
            and all(getattr(entry, name) == value for name, value in asked.equal.items())
        ]
        found.sort(key=_place, reverse=True)
        items = tuple(found[: asked.limit])
        more = len(found) > asked.limit
        return Page(items=items, next_after=place_of(items[-1]) if more else None)
