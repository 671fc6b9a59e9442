"""The database itself refuses the impossible, whoever writes; migrations; query plans."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from broker.domain.errors import ConfigError
from broker.domain.lifecycle import DESKTOP, ENDPOINT, HOST, JOB, SESSION, SNAPSHOT, Lifecycle
from broker.store import open_store
from broker.store.sql.engine import make_engine, parse_url
from broker.store.sql.migrate import current_version, fill_moves
from broker.store.sql.schema import METADATA, NOTHING
from tests.support.postgres import PostgresServer
from tests.support.stores import (
    IDV,
    claimed_session,
    fill,
    make_job,
    make_request,
    new_desktop,
    ready_desktops,
)

REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = make_engine(parse_url(url))
    yield engine
    engine.dispose()


@pytest.fixture
async def filled(url: str, engine: sa.Engine) -> None:
    """Two delivering sessions, one queued, a ready desktop, a job; then the store is closed."""
    store = open_store(url, connections=2)
    await store.open()
    await fill(store)
    await ready_desktops(store, [1, 2, 3])
    await store.desktops.add([new_desktop(1, IDV)], [make_job(desktop_id="dsk_library_1")])
    for user in (1, 2):
        await claimed_session(store, make_request(user))
    await claimed_session(store, make_request(1, IDV))
    await store.close()


def write(engine: sa.Engine, statement: str) -> None:
    """Write past the store, as a broken program or a person at a prompt would."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute(statement)


# ---------------------------------------------------------------------- the impossible

IMPOSSIBLE = {
    "a_desktop_has_one_live_session": (
        "UPDATE sessions SET desktop_id = 'dsk_library_1' WHERE user_id = 'usr_2'"
    ),
    "a_user_has_one_live_session_of_a_pool": (
        "UPDATE sessions SET user_id = 'usr_1' WHERE user_id = 'usr_2'"
    ),
    "a_session_moves_along_its_lifecycle": (
        "UPDATE sessions SET prior_state = state, state = 'ended' WHERE user_id = 'usr_2'"
    ),
    "a_session_past_the_queue_has_a_desktop": (
        "UPDATE sessions SET desktop_id = NULL WHERE user_id = 'usr_2'"
    ),
    "a_desktop_moves_along_its_lifecycle": (
        "UPDATE desktops SET prior_state = state, state = 'creating' WHERE id = 'dsk_library_3'"
    ),
    "a_desktop_has_its_own_name": (
        "UPDATE desktops SET name = 'library-0001' WHERE id = 'dsk_library_3'"
    ),
    "a_desktop_is_on_a_host_or_an_endpoint": (
        "UPDATE desktops SET endpoint_id = 'ept_1' WHERE id = 'dsk_library_3'"
    ),
    "an_endpoint_moves_along_its_lifecycle": (
        "UPDATE endpoints SET prior_state = state, state = 'offline' WHERE id = 'ept_1'"
    ),
    "a_host_moves_along_its_lifecycle": (
        "UPDATE hosts SET prior_state = state, state = 'off' WHERE id = 'hst_1'"
    ),
    "desktops_moving_to_exists": "UPDATE desktops SET moving_to = 'hst_9'",
    "a_job_moves_along_its_lifecycle": "UPDATE jobs SET prior_state = state, state = 'succeeded'",
    "desktops_pool_id_exists": "UPDATE desktops SET pool_id = 'pol_9'",
    "a_username_belongs_to_one_user": (
        "UPDATE users SET username = 'user-0001' WHERE id = 'usr_2'"
    ),
    "a_user_has_a_known_role": "UPDATE users SET role = 'king'",
}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("rule", IMPOSSIBLE)
def test_the_database_refuses_the_impossible(engine: sa.Engine, rule: str) -> None:
    with pytest.raises(REFUSED) as caught:
        write(engine, IMPOSSIBLE[rule])
    if isinstance(caught.value, psycopg.Error):
        assert caught.value.diag.constraint_name == rule


@pytest.mark.usefixtures("filled")
def test_a_record_cannot_begin_in_the_middle_of_its_lifecycle(engine: sa.Engine) -> None:
    for noun, state in (("sessions", "active"), ("desktops", "ready"), ("jobs", "running")):
        with pytest.raises(REFUSED):
            write(engine, f"UPDATE {noun} SET prior_state = '{NOTHING}', state = '{state}'")


