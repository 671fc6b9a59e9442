"""Audit entries, chains, leases and whole dumps for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from broker.domain.audit import AuditEntry, Outcome, SealedEntry, sealed
from broker.domain.model import WorkLease
from broker.ports import Store, TableDump
from tests.support.builders import NOW

Row = dict[str, Any]
FOREVER = NOW + 10**9


def make_entry(number: int = 1, **changes: Any) -> AuditEntry:
    """Entry `number`, done a millisecond after the one before it."""
    values: dict[str, Any] = {
        "id": f"aud_{number:04d}",
        "at": NOW + number,
        "actor": "usr_1",
        "action": "session.connect",
        "outcome": Outcome.DONE,
        "why": "because",
    }
    return AuditEntry(**(values | changes))


async def sealer(store: Store, holder: str = "a") -> WorkLease:
    """A lease that whoever seals needs."""
    lease = await store.leases.acquire("audit", holder, NOW, FOREVER)
    assert lease is not None
    return lease


async def seal_all(store: Store, lease: WorkLease) -> tuple[SealedEntry, ...]:
    """Seal whatever is due."""
    number, before = await store.audit.last_seal()
    chain = sealed(before, number, await store.audit.unsealed(NOW, 1000))
    await store.audit.seal(chain, lease)
    return chain


async def dumped(store: Store) -> list[TableDump]:
    return [part async for part in store.backup.dump()]


def by_table(parts: Iterable[TableDump]) -> dict[str, list[Row]]:
    """The rows of each table, in the order of the dump."""
    found: dict[str, list[Row]] = {}
    for part in parts:
        found.setdefault(part.table, []).extend(dict(row) for row in part.rows)
    return found


async def flowing(parts: Iterable[TableDump]) -> AsyncIterator[TableDump]:
    for part in parts:
        yield part
