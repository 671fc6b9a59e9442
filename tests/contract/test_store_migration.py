"""A database that is full of an older broker's rows is brought up to date with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from broker.domain.lifecycle import HostEvent, JobEvent
from broker.domain.model import HostState, JobState, Resources, SessionState
from broker.domain.settings import HostSettings, PoolSettings
from broker.ports import PageQuery, Store
from broker.store import open_store
from broker.store.sql.engine import make_engine, parse_url
from broker.store.sql.migrate import current_version
from broker.store.sql.schema import NOTHING
from tests.support.builders import NOW
from tests.support.postgres import PostgresServer
from tests.support.stores import claimed_session, make_request

BEFORE = "0002"
MOVES = {
    "desktop_moves": ((NOTHING, "planned"), ("starting", "ready"), ("ready", "assigned")),
    "session_moves": ((NOTHING, "queued"), (NOTHING, "delivering")),
    "job_moves": ((NOTHING, "queued"),),
}
ROWS: dict[str, tuple[dict[str, Any], ...]] = {
    "users": tuple(
        {
            "id": f"usr_{number}",
            "username": f"user-{number}",
            "display_name": "",
            "search": "",
            "role": "user",
            "enabled": True,
            "created_at": NOW,
        }
        for number in (1, 2, 3)
    ),
    "groups": ({"id": "grp_1", "name": "a", "title": "", "search": "a", "created_at": NOW},),
    "images": (
        {
            "id": "img_1",
            "name": "office",
            "version": 1,
            "size_bytes": 1,
            "boot_bytes": 1,
            "created_at": NOW,
        },
    ),
    "pools": (
        {
            "id": "pol_1",
            "name": "library",
            "title": "Library",
            "architecture": "vdi",
            "kind": "floating",
            "image_id": "img_1",
            "cpus": 2.0,
            "memory_mib": 4096,
            "spares_min": 1,
            "size_max": 9,
            "log_off": "reset",
            "disconnect_grace_s": 600,
            "lease_s": 3600,
            "enabled": True,
            "created_at": NOW,
        },
    ),
    "entitlements": ({"pool_id": "pol_1", "position": 0, "group_id": "grp_1"},),
    "hosts": tuple(
        {
            "id": f"hst_{number}",
            "name": f"server-{number}",
            "engine": "simulated",
            "profile": "",
            "state": state,
            "cpus": 8.0,
            "memory_mib": 16384,
            "overcommit_cpu": 1.0,
            "start_limit": 2,
            "created_at": NOW,
        }
        for number, state in ((1, "up"), (2, "draining"), (3, "down"))
    ),
    "desktops": tuple(
        {
            "id": f"dsk_{number}",
            "name": f"library-000{number}",
            "search": f"library-000{number}",
            "pool_id": "pol_1",
            "architecture": "vdi",
            "host_id": "hst_1",
            "prior_state": prior,
            "state": state,
            "generation": 4,
            "cpus": 2.0,
            "memory_mib": 4096,
            "note": "old",
            "created_at": NOW,
            "changed_at": NOW,
        }
        for number, prior, state in ((1, "ready", "assigned"), (2, "starting", "ready"))
    ),
    "jobs": (
        {
            "id": "job_1",
            "verb": "create",
            "desktop_id": "dsk_2",
            "host_id": "hst_1",
            "generation": 4,
            "prior_state": NOTHING,
            "state": "queued",
            "attempts": 0,
            "not_before_at": NOW,
            "error": "",
            "created_at": NOW,
        },
    ),
    "sessions": tuple(
        {
            "id": f"ses_{number}",
            "user_id": f"usr_{number}",
            "pool_id": "pol_1",
            "architecture": "vdi",
            "desktop_id": desktop_id,
            "group_id": "grp_1",
            "prior_state": NOTHING,
            "state": state,
            "generation": 4,
            "revision": 1,
            "why": "old",
            "requested_at": NOW + number,
            "phases": "[]",
            "control_bytes": 0,
            "display_bytes": 7,
            "image_bytes": 0,
        }
        for number, desktop_id, state in ((1, "dsk_1", "delivering"), (2, None, "queued"))
    ),
    "tickets": (
        {
            "id": "tkt_1",
            "secret_hash": b"t" * 32,
            "session_id": "ses_1",
            "user_id": "usr_1",
            "expires_at": NOW + 10**6,
        },
    ),
}


def fill_old(url: str) -> None:
    """A database as the older broker left it."""
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "broker.store.sql:migrations")
        command.upgrade(config, BEFORE)
        tables = sa.MetaData()
        tables.reflect(connection)
        for name, moves in MOVES.items():
            rows = [{"prior_state": prior, "state": state} for prior, state in moves]
            connection.execute(sa.insert(tables.tables[name]), rows)
        for name, found in ROWS.items():
            connection.execute(sa.insert(tables.tables[name]), list(found))
        assert current_version(connection) == BEFORE
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/old.db"
        fill_old(url)
        yield url
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.create()
    fill_old(url)
    yield url
    postgres.drop(url)


@pytest.fixture
async def store(old_url: str) -> Any:
    store = open_store(old_url, connections=2)
    await store.open()
    yield store
    await store.close()


async def test_the_rows_are_there_and_have_what_they_had_before(store: Store) -> None:
    (pool,) = await store.directory.pools()
    assert (pool.title, pool.group_ids, pool.settings) == ("Library", ("grp_1",), PoolSettings())
    assert pool.resources == Resources(cpus=2, memory_mib=4096)
    first, second, third = await store.directory.host_loads()
    assert [one.host.state for one in (first, second, third)] == [
        HostState.UP,
        HostState.DRAINING,
        HostState.DOWN,
    ]
    assert (first.host.settings, first.host.note) == (HostSettings(), "")
    assert first.used == Resources(cpus=4, memory_mib=8192)
    delivering, queued = (
        await store.sessions.session("ses_1"),
        await store.sessions.session("ses_2"),
    )
    assert delivering is not None
    assert queued is not None
    assert (delivering.desktop_id, delivering.traffic.display) == ("dsk_1", 7)
    assert (delivering.wish, delivering.notice, delivering.active_at) == (None, None, None)
    # who waits is not taken for gone at once
    assert (queued.state, queued.active_at) == (SessionState.QUEUED, NOW + 2)
    job = await store.jobs.job("job_1")
    assert job is not None
    assert (job.desktop_id, job.arguments) == ("dsk_2", {})
    assert await store.credentials.redeem_ticket(b"t" * 32, NOW) is not None


async def test_life_goes_on(store: Store) -> None:
    (pool,) = await store.directory.pools()
    served = await store.sessions.serve_queue(pool, ["ses_2"], NOW + 9, NOW)
    assert [one.desktop_id for one in served] == ["dsk_2"]
    session = await claimed_session(store, make_request(3, pool))
    assert session.state is SessionState.QUEUED
    assert (await store.directory.move_host("hst_2", HostEvent.OPENED, NOW)).state is HostState.UP
    assert (await store.directory.move_host("hst_3", HostEvent.BACK, NOW)).state is HostState.UP
    (job,) = await store.jobs.take(NOW, NOW + 5, 1)
    assert (await store.jobs.advance(job.id, JobEvent.SUCCEEDED, NOW)).state is JobState.SUCCEEDED
    assert len((await store.audit.entries(PageQuery())).items) == 2


async def test_the_schema_is_whole_again(old_url: str, store: Store) -> None:
    await store.ping()
    engine = make_engine(parse_url(old_url))
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        if engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            texts = connection.exec_driver_sql("SELECT sql FROM sqlite_master").scalars().all()
            assert [text for text in texts if text and "s_before" in text] == []
    engine.dispose()
    assert not any(name.endswith("_before") for name in names)
