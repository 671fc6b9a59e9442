"""When the database refuses, stalls or goes away: what callers see, and what is tried again."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
import sqlalchemy as sa

from broker.domain.errors import (
    AlreadyExistsError,
    BadRequestError,
    BusyError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from broker.limits import STORE_TRIES_MAX
from broker.ports import Store
from broker.store import open_store
from broker.store.sql import runner
from broker.store.sql import tables as t
from broker.store.sql.engine import parse_url
from broker.store.sql.faults import Fault, WorldMoved, fault_of, told
from broker.store.sql.runner import Database
from tests.support.builders import NOW
from tests.support.postgres import PostgresServer
from tests.support.stores import fill, make_group, make_token, make_user

_GROUP = sa.insert(t.groups)
_COUNT = sa.select(sa.func.count()).select_from(t.groups)


def group_row(number: int = 1) -> dict[str, object]:
    group = make_group(number)
    return {
        "id": group.id,
        "name": group.name,
        "title": group.title,
        "search": group.name,
        "created_at": NOW,
    }


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def sql_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
async def database(sql_url: str) -> AsyncIterator[Database]:
    database = Database(parse_url(sql_url), connections=2)
    yield database
    await database.close()


@pytest.fixture
async def on_postgres(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(parse_url(postgres_url), connections=1)
    yield database
    await database.close()


async def groups(database: Database) -> int:
    count: int = await database.read(lambda connection: connection.execute(_COUNT).scalar_one())
    return count


# ------------------------------------------------------------------------- transactions


async def test_work_that_fails_leaves_nothing_behind(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(_GROUP, group_row())
        raise NotFoundError("not today")

    with pytest.raises(NotFoundError, match="not today"):
        await database.transaction(work)
    assert await groups(database) == 0


async def test_a_lost_race_is_run_again_until_it_is_won(database: Database) -> None:
    runs = 0

    def work(connection: sa.Connection) -> int:
        nonlocal runs
        runs += 1
        connection.execute(_GROUP, group_row(runs))
        if runs < STORE_TRIES_MAX:
            raise WorldMoved
        return runs

    assert await database.transaction(work) == STORE_TRIES_MAX
    assert await groups(database) == 1


async def test_a_race_that_is_always_lost_is_given_up(database: Database) -> None:
    runs = 0

    def work(_: sa.Connection) -> None:
        nonlocal runs
        runs += 1
        raise WorldMoved

    with pytest.raises(BusyError) as caught:
        await database.transaction(work)
    assert runs == STORE_TRIES_MAX
    assert caught.value.retry_after_s


async def test_a_duplicate_is_run_again_only_where_that_is_asked(database: Database) -> None:
    runs = 0

    def work(connection: sa.Connection) -> None:
        nonlocal runs
        runs += 1
        connection.execute(_GROUP, group_row())

    await database.transaction(work)
    with pytest.raises(AlreadyExistsError):
        await database.transaction(work)
    assert runs == 2
    with pytest.raises(AlreadyExistsError):
        await database.transaction(work, again_on_duplicate=True)
    assert runs == 2 + STORE_TRIES_MAX


async def test_a_view_sees_one_moment(database: Database) -> None:
    loop = asyncio.get_running_loop()

    def write(connection: sa.Connection) -> None:
        connection.execute(_GROUP, group_row())

    def work(connection: sa.Connection) -> tuple[int, int]:
        before = connection.execute(_COUNT).scalar_one()
        asyncio.run_coroutine_threadsafe(database.statement(write), loop).result(30)
        return before, connection.execute(_COUNT).scalar_one()

    assert await database.view(work) == (0, 0)
    assert await groups(database) == 1


async def test_a_view_cannot_write(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(_GROUP, group_row())

    with pytest.raises(UnavailableError):
        await database.view(work)
    assert await groups(database) == 0


# ------------------------------------------------------------------------------- limits


async def test_past_its_limit_of_calls_the_store_is_busy(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STORE_CALLS_MAX", 1)
    database = Database(parse_url(sql_url), connections=1)
    going, go = threading.Event(), threading.Event()

    def work(_: sa.Connection) -> None:
        going.set()
        go.wait(30)

    first = asyncio.ensure_future(database.statement(work))
    await asyncio.to_thread(going.wait, 30)
    with pytest.raises(BusyError):
        await database.statement(work)
    go.set()
    await first
    assert await groups(database) == 0
    await database.close()


async def test_a_call_that_nobody_waits_for_makes_room_again(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STORE_CALLS_MAX", 2)
    database = Database(parse_url(sql_url), connections=1)
    for _ in range(5):
        call = asyncio.ensure_future(database.read(lambda connection: connection.execute(_COUNT)))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # the thread may be at work for a moment yet; what counts is that the place comes back
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await groups(database) == 0
                    break
                except BusyError:
                    await asyncio.sleep(0.01)
    await database.close()


async def test_a_closed_store_leaves_no_thread(sql_url: str) -> None:
    store = open_store(sql_url, connections=3)
    await store.open()
    await asyncio.gather(*(store.ping() for _ in range(20)))
    assert any(one.name.startswith("store") for one in threading.enumerate())
    await store.close()
    assert not any(one.name.startswith("store") for one in threading.enumerate())
    with pytest.raises(UnavailableError):
        await store.ping()


# -------------------------------------------------------------------------------- SQLite


async def test_another_process_that_writes_for_too_long_makes_writers_wait_in_vain(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.store.sql.engine.STORE_LOCK_S", 0.05)
    store = open_store(sqlite_url)
    await store.open()
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    user = make_user(1, group_ids=())
    with pytest.raises(UnavailableError, match="busy"):
        await store.directory.add_user(user, None)
    with pytest.raises(UnavailableError, match="busy"):
        await store.credentials.revoke_token("tok_1")
    assert await store.directory.user(user.id) is None  # readers go on beside a writer
    other.execute("ROLLBACK")
    other.close()
    await store.directory.add_user(user, None)
    assert await store.directory.user(user.id) == user
    await store.close()


# ---------------------------------------------------------------------------- PostgreSQL


def end_connections(postgres: PostgresServer, url: str) -> None:
    """What a restart of the server does to its clients."""
    with postgres.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_reads_and_transactions_survive_a_restart_of_the_server(
    on_postgres: Database, postgres: PostgresServer, postgres_url: str
) -> None:
    assert await groups(on_postgres) == 0
    end_connections(postgres, postgres_url)
    assert await groups(on_postgres) == 0
    end_connections(postgres, postgres_url)

    def work(connection: sa.Connection) -> None:
        connection.execute(_GROUP, group_row())

    await on_postgres.transaction(work)
    assert await groups(on_postgres) == 1


async def test_a_lone_write_on_a_lost_connection_is_told_and_the_next_goes_through(
    on_postgres: Database, postgres: PostgresServer, postgres_url: str
) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(_GROUP, group_row())

    await groups(on_postgres)
    end_connections(postgres, postgres_url)
    with pytest.raises(UnavailableError, match="does not answer"):
        await on_postgres.statement(work)
    await on_postgres.statement(work)
    assert await groups(on_postgres) == 1


async def test_a_commit_whose_answer_is_lost_is_not_done_again(
    on_postgres: Database, postgres: PostgresServer, postgres_url: str
) -> None:
    runs = 0

    def work(connection: sa.Connection) -> None:
        nonlocal runs
        runs += 1
        connection.execute(_GROUP, group_row())
        end_connections(postgres, postgres_url)

    with pytest.raises(UnavailableError):
        await on_postgres.transaction(work)
    assert runs == 1
    assert await groups(on_postgres) == 0


async def test_two_transactions_that_lock_each_other_out_both_succeed(
    postgres_url: str, postgres: PostgresServer
) -> None:
    database = Database(parse_url(postgres_url), connections=2)
    await database.transaction(
        lambda connection: connection.execute(_GROUP, [group_row(1), group_row(2)])
    )
    met = threading.Barrier(2, timeout=30)

    def work(first: int, second: int) -> Callable[[sa.Connection], None]:
        tried = False

        def run(connection: sa.Connection) -> None:
            nonlocal tried
            for number in (first, second):
                statement = sa.update(t.groups).where(t.groups.c.id == f"grp_{number}")
                connection.execute(statement.values(title=f"{first} was here"))
                if not tried:
                    tried = True
                    met.wait()

        return run

    await asyncio.gather(
        database.transaction(work(1, 2)),
        database.transaction(work(2, 1)),
    )
    await database.close()


# --------------------------------------------------------------------------------- values


async def test_a_value_that_cannot_be_stored_is_the_callers_mistake(sql_url: str) -> None:
    store = open_store(sql_url)
    await store.open()
    await fill(store, users=1)
    with pytest.raises(BadRequestError):
        await store.directory.add_user(make_user(7, username="half \ud800", group_ids=()), None)
    with pytest.raises(BadRequestError):
        await store.credentials.add_token(make_token(expires_at=2**63))
    if sql_url.startswith("postgresql"):
        with pytest.raises(BadRequestError):
            await store.directory.user_by_name("nul \x00")
    assert await store.directory.user("usr_1") is not None
    await store.close()


async def test_refusals_carry_their_cause_and_none_of_the_drivers_words(store: Store) -> None:
    await fill(store)
    for user in (make_user(1), make_user(70, group_ids=("grp_70",))):
        with pytest.raises((AlreadyExistsError, ConflictError)) as caught:
            await store.directory.add_user(user, None)
        for word in ("UNIQUE", "unique", "FOREIGN", "foreign", "sqlite", "psycopg", "users"):
            assert word not in caught.value.detail


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (psycopg.errors.SerializationFailure(), Fault.AGAIN),
        (psycopg.errors.DeadlockDetected(), Fault.AGAIN),
        (psycopg.errors.LockNotAvailable(), Fault.BUSY),
        (psycopg.errors.QueryCanceled(), Fault.BUSY),
        (psycopg.errors.UniqueViolation(), Fault.DUPLICATE),
        (psycopg.errors.ForeignKeyViolation(), Fault.REFERENCE),
        (psycopg.errors.CheckViolation(), Fault.IMPOSSIBLE),
        (psycopg.errors.NumericValueOutOfRange(), Fault.BAD_VALUE),
        (psycopg.errors.AdminShutdown(), Fault.LOST),
        (psycopg.OperationalError("server closed the connection"), Fault.LOST),
        (psycopg.errors.UndefinedTable(), Fault.OTHER),
        (sqlite3.OperationalError("disk I/O error"), Fault.OTHER),
        (OverflowError(), Fault.BAD_VALUE),
        (RuntimeError(), Fault.OTHER),
    ],
)
def test_failures_are_sorted(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault
    wrapped = sa.exc.DBAPIError("SELECT 1", {}, error)
    assert fault_of(wrapped) is fault


def test_every_fault_has_words_of_its_own() -> None:
    details = {told(fault).detail for fault in Fault}
    assert len(details) == len(Fault)
