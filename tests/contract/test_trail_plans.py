"""The audit trail is found by index, whatever it is asked for, after years of entries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from broker.domain.audit import Outcome, sealed
from broker.ports import PageQuery, Store
from broker.store import open_store
from broker.store.sql.engine import make_engine, parse_url
from broker.store.sql.trail_tables import audit_entries
from broker.store.trail import ENTRY_FILTERS
from tests.support import bulk
from tests.support.builders import NOW
from tests.support.plans import scanned, statements, steps
from tests.support.trail import FOREVER, make_entry, sealer

ENTRIES = 20_000
BEFORE = f"{NOW + 10_000}:aud_10000"


def rows() -> list[dict[str, Any]]:
    """Sealed entries of a few actors about many things; most of them done."""
    return [
        {
            "id": f"aud_{number:05d}",
            "at": NOW + number,
            "actor": f"usr_{number % 50}",
            "action": ("session.connect", "session.ended", "pool.save")[number % 3],
            "outcome": "refused" if number % 100 == 0 else "done",
            "why": "because",
            "details": "{}",
            "user_id": f"usr_{number % 500}",
            "session_id": f"ses_{number // 3}",
            "desktop_id": f"dsk_{number % 300}",
            "pool_id": f"pol_{number % 10}",
            "host_id": "" if number % 4 else f"hst_{number % 20}",
            "endpoint_id": "" if number % 2 else f"ept_{number % 200}",
            "request_id": f"req_{number}",
            "source": "",
            "number": number + 1,
            "seal": number.to_bytes(32),
        }
        for number in range(ENTRIES)
    ]


async def opened(url: str) -> AsyncIterator[Store]:
    bulk.insert(url, audit_entries, rows())
    store = open_store(url, connections=1)
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=["with statistics", "without"])
async def aged(sqlite_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    async for store in opened(sqlite_url):
        if request.param == "with statistics":
            bulk.run(sqlite_url, "ANALYZE")
        yield store


@pytest.fixture
async def young(postgres_url: str) -> AsyncIterator[Store]:
    async for store in opened(postgres_url):
        yield store


def queries(name: str) -> tuple[PageQuery, ...]:
    value = {"outcome": "refused", "action": "pool.save"}.get(name, f"{name[:3]}_7")
    span = {"since": str(NOW + 10), "until": str(NOW + 15_000)}
    return (
        PageQuery(filters={name: value}),
        PageQuery(filters={name: value}, after=BEFORE),
        PageQuery(filters={name: value, **span}, after=BEFORE),
    )


@pytest.mark.parametrize("name", ENTRY_FILTERS)
async def test_a_filtered_list_is_read_in_the_order_of_its_index(
    aged: Store, sqlite_url: str, name: str
) -> None:
    for query in queries(name):
        with statements() as seen:
            await aged.audit.entries(query)
        ((_, step),) = steps(sqlite_url, seen)
        assert step.startswith(
            f"SEARCH audit_entries USING INDEX audit_entries_by_{name} ({name}=?"
        )


async def test_the_whole_list_is_read_in_the_order_of_time(aged: Store, sqlite_url: str) -> None:
    for query in (PageQuery(), PageQuery(after=BEFORE), PageQuery(filters={"since": str(NOW)})):
        with statements() as seen:
            await aged.audit.entries(query)
        ((_, step),) = steps(sqlite_url, seen)
        assert "USING INDEX audit_entries_by_time" in step


async def seal_some(store: Store) -> None:
    """What the sealer does, and who asks."""
    lease = await sealer(store)
    await store.audit.append([make_entry(90_001), make_entry(90_002, outcome=Outcome.ASKED)])
    await store.audit.settle("aud_90002", Outcome.DONE, "", {})
    number, before = await store.audit.last_seal()
    chain = sealed(before, number, await store.audit.unsealed(FOREVER, 100))
    await store.audit.seal(chain, lease)
    await store.audit.chain(17_000, 10)
    await store.leases.release(lease)
    await store.documents.save("breaker/x", {}, revision=0)
    await store.documents.save("breaker/x", {}, revision=1)
    await store.documents.document("breaker/x")
    await store.documents.documents("breaker/")


async def test_sealing_looks_at_what_is_due_alone(aged: Store, sqlite_url: str) -> None:
    with statements() as seen:
        await seal_some(aged)
    plans = steps(sqlite_url, seen)
    scans = [
        (text, step)
        for text, step in plans
        if scanned(step) in {"audit_entries", "documents"}
        and not step.endswith(("audit_entries_to_seal", "a_number_of_the_chain_is_given_once"))
    ]
    assert scans == []
    assert not any("TEMP B-TREE" in step for _, step in plans)
    assert len({text for text, _ in plans}) > 8


async def test_a_young_postgresql_finds_entries_by_index_too(
    young: Store, postgres_url: str
) -> None:
    with statements() as seen:
        for name in ENTRY_FILTERS:
            for query in queries(name):
                await young.audit.entries(query)
        await young.audit.entries(PageQuery(after=BEFORE))
        await seal_some(young)
    engine: sa.Engine = make_engine(parse_url(postgres_url))
    with engine.connect() as connection:
        plans = {
            text: "\n".join(
                row[0] for row in connection.exec_driver_sql(f"EXPLAIN {text}", values).all()
            )
            for text, values in seen.items()
            if text.lstrip().startswith(("SELECT", "UPDATE"))
        }
    engine.dispose()
    assert [plan for plan in plans.values() if "Seq Scan" in plan] == []
    for name in ENTRY_FILTERS:
        mine = [plan for text, plan in plans.items() if f"{name} = " in text and "LIMIT" in text]
        assert len(mine) == 3
        assert all(f"audit_entries_by_{name}" in plan for plan in mine)
