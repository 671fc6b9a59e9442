"""Backup while people claim, restore with what was given out before: on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.cli.consistency import contradictions
from broker.domain.lifecycle import SESSION
from broker.domain.model import DesktopState
from broker.limits import PAGE_LIMIT_MAX
from broker.ports import PageQuery, Store
from broker.store import open_store
from broker.store.sql.files import database_file
from broker.store.sql.inspection import inspect_database
from tests.support import bulk
from tests.support.backups import backups_of
from tests.support.postgres import PostgresServer
from tests.support.stores import claim_one, fill, make_request, new_desktop, ready_desktops
from tests.support.trail import by_table, dumped, make_entry

ROOT = Path(__file__).parents[2]
PEOPLE = 600
BEFORE = 150


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A database that is in use, and an empty one of the same kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "second.db")
        return request.getfixturevalue("sqlite_url"), f"sqlite:///{tmp_path}/second.db"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return request.getfixturevalue("postgres_url"), postgres.create()


@pytest.fixture
async def store(urls: tuple[str, str]) -> AsyncIterator[Store]:
    store = open_store(urls[0], connections=4)
    await store.open()
    yield store
    await store.close()


async def everything(read: Any) -> list[Any]:
    found: list[Any] = []
    after = None
    while True:
        page = await read(PageQuery(limit=PAGE_LIMIT_MAX, after=after))
        found += page.items
        after = page.next_after
        if after is None:
            return found


async def claims(store: Store, numbers: range, acknowledged: list[str]) -> None:
    for number in numbers:
        outcome = await claim_one(store, make_request(number))
        assert outcome.session is not None
        acknowledged.append(outcome.session.id)


async def test_a_backup_while_people_claim_is_one_consistent_instant(
    store: Store, urls: tuple[str, str], tmp_path: Path
) -> None:
    await fill(store, users=PEOPLE)
    bulk.insert_ready(urls[0], [new_desktop(number) for number in range(PEOPLE)])
    before: list[str] = []
    meanwhile: list[str] = []
    await claims(store, range(1, BEFORE), before)
    path = tmp_path / "site.backup"
    busy = asyncio.Event()

    async def others(first: int) -> None:
        for number in range(first, PEOPLE + 1, 4):
            await claims(store, range(number, number + 1), meanwhile)
            if len(meanwhile) > 20:
                busy.set()

    async def backing_up() -> None:
        await busy.wait()
        seen = len(meanwhile)
        # what is acknowledged when it begins is in it
        before.extend(meanwhile[:seen])
        await backups_of(store).create(path)

    async with asyncio.TaskGroup() as tasks:
        for first in range(BEFORE, BEFORE + 4):
            tasks.create_task(others(first))
        tasks.create_task(backing_up())

    restored = open_store(urls[1], connections=2)
    await restored.open()
    await backups_of(restored, 2_000_000_000.0).restore(path)
    sessions = await everything(restored.sessions.sessions)
    ids = {one.id for one in sessions}
    assert set(before) <= ids <= set(before) | set(meanwhile)
    assert len(before) > BEFORE
    assert all(one.state in SESSION.terminal for one in sessions)
    rows = by_table(await dumped(restored))
    claimed = [row for row in rows["audit_entries"] if row["action"] == "session.connect"]
    assert {row["session_id"] for row in claimed} == ids
    desktops = await everything(restored.desktops.desktops)
    assert contradictions(desktops, sessions) == ()
    assert {one.state for one in desktops} == {DesktopState.FAILED}
    assert len({one.desktop_id for one in sessions}) == len(sessions)
    await restored.close()
    assert inspect_database(urls[1], deep=True).faults == ()


async def test_a_restored_site_gives_desktops_again(
    store: Store, urls: tuple[str, str], tmp_path: Path
) -> None:
    await fill(store)
    await ready_desktops(store, [1, 2])
    await claims(store, range(1, 3), [])
    await backups_of(store).create(tmp_path / "site.backup")
    restored = open_store(urls[1], connections=2)
    await restored.open()
    await backups_of(restored, 2_000_000_000.0).restore(tmp_path / "site.backup")
    outcome = await claim_one(restored, make_request(1))
    assert outcome.new
    assert outcome.desktop is None
    await ready_desktops(restored, [3])
    assert (await claim_one(restored, make_request(2))).new
    await restored.close()


# ------------------------------------------------------------------------------- kill -9


def restoring(url: str, path: Path, parts: int) -> list[str]:
    """Restore in a process of its own, and kill it after so many parts. What it had told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.restorer", url, str(path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told: list[str] = []
    try:
        assert process.stdout.readline() == b"ready\n"
        for number in range(parts):
            if number:
                process.stdin.write(b"\n")
                process.stdin.flush()
            # it waits now, and does not go on before it is killed
            told.append(process.stdout.readline().decode().strip())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stdin.close()
    return told


async def test_a_restore_that_is_killed_leaves_an_empty_database_to_restore_again(
    store: Store, urls: tuple[str, str], tmp_path: Path
) -> None:
    await fill(store, users=50)
    await ready_desktops(store, range(30))
    await claims(store, range(1, 20), [])
    await store.audit.append([make_entry(number) for number in range(1, 2500)])
    path = tmp_path / "site.backup"
    manifest = await backups_of(store).create(path)
    for parts in (1, len(manifest.tables) // 2, len(manifest.tables)):
        told = await asyncio.to_thread(restoring, urls[1], path, parts)
        assert len(told) == parts
        assert all(told)
        empty = open_store(urls[1], connections=2)
        await empty.open()
        filled = {name for name in by_table(await dumped(empty)) if not name.endswith("_moves")}
        assert filled == set()
        await empty.close()
    again = open_store(urls[1], connections=2)
    await again.open()
    await backups_of(again).restore(path)
    assert len(await everything(again.sessions.sessions)) == 19
    await again.close()
    if database_file(urls[1]) is not None:
        assert inspect_database(urls[1], deep=True).faults == ()