@pytest.mark.usefixtures("filled")
def test_what_is_possible_is_let_through(engine: sa.Engine) -> None:
    write(
        engine,
        "UPDATE sessions SET prior_state = state, state = 'active' WHERE user_id = 'usr_2'",
    )


def test_the_moves_are_those_of_the_lifecycles(engine: sa.Engine) -> None:
    tables: Mapping[str, Lifecycle[Any, Any]] = {
        "desktop_moves": DESKTOP,
        "session_moves": SESSION,
        "endpoint_moves": ENDPOINT,
        "job_moves": JOB,
        "host_moves": HOST,
        "snapshot_moves": SNAPSHOT,
    }
    with engine.connect() as connection:
        for name, lifecycle in tables.items():
            rows = connection.execute(sa.select(METADATA.tables[name])).all()
            assert {tuple(row) for row in rows} == {
                *lifecycle.edges(),
                *((NOTHING, state) for state in lifecycle.first),
            }


# --------------------------------------------------------------------------- migrations


def described(engine: sa.Engine) -> dict[str, Any]:
    """The schema as the database itself tells it: tables, columns, constraints, indexes."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(
                "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
            ).all()
            return {f"{kind} {name}": _clauses(text) for kind, name, text in rows}
        queries = {
            "column": "SELECT table_name || '.' || column_name, data_type || ' ' || is_nullable"
            " || coalesce(collation_name, '') FROM information_schema.columns"
            " WHERE table_schema = 'public'",
            "constraint": "SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
            "index": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        }
        return {
            f"{kind} {name}": text
            for kind, query in queries.items()
            for name, text in connection.exec_driver_sql(query).all()
        }


def _clauses(text: str) -> list[str]:
    """A CREATE statement's clauses, in an order of their own: constraints may stand anyhow."""
    return sorted(line.strip().rstrip(",") for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_migrated_schema_is_the_one_that_the_code_describes(
    request: pytest.FixtureRequest, tmp_path: Path, dialect: str
) -> None:
    if dialect == "sqlite":
        migrated, fresh = f"sqlite:///{tmp_path}/migrated.db", f"sqlite:///{tmp_path}/fresh.db"
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        migrated, fresh = postgres.create(), postgres.create()
    asyncio.run(_open_and_close(migrated))
    engines = [make_engine(parse_url(one)) for one in (migrated, fresh)]
    with engines[1].connect() as connection:
        METADATA.create_all(connection)
        fill_moves(connection)
    got, wanted = (described(engine) for engine in engines)
    got = {name: text for name, text in got.items() if "schema_version" not in name}
    assert got == wanted
    assert len(wanted) > 40


async def _open_and_close(url: str, **options: Any) -> None:
    store = open_store(url, **options)
    try:
        await store.open()
    finally:
        await store.close()


async def test_an_older_database_is_brought_up_to_date_only_if_allowed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "broker.store.sql:migrations")
        command.upgrade(config, "0001")
        assert current_version(connection) == "0001"
    with pytest.raises(ConfigError, match="older"):
        await _open_and_close(url, migrate=False)
    await _open_and_close(url)
    await _open_and_close(url, migrate=False)
    with engine.connect() as connection:
        assert current_version(connection) != "0001"


async def test_a_newer_database_is_refused_and_left_alone(url: str, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        known = current_version(connection)
    write(engine, "UPDATE schema_version SET version_num = '9999'")
    for migrate in (True, False):
        with pytest.raises(ConfigError, match="newer"):
            await _open_and_close(url, migrate=migrate)
    with engine.connect() as connection:
        assert current_version(connection) == "9999"
    write(engine, f"UPDATE schema_version SET version_num = '{known}'")


async def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    with pytest.raises(ConfigError, match="something else"):
        await _open_and_close(f"sqlite:///{path}")


async def test_a_server_with_another_encoding_is_refused(postgres: PostgresServer) -> None:
    postgres.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(ConfigError, match="UTF8"):
        await _open_and_close(postgres.url("latin"))


def _open_in_process(url: str) -> None:
    asyncio.run(_open_and_close(url))


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_processes_that_start_at_once_migrate_once(
    request: pytest.FixtureRequest, tmp_path: Path, dialect: str
) -> None:
    if dialect == "sqlite":
        url = f"sqlite:///{tmp_path}/new.db"
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.create()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_open_in_process, args=(url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    asyncio.run(_open_and_close(url, migrate=False))


async def test_the_database_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "trivium.db"
    await _open_and_close(f"sqlite:///{path}")
    assert path.stat().st_mode & 0o077 == 0
