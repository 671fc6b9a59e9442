"""Rows of the trail changed behind the broker's back, in real databases: the check finds where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from broker.domain.audit import AuditEntry, Outcome
from broker.events.memory import MemoryEvents
from broker.ports import PageQuery, Store
from broker.services.audit import Anchor, Audit
from broker.services.kit import Kit
from broker.services.shared_work import SharedWork
from broker.store import open_store
from tests.support.builders import NOW
from tests.support.world import CountedIds, HandClock, SeededChance

ENTRIES = 12


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The addresses of real databases: in memory nobody can change a row."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    found: str = request.getfixturevalue(name)
    return found


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = open_store(url, connections=4)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def audit(store: Store) -> Audit:
    """A sealed trail of ENTRIES entries."""
    kit = Kit(
        store=store,
        clock=HandClock(),
        ids=CountedIds(),
        chance=SeededChance(),
        events=MemoryEvents(),
        installation_id="tri_test",
    )
    made = Audit(kit, SharedWork(kit))
    await store.audit.append([entry(number) for number in range(1, ENTRIES + 1)])
    assert await made.seal() == ENTRIES
    return made


def entry(number: int, **changes: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "id": f"aud_{number:04d}",
        "at": NOW + number,
        "actor": "usr_1",
        "action": "session.connect",
        "outcome": Outcome.DONE,
        "why": f"given LAB-{number:02d}",
        "details": {"place": number},
    }
    return AuditEntry(**(values | changes))


def run(url: str, *statements: str, **values: Any) -> None:
    """As somebody with the database's password would."""
    driver = url.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(driver)
    with engine.begin() as connection:
        for statement in statements:
            given = {name: one for name, one in values.items() if f":{name}" in statement}
            connection.execute(sa.text(statement), given)
    engine.dispose()


async def where(audit: Audit) -> int | None:
    broken = (await audit.check()).broken
    return None if broken is None else broken.number


async def test_a_trail_that_nobody_touched_holds(audit: Audit) -> None:
    checked = await audit.check()
    assert (checked.sealed, checked.last_number, checked.broken) == (ENTRIES, ENTRIES, None)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("why", "given LAB-99"),
        ("actor", "usr_2"),
        ("at", NOW),
        ("outcome", "refused"),
        ("details", '{"place":6}'),
        ("details", "no JSON"),
        ("source", "10.0.0.9"),
        ("session_id", "ses_1"),
        ("seal", bytes(32)),
    ],
)
async def test_a_changed_row_is_found(audit: Audit, url: str, column: str, value: Any) -> None:
    run(url, f"UPDATE audit_entries SET {column} = :value WHERE number = 5", value=value)
    assert await where(audit) == 5


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        "why = x'ff00'",
        "why = CAST(x'ff41' AS TEXT)",
        "at = 'later'",
        "outcome = 'bogus'",
        "details = x'00ff'",
        "actor = x'00ff'",
        "id = x'00ff'",
        "seal = 'a text'",
        "number = 'five'",
    ],
)
async def test_a_row_of_another_type_is_found_and_stops_nothing(
    audit: Audit, store: Store, url: str, change: str
) -> None:
    """PostgreSQL keeps types by itself."""
    run(
        url,
        "PRAGMA ignore_check_constraints = ON",
        f"UPDATE audit_entries SET {change} WHERE number = 5",
    )
    assert await where(audit) == 5
    page = await store.audit.entries(PageQuery(limit=ENTRIES))
    assert len(page.items) == ENTRIES
    assert len(await store.audit.chain(0, ENTRIES)) == ENTRIES
    await store.audit.append([entry(ENTRIES + 1)])
    assert await audit.seal() == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_an_odd_row_without_a_seal_is_sealed_as_it_is(
    audit: Audit, store: Store, url: str
) -> None:
    await store.audit.append([entry(20), entry(21)])
    run(url, "UPDATE audit_entries SET why = x'ff' WHERE id = 'aud_0020'")
    assert await audit.seal() == 2
    assert await where(audit) is None
    [odd] = [one for one in await store.audit.chain(ENTRIES, 9) if one.entry.id == "aud_0020"]
    assert odd.entry.details["unreadable"] == {"why": "ff"}
    run(url, "UPDATE audit_entries SET why = 'mended' WHERE id = 'aud_0020'")
    assert await where(audit) == odd.number


async def test_a_deleted_row_is_found(audit: Audit, url: str) -> None:
    run(url, "DELETE FROM audit_entries WHERE number = 5")
    checked = await audit.check()
    assert checked.broken is not None
    assert checked.broken.number == 5
    assert "missing" in checked.broken.why
    assert checked.before is not None
    assert checked.before.entry.why == "given LAB-04"


async def test_a_deleted_row_is_found_when_the_others_close_up(audit: Audit, url: str) -> None:
    run(url, "DELETE FROM audit_entries WHERE number = 5")
    for number in range(6, ENTRIES + 1):
        run(
            url,
            "UPDATE audit_entries SET number = :to WHERE number = :of",
            of=number,
            to=number - 1,
        )
    assert await where(audit) == 5


async def test_an_inserted_row_is_found(audit: Audit, url: str) -> None:
    for number in range(ENTRIES, 4, -1):
        run(
            url,
            "UPDATE audit_entries SET number = :to WHERE number = :of",
            of=number,
            to=number + 1,
        )
    run(
        url,
        "INSERT INTO audit_entries SELECT 'aud_extra', at, actor, action, outcome, 'made up', "
        "details, user_id, session_id, desktop_id, pool_id, host_id, endpoint_id, request_id, "
        "source, 5, :seal FROM audit_entries WHERE number = 4",
        seal=b"\x07" * 32,
    )
    assert await where(audit) == 5


async def test_swapped_rows_are_found(audit: Audit, url: str) -> None:
    run(
        url,
        "UPDATE audit_entries SET number = 1000 WHERE number = 3",
        "UPDATE audit_entries SET number = 3 WHERE number = 9",
        "UPDATE audit_entries SET number = 9 WHERE number = 1000",
    )
    assert await where(audit) == 3


async def test_a_cut_end_is_found_by_a_seal_that_was_kept(audit: Audit, url: str) -> None:
    last = await audit.check()
    kept = Anchor(number=last.last_number, seal=last.last_seal)
    run(url, "DELETE FROM audit_entries WHERE number > 10")
    assert await where(audit) is None
    broken = (await audit.check(anchor=kept)).broken
    assert broken is not None
    assert broken.number == ENTRIES


async def test_what_was_made_is_added_to_an_entry_when_it_is_settled(store: Store) -> None:
    await store.audit.append([entry(1, outcome=Outcome.ASKED, user_id="usr_7")])
    about = {"user_id": "usr_8", "pool_id": "pol_3"}
    assert await store.audit.settle("aud_0001", Outcome.DONE, "done", {}, about)
    (found,) = await store.audit.unsealed(NOW, 10)
    assert (found.user_id, found.pool_id) == ("usr_7", "pol_3")
    await store.audit.append([entry(2, outcome=Outcome.ASKED)])
    with pytest.raises(ValueError, match="not about"):
        await store.audit.settle("aud_0002", Outcome.DONE, "done", {}, {"why": "x"})
