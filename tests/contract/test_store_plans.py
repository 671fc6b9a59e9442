"""The statements of the busy paths find their rows by index, with years of data and ANALYZE.

SQLite may drop a partial index once it has statistics (it did, in a measured prototype), which
no functional test would notice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.domain.lifecycle import DesktopEvent, EndpointEvent, JobEvent, SessionEvent
from broker.domain.model import (
    DesktopState,
    JobVerb,
    PhaseReport,
    PoolKind,
    SessionState,
    Ticket,
    Traffic,
)
from broker.domain.policy.rules import Quota, QuotaScope
from broker.ports import OneUseSecret, PageQuery, Release, Store
from broker.store import open_store
from broker.store.sql.engine import make_engine, parse_url
from tests.support import bulk
from tests.support.builders import NOW, make_host
from tests.support.plans import scanned, statements, steps
from tests.support.stores import (
    IDV,
    VDI,
    fill,
    make_job,
    make_request,
    make_token,
    new_desktop,
    ready_desktops,
)

SORTED = (
    "endpoint_id = ?",
    "desktops.pool_id = ?",
    "memberships.group_id = ?",
    "endpoint_pools.pool_id = ?",
    "state IN ('active', 'delivering', 'disconnected', 'ending', 'queued')",
)
"""filters that leave so few rows that they may be sorted"""
SMALL = ("jobs_to_do", "sessions_live", "sessions_in_queues", "endpoints_by_kind")
"""indexes of the few rows that count, or without the rows themselves: read whole on purpose"""
KEYS = ("(id=?", "(endpoint_id=?", "(secret_hash=?")
USERS = 3000
BIG = {
    "sessions",
    "desktops",
    "tokens",
    "tickets",
    "users",
    "endpoints",
    "jobs",
    "idempotency_keys",
    "audit_entries",
}


@pytest.fixture(params=["with statistics", "without"])
async def aged(sqlite_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A store after years of use."""
    await _live_through(sqlite_url)
    if request.param == "with statistics":
        bulk.run(sqlite_url, "ANALYZE")
    store = open_store(sqlite_url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def young(fresh_postgres_url: str) -> AsyncIterator[Store]:
    """A store that filled up faster than statistics are made."""
    await _live_through(fresh_postgres_url)
    store = open_store(fresh_postgres_url, connections=1)
    await store.open()
    yield store
    await store.close()


async def _live_through(url: str) -> None:
    store = open_store(url, connections=1)
    await store.open()
    await fill(store, users=5, endpoints=50)
    await store.directory.save_host(make_host(id="hst_2", name="server-2"), new=True)
    bulk.insert_users(url, range(100, USERS))
    bulk.insert_tokens(url, range(100, USERS))
    bulk.insert_devices(url, range(100, USERS))
    bulk.insert_ended(url, 20_000, users=5)
    bulk.insert_ready(url, [new_desktop(number) for number in range(100, 1100)])
    await store.desktops.add(
        [new_desktop(number) for number in range(2000, 2500)],
        [make_job(n, desktop_id=f"dsk_library_{2000 + n % 500}") for n in range(3000)],
    )
    await ready_desktops(store, range(1, 30), IDV)
    for first in range(100, 800, 100):
        requests = [make_request(number) for number in range(first, first + 100)]
        await store.sessions.claim(requests, NOW)
    await store.sessions.claim([make_request(1, IDV, endpoint_id="ept_50")], NOW)
    await store.credentials.add_token(make_token())
    await store.close()


async def busy_paths(store: Store) -> None:
    """What happens all day."""
    await store.credentials.identities([b"?" * 32], NOW)
    await store.credentials.signed_in(["tok_1", "tok_2"], NOW)
    owned = replace(VDI, kind=PoolKind.DEDICATED)
    outcomes = await store.sessions.claim(
        [
            make_request(900, idempotency_key="k", endpoint_id="ept_1"),
            make_request(901, owned),
            make_request(902, IDV, endpoint_id="ept_3"),
            make_request(903, IDV),
            make_request(100),
        ],
        NOW,
    )
    session = outcomes[0].session
    assert session is not None
    await store.sessions.claim([make_request(900, idempotency_key="k")], NOW)
    ticket = Ticket(
        id="tkt_x", secret_hash=b"x", session_id=session.id, user_id="usr_1", expires_at=NOW
    )
    await store.credentials.add_ticket(ticket)
    await store.credentials.redeem_ticket(b"x", NOW)
    await store.credentials.add_secrets(
        [OneUseSecret(secret_hash=b"x", kind="setup", payload={}, expires_at=NOW)]
    )
    await store.credentials.use_secret("setup", b"x", NOW)
    await store.credentials.purge(NOW)
    advance = store.sessions.advance
    await advance(session.id, SessionEvent.REPORTED_LIVE, NOW, why="", generation=1)
    phase = PhaseReport(name="x", took_ms=1)
    await store.sessions.note_phases(session.id, [phase], Traffic())
    await store.sessions.note_phases(session.id, [], Traffic())
    await store.sessions.active({session.id: NOW + 1})
    await advance(session.id, SessionEvent.DISCONNECTED, NOW, why="")
    await store.sessions.claim([make_request(900)], NOW)
    await advance(session.id, SessionEvent.LOG_OFF, NOW, why="")
    release = Release(
        event=DesktopEvent.RELEASED_RESET,
        fresh=True,
        deadline_at=NOW,
        job=make_job(9000, desktop_id="dsk_library_100"),
    )
    await advance(session.id, SessionEvent.FINISHED, NOW, why="", release=release)
    await store.sessions.session(session.id)
    await store.sessions.some([session.id, "ses_none"])
    await store.sessions.at_endpoints(["ept_1", "ept_2"], [SessionState.ACTIVE])
    await store.sessions.with_desktops([session.desktop_id or ""], [SessionState.ACTIVE])
    await watching(store)
    await machines(store)


async def watching(store: Store) -> None:
    """The reconciler's looks."""
    for pool in (VDI, IDV):
        queued = await store.sessions.waiting(pool.id)
        order = [one.session_id for one in queued] or ["ses_9"]
        await store.sessions.serve_queue(pool, order, NOW, NOW)
    await store.overview()
    await store.sessions.expired(NOW, 100)
    await store.desktops.expired(NOW, 100)
    await store.jobs.expired(NOW, 100)
    await store.desktops.counts()
    await store.desktops.by_state([DesktopState.FAILED], 100)
    await store.desktops.names(VDI.id)
    await store.desktops.counts(owned=True)
    await store.desktops.known(["dsk_library_1", "dsk_library_2000"])
    await store.desktops.on_host("hst_1", [DesktopState.FAILED], 100)
    await store.desktops.of_pool(VDI.id, [DesktopState.SUSPENDED, DesktopState.READY], 100)
    await store.desktops.awaited(100)
    await store.directory.host_loads()
    await store.sessions.abandoned(NOW + 1, 100)
    await store.sessions.dark(["broker:1.1", "broker:2.1"], 100)
    await store.sessions.queue_lengths()
    quotas = [
        Quota(id="quo_1", name="a", scope=QuotaScope.GROUP, sessions_max=9, group_id="grp_1"),
        Quota(id="quo_2", name="b", scope=QuotaScope.POOL, sessions_max=9, pool_ids=(VDI.id,)),
    ]
    await store.sessions.counts([*quotas, replace(quotas[0], pool_ids=(VDI.id,))])
    await store.endpoints.silent(NOW, 100)


async def machines(store: Store) -> None:
    """Endpoints come and go, engines work."""
    await store.endpoints.endpoint("ept_1")
    await store.endpoints.endpoint_by_name("LAB-01")
    for event in (EndpointEvent.LOST, EndpointEvent.CONNECTED):
        await store.endpoints.presence("ept_2", event, NOW)
    await store.endpoints.seen(["ept_1", "ept_2"], NOW)
    (job,) = await store.jobs.take(NOW, NOW, 1)
    await store.jobs.advance(job.id, JobEvent.SUCCEEDED, NOW)
    await store.jobs.job(job.id)
    desktop = new_desktop(2001)
    await store.desktops.advance(desktop.id, DesktopEvent.CREATE_BEGUN, NOW)
    await store.desktops.desktop(desktop.id)
    await move_a_desktop(store)
    await store.directory.user("usr_1")
    await store.directory.user_by_name("user-0001")
    await store.directory.names_of("users", ["usr_1"])


async def move_a_desktop(store: Store) -> None:
    desktop = new_desktop(1050)
    migrate = make_job(9001, verb=JobVerb.MIGRATE, desktop_id=desktop.id)
    await store.desktops.begin_move(desktop.id, "hst_2", 1, migrate)
    await store.desktops.end_move(desktop.id, "hst_2", 1, moved=True)
    await store.desktops.resized(desktop.id, 1, desktop.resources)


async def lists(store: Store) -> None:
    """What people look at, page by page."""
    for name, value in {
        "user_id": "usr_1",
        "desktop_id": "dsk_library_1",
        "endpoint_id": "ept_2",
        "state": "active",
        "live": "true",
    }.items():
        await store.sessions.sessions(PageQuery(filters={name: value}))
    await store.sessions.sessions(PageQuery(after="ses_1"))
    for query in (
        PageQuery(),
        PageQuery(after="library-0100", filters={"pool_id": VDI.id}),
        PageQuery(filters={"endpoint_id": "ept_1"}),
    ):
        await store.desktops.desktops(query)
    await store.directory.users(PageQuery(filters={"group_id": "grp_1"}))
    await store.directory.users(PageQuery(after="user-0001"))
    await store.endpoints.endpoints(PageQuery(filters={"pool_id": IDV.id}))
    await store.jobs.jobs(PageQuery(filters={"desktop_id": "dsk_library_2000"}))


async def test_no_statement_of_a_busy_path_reads_a_whole_table(
    aged: Store, sqlite_url: str
) -> None:
    with statements() as seen:
        await busy_paths(aged)
    plans = steps(sqlite_url, seen)
    scans = [
        (text, step) for text, step in plans if scanned(step) in BIG and not step.endswith(SMALL)
    ]
    assert scans == []
    assert len({text for text, _ in plans}) > 40


async def test_a_change_finds_its_rows_by_key(aged: Store, sqlite_url: str) -> None:
    """An index of states would be an index too, and leads through every row of a state."""
    with statements() as seen:
        await busy_paths(aged)
    found = [
        (text, step)
        for text, step in steps(sqlite_url, seen)
        if text.startswith("UPDATE") and step.startswith("SEARCH")
    ]
    others = [(text, step) for text, step in found if not any(key in step for key in KEYS)]
    assert others == []
    assert len(found) > 10


async def test_lists_are_read_in_the_order_of_an_index(aged: Store, sqlite_url: str) -> None:
    with statements() as seen:
        await lists(aged)
    plans = steps(sqlite_url, seen)
    scans = [
        (text, step)
        for text, step in plans
        if (scanned(step) in BIG and "USING" not in step)
        or ("TEMP B-TREE" in step and not any(filtered in text for filtered in SORTED))
    ]
    assert scans == []


async def test_a_young_postgresql_finds_rows_by_index_too(
    young: Store, fresh_postgres_url: str
) -> None:
    with statements() as seen:
        await busy_paths(young)
    engine = make_engine(parse_url(fresh_postgres_url))
    with engine.connect() as connection:
        plans = {
            text: [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {text}", values).all()]
            for text, values in seen.items()
            if text.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
        }
    engine.dispose()
    scans = [
        (text, step)
        for text, plan in plans.items()
        for step in plan
        if any(f"Seq Scan on {table}" in step for table in BIG)
    ]
    assert scans == []
    (given,) = (plan for text, plan in plans.items() if "owner_id IS NULL" in text)
    assert any("using desktops_to_give" in step for step in given), given
    assert not any("Sort" in step for step in given), given


def test_a_scan_is_told_from_a_search() -> None:
    assert scanned("SCAN sessions") == "sessions"
    assert scanned("SCAN desktops USING INDEX desktops_by_state") == "desktops"
    assert scanned("SEARCH sessions USING INDEX sessions_by_user (user_id=?)") is None
