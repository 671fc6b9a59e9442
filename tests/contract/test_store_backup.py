"""Dumps are one instant of everything; a restore is all or nothing, and revives no promise."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from broker.domain.audit import GENESIS, AuditEntry, first_break
from broker.domain.errors import BadBackupError, ConflictError, UnavailableError
from broker.domain.lifecycle import DesktopEvent, EndpointEvent, SnapshotEvent
from broker.domain.model import (
    DesktopState,
    EndpointState,
    JobState,
    SessionState,
    Ticket,
)
from broker.domain.snapshots import SnapshotState
from broker.limits import EXPORT_BATCH, GENERATION_STEP
from broker.ports import OneUseSecret, PageQuery, Store, TableDump
from broker.store import open_store
from broker.store.memory import backup as memory_backup
from broker.store.memory.state import State
from broker.store.restoring import RESTORED
from broker.store.sql import dumping
from broker.store.sql.schema import METADATA
from tests.contract.test_store_snapshots import add as add_snapshot
from tests.contract.test_store_snapshots import made as made_snapshot
from tests.contract.test_store_snapshots import one_desktop as kept_desktop
from tests.support.builders import NOW
from tests.support.busy_site import ENTRY, LATER, live_through
from tests.support.postgres import PostgresServer
from tests.support.stores import (
    IDV,
    claim_one,
    claimed_session,
    fill,
    make_ready,
    make_request,
    make_token,
    new_desktop,
    ready_desktops,
)
from tests.support.trail import (
    by_table,
    dumped,
    flowing,
    make_entry,
    seal_all,
    sealer,
)


@pytest.fixture(scope="module")
def second_database(postgres: PostgresServer) -> str:
    url = postgres.create()

    async def migrate() -> None:
        store = open_store(url)
        await store.open()
        await store.close()

    asyncio.run(migrate())
    return url


@pytest.fixture
def second_url(store_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    url = "memory://"
    if store_url.startswith("sqlite"):
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "second.db")
        url = f"sqlite:///{tmp_path}/second.db"
    elif store_url.startswith("postgresql"):
        url = request.getfixturevalue("second_database")
        postgres: PostgresServer = request.getfixturevalue("postgres")
        postgres.empty(url)
    return url


@pytest.fixture
async def empty(second_url: str) -> AsyncIterator[Store]:
    """A second store of the same kind, with nothing in it."""
    store = open_store(second_url, connections=2)
    await store.open()
    yield store
    await store.close()


async def restored(store: Store, into: Store, entry: AuditEntry = ENTRY) -> None:
    parts = await dumped(store)
    await into.backup.restore(flowing(parts), entry=entry, generation_step=GENERATION_STEP)


# ------------------------------------------------------------------------ what comes back


LASTING: tuple[Callable[[Store], Awaitable[Any]], ...] = (
    lambda one: one.directory.users(PageQuery()),
    lambda one: one.directory.groups(PageQuery()),
    lambda one: one.directory.images(),
    lambda one: one.directory.pools(),
    lambda one: one.directory.rules(),
    lambda one: one.directory.quotas(),
    lambda one: one.directory.all_names(),
    lambda one: one.directory.password_hash("usr_1"),
    lambda one: one.campaigns.campaigns(PageQuery()),
    lambda one: one.documents.documents(""),
    lambda one: one.credentials.installation_secret("installation", b"another"),
    lambda one: one.audit.last_seal(),
    lambda one: one.audit.chain(0, 100),
)


async def test_what_lasts_comes_back_as_it_was(store: Store, empty: Store) -> None:
    await live_through(store)
    await restored(store, empty)
    for read in LASTING:
        assert await read(empty) == await read(store)
    newest = (await empty.audit.entries(PageQuery())).items
    old = (await store.audit.entries(PageQuery())).items
    assert newest == (ENTRY, *old)
    chain = await empty.audit.chain(0, 100)
    assert first_break(GENESIS, 0, chain)[0] is None
    assert len(chain) > 3


async def test_a_restored_site_goes_on_sealing_and_working(store: Store, empty: Store) -> None:
    await live_through(store)
    await restored(store, empty)
    lease = await empty.leases.acquire("audit", "new", LATER, LATER + 1000)
    assert lease is not None
    await seal_all(empty, lease)
    assert first_break(GENESIS, 0, await empty.audit.chain(0, 1000))[0] is None
    await ready_desktops(empty, [50])
    outcome = await claim_one(empty, make_request(1), LATER)
    assert outcome.session is not None
    assert outcome.session.state is SessionState.DELIVERING
    back = await make_ready(empty, new_desktop(1, IDV))
    assert back.state is DesktopState.READY


async def test_sessions_that_were_not_over_are(store: Store, empty: Store) -> None:
    await live_through(store)
    before = {one.id: one for one in (await store.sessions.sessions(PageQuery())).items}
    await restored(store, empty)
    after = (await empty.sessions.sessions(PageQuery())).items
    assert {one.id for one in after} == before.keys()
    states = {before[one.id].state: one.state for one in after}
    assert states == {
        SessionState.ACTIVE: SessionState.FAILED,
        SessionState.DELIVERING: SessionState.FAILED,
        SessionState.QUEUED: SessionState.CANCELLED,
        SessionState.FAILED: SessionState.FAILED,
    }
    for one in after:
        old = before[one.id]
        if old.ended_at is not None:
            assert one == old
        else:
            assert (one.ended_at, one.deadline_at, one.lease_until) == (LATER, None, None)
            assert one.why == RESTORED
            assert one.revision == old.revision + 1


async def test_machines_are_cleared_and_places_wait_for_their_endpoints(
    store: Store, empty: Store
) -> None:
    await live_through(store)
    before = {one.id: one for one in (await store.desktops.desktops(PageQuery())).items}
    await restored(store, empty)
    after = {one.id: one for one in (await empty.desktops.desktops(PageQuery())).items}
    assert after.keys() == before.keys()
    for desktop_id, one in after.items():
        assert one.generation == before[desktop_id].generation + GENERATION_STEP
    assert {one.id for one in after.values() if one.state is DesktopState.DELETING} == {
        "dsk_library_4"
    }
    assert after["dsk_library_4"].deadline_at == LATER
    rest = [one for one in after.values() if one.state is not DesktopState.DELETING]
    assert {one.state for one in rest if one.host_id} == {DesktopState.FAILED}
    assert {one.state for one in rest if one.endpoint_id} == {DesktopState.UNAVAILABLE}
    assert all((one.deadline_at, one.target, one.note) == (None, None, RESTORED) for one in rest)
    endpoints = (await empty.endpoints.endpoints(PageQuery())).items
    assert {one.state for one in endpoints} == {EndpointState.OFFLINE, EndpointState.ENROLLED}


async def test_work_that_was_under_way_is_cancelled(store: Store, empty: Store) -> None:
    await live_through(store)
    before = {one.id: one for one in (await store.jobs.jobs(PageQuery())).items}
    states = {JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED}
    assert {one.state for one in before.values()} == states
    await restored(store, empty)
    for one in (await empty.jobs.jobs(PageQuery())).items:
        old = before[one.id]
        if old.state is JobState.SUCCEEDED:
            assert one == old
        else:
            assert (one.state, one.finished_at, one.error) == (JobState.CANCELLED, LATER, RESTORED)


# -------------------------------------------------------------------- what was given out


async def test_no_token_ticket_or_secret_works_after(store: Store, empty: Store) -> None:
    await live_through(store)
    token = make_token(expires_at=LATER * 2)
    await store.credentials.add_token(token)
    session = await claimed_session(store, make_request(5, IDV, endpoint_id="ept_2"))
    ticket = Ticket(
        id="tkt_x",
        secret_hash=b"t" * 32,
        session_id=session.id,
        user_id="usr_5",
        expires_at=LATER * 2,
    )
    await store.credentials.add_ticket(ticket)
    secret = OneUseSecret(secret_hash=b"s" * 32, kind="setup", payload={}, expires_at=LATER * 2)
    await store.credentials.add_secrets([secret])
    await restored(store, empty)
    found = await empty.credentials.identities([token.secret_hash], LATER)
    assert found == {}
    assert await empty.credentials.redeem_ticket(ticket.secret_hash, LATER) is None
    assert await empty.credentials.use_secret("setup", secret.secret_hash, LATER) is None
    assert await store.credentials.identities([token.secret_hash], LATER) != {}
    assert await store.credentials.redeem_ticket(ticket.secret_hash, LATER) == ticket
    assert await store.credentials.use_secret("setup", secret.secret_hash, LATER) == secret


async def test_an_idempotency_key_of_before_is_free(store: Store, empty: Store) -> None:
    await live_through(store)
    await restored(store, empty)
    await ready_desktops(empty, [50])
    outcome = await claim_one(empty, make_request(1, idempotency_key="k"), NOW)
    assert outcome.new


async def test_a_lease_of_before_is_worth_nothing(store: Store, empty: Store) -> None:
    await live_through(store)
    old = await sealer(store)
    await restored(store, empty)
    chain = await empty.audit.chain(0, 1)
    with pytest.raises(ConflictError):
        await empty.audit.seal(chain, old)
    (lease,) = await empty.leases.leases()
    assert (lease.holder, lease.fence) == ("", old.fence + GENERATION_STEP)
    taken = await empty.leases.acquire("audit", old.holder, NOW, LATER)
    assert taken is not None
    assert taken.fence == old.fence + GENERATION_STEP + 1


async def test_what_an_endpoint_says_of_an_old_generation_is_not_taken(
    store: Store, empty: Store
) -> None:
    await live_through(store)
    old = await store.desktops.desktop("dsk_laboratory_1")
    assert old is not None
    await restored(store, empty)
    await empty.endpoints.presence("ept_1", EndpointEvent.CONNECTED, LATER)
    with pytest.raises(Exception, match="generation"):
        await empty.desktops.advance(
            old.id, DesktopEvent.REPORTED_READY, LATER, generation=old.generation
        )


# ------------------------------------------------------------------------- all or nothing


async def test_only_an_empty_store_is_filled(store: Store, empty: Store) -> None:
    await live_through(store)
    parts = await dumped(store)
    await empty.documents.save("site", {}, revision=0)
    with pytest.raises(ConflictError, match="empty"):
        await empty.backup.restore(flowing(parts), entry=ENTRY, generation_step=1)
    assert len(await empty.documents.documents("")) == 1
    assert (await empty.directory.users(PageQuery())).items == ()


async def broken_off(parts: list[TableDump], after: int) -> AsyncIterator[TableDump]:
    for part in parts[:after]:
        yield part
    raise UnavailableError("the file ends here")


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
async def test_a_restore_that_breaks_off_leaves_the_store_empty(
    store: Store, empty: Store, share: float
) -> None:
    await live_through(store)
    parts = await dumped(store)
    with pytest.raises(UnavailableError, match="ends here"):
        await empty.backup.restore(
            broken_off(parts, int(len(parts) * share)), entry=ENTRY, generation_step=1
        )
    assert sum(map(len, rows_of(await dumped(empty)).values())) == 0
    await empty.backup.restore(flowing(parts), entry=ENTRY, generation_step=1)
    assert len((await empty.directory.users(PageQuery())).items) == 10


def rows_of(parts: list[TableDump]) -> dict[str, list[dict[str, Any]]]:
    """By table, without the moves, which every database has."""
    return {name: rows for name, rows in by_table(parts).items() if not name.endswith("_moves")}


async def test_a_restore_that_nobody_waits_for_any_more_leaves_the_store_empty(
    store: Store, empty: Store
) -> None:
    await live_through(store)
    parts = await dumped(store)
    halfway = asyncio.Event()

    async def slow() -> AsyncIterator[TableDump]:
        for part in parts[:5]:
            yield part
        halfway.set()
        await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(
        empty.backup.restore(slow(), entry=ENTRY, generation_step=1)
    )
    await halfway.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await empty.backup.restore(flowing(parts), entry=ENTRY, generation_step=1)


Damage = Callable[[dict[str, Any]], dict[str, Any]]
DAMAGES: dict[str, tuple[str, Damage]] = {
    "another type": ("users", lambda row: row | {"created_at": "yesterday"}),
    "a missing value": ("users", lambda row: row | {"username": None}),
    "a missing column": ("groups", lambda row: {k: v for k, v in row.items() if k != "title"}),
    "a column too many": ("leases", lambda row: row | {"colour": "red"}),
    "no base64": ("installation_secrets", lambda row: row | {"value": "é"}),
    "an unknown state": ("sessions", lambda row: row | {"state": "dancing"}),
    "a row twice": ("users", lambda row: row | {"id": "usr_1"}),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_rows_that_cannot_be_are_refused_and_nothing_is_stored(
    store: Store, empty: Store, store_url: str, damage: str
) -> None:
    in_memory = store_url.startswith("memory")
    await live_through(store)
    parts = await dumped(store)
    table, change = DAMAGES[damage]
    table = table if in_memory or table != "leases" else "work_leases"
    spoiled = [
        replace(part, rows=tuple(change(dict(row)) for row in part.rows))
        if part.table == table
        else part
        for part in parts
    ]
    assert spoiled != parts
    with pytest.raises(BadBackupError):
        await empty.backup.restore(flowing(spoiled), entry=ENTRY, generation_step=1)
    assert sum(map(len, rows_of(await dumped(empty)).values())) == 0


async def test_a_table_that_nobody_knows_is_refused(store: Store) -> None:
    for name in ("passwd", "tokens", "schema_version", "sessions; DROP TABLE users"):
        part = TableDump(table=name, rows=({"id": "x"},))
        with pytest.raises(BadBackupError):
            await store.backup.restore(flowing([part]), entry=ENTRY, generation_step=1)


# ----------------------------------------------------------------------- one instant


async def test_a_dump_is_of_one_instant_while_others_write(store: Store) -> None:
    await fill(store, users=40)
    await ready_desktops(store, range(40))
    first = [await claimed_session(store, make_request(n)) for n in range(1, 11)]
    dump = store.backup.dump()
    parts = [await anext(dump)]
    for number in range(11, 31):
        await claimed_session(store, make_request(number))
    await store.documents.save("late", {}, revision=0)
    parts += [part async for part in dump]
    rows = by_table(parts)
    assert {row["id"] for row in rows["sessions"]} == {one.id for one in first}
    taken = [row for row in rows["desktops"] if row["state"] == "assigned"]
    assert len(taken) == 10
    assert "documents" not in rows
    assert {row["session_id"] for row in rows["audit_entries"]} == {one.id for one in first}


async def test_a_dump_that_nobody_reads_to_its_end_is_let_go(store: Store) -> None:
    await fill(store)
    for _ in range(20):
        dump = store.backup.dump()
        await anext(dump)
        await dump.aclose()
    await store.ping()


async def test_a_big_table_comes_in_parts_and_whole(store: Store, empty: Store) -> None:
    entries = [make_entry(n, at=NOW + n % 7) for n in range(1, 2 * EXPORT_BATCH + 5)]
    await store.audit.append(entries)
    parts = [part for part in await dumped(store) if part.table == "audit_entries"]
    assert [len(part.rows) for part in parts] == [EXPORT_BATCH, EXPORT_BATCH, 4]
    await restored(store, empty)
    ids = {row["id"] for row in by_table(await dumped(empty))["audit_entries"]}
    assert ids == {entry.id for entry in entries} | {ENTRY.id}


# -------------------------------------------------------------------------- completeness


def test_every_table_is_dumped_or_left_out_for_a_reason() -> None:
    assert set(dumping.DUMPED) | set(dumping.LEFT_OUT) == set(METADATA.tables.values())
    assert not set(dumping.DUMPED) & set(dumping.LEFT_OUT)
    assert all(dumping.LEFT_OUT.values())
    for table in dumping.DUMPED:
        before = dumping.DUMPED[: dumping.DUMPED.index(table)]
        assert {key.column.table for key in table.foreign_keys} <= {*before, table}


def test_every_field_of_the_memory_store_is_dumped_or_left_out_for_a_reason() -> None:
    known = {field.name for field in fields(State)}
    assert memory_backup.DUMPED.keys() | memory_backup.LEFT_OUT.keys() == known
    assert not memory_backup.DUMPED.keys() & memory_backup.LEFT_OUT.keys()


def test_columns_are_of_kinds_that_are_known_to_come_through() -> None:
    """A type that nobody thought of would come back as another one, or not at all."""
    kinds = {type(column.type).__name__ for table in dumping.DUMPED for column in table.columns}
    assert kinds == {"Text", "BigInteger", "Integer", "Boolean", "Double", "LargeBinary"}


async def test_a_dump_goes_to_another_kind_of_database_and_back(
    sqlite_url: str, postgres_url: str, tmp_path: Path
) -> None:
    urls = (sqlite_url, postgres_url, f"sqlite:///{tmp_path}/back.db")
    stores = [open_store(url, connections=2) for url in urls]
    for store in stores:
        await store.open()
    await live_through(stores[0])
    first, second, third = stores
    await restored(first, second)
    there = await dumped(second)
    # nothing is under way any more: from here on a restore changes generations and fences alone
    await third.backup.restore(flowing(there), entry=ENTRY, generation_step=0)
    assert await dumped(third) == there
    assert len(by_table(there)) > 15
    for store in stores:
        await store.close()


async def test_whole_snapshots_fit_their_desktops_and_those_under_way_have_failed(
    store: Store, empty: Store
) -> None:
    desktop = await kept_desktop(store)
    ready, making = await made_snapshot(store, 1), await add_snapshot(store, 2)
    await restored(store, empty)
    generation = desktop.generation + GENERATION_STEP
    assert await empty.snapshots.of_desktop(desktop.id) == (
        replace(ready, generation=generation),
        replace(
            making,
            generation=generation,
            state=SnapshotState.FAILED,
            why=RESTORED,
            changed_at=ENTRY.at,
        ),
    )
    dropping = await empty.snapshots.advance(making.id, SnapshotEvent.DROP_ASKED, LATER)
    assert dropping.state is SnapshotState.DROPPING
