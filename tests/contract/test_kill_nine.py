"""`kill -9` in the middle of claims on SQLite: what was acknowledged is there, and whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.store import open_store
from tests.support import bulk
from tests.support.stores import VDI, claim_one, fill, make_request, new_desktop

PEOPLE = 12_000
ROUNDS = 8
CUTS = 60
SEED = 20261121
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def crowded(sqlite_url: str) -> str:
    store = open_store(sqlite_url)
    await store.open()
    await fill(store, users=0, endpoints=0)
    await store.close()
    bulk.insert_users(sqlite_url, range(1, PEOPLE + 1))
    bulk.insert_ready(sqlite_url, [new_desktop(number) for number in range(PEOPLE)])
    return sqlite_url


def claim_and_kill(url: str, first: int, after_s: float) -> list[tuple[str, str, str]]:
    """What a claiming process had acknowledged when it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.acknowledger", url, str(first)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(after_s)
    finally:
        process.send_signal(signal.SIGKILL)
    lines = process.stdout.read().splitlines(keepends=True)
    process.wait()
    process.stdout.close()
    # a line without its end was not received by anybody
    words = [line.split() for line in lines if line.endswith("\n")]
    return [(user, session, desktop) for user, session, desktop in words]


def stored(path: Path) -> dict[str, tuple[str, str]]:
    """session -> (user, desktop), after the database has checked itself."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        rows = connection.execute(
            "SELECT sessions.id, sessions.user_id, desktop_id FROM sessions"
            " JOIN desktops ON desktops.id = desktop_id"
            " JOIN tickets ON tickets.session_id = sessions.id"
            " WHERE sessions.state = 'delivering' AND desktops.state = 'assigned'"
        ).fetchall()
        assert len({desktop for _, _, desktop in rows}) == len(rows)
        half = connection.execute(
            "SELECT count(*) FROM desktops WHERE state = 'assigned'"
        ).fetchone()
        assert half == (len(rows),)
    finally:
        connection.close()
    return {session: (user, desktop) for session, user, desktop in rows}


async def test_nothing_acknowledged_is_lost(crowded: str) -> None:
    chance = random.Random(SEED)
    path = Path(crowded.removeprefix("sqlite:///"))
    acknowledged: dict[str, tuple[str, str]] = {}
    first = 1
    for _ in range(ROUNDS):
        lines = claim_and_kill(crowded, first, chance.uniform(0.02, 0.3))
        acknowledged |= {session: (user, desktop) for user, session, desktop in lines}
        # a copy, so that the next process finds the file just as the killed one left it
        found = stored(_copied(path))
        missing = acknowledged.items() - found.items()
        assert missing == set()
        first = 1 + max((int(session[4:]) for session in found), default=0)
    assert len(acknowledged) > 100 * ROUNDS
    await still_works(crowded, first)


def _copied(path: Path) -> Path:
    """The database and its log, copied as they lie there."""
    copy = path.with_name("copy.db")
    for end in ("", "-wal", "-shm"):
        copy.with_name(copy.name + end).unlink(missing_ok=True)
    for end in ("", "-wal"):
        log = path.with_name(path.name + end)
        if log.exists():
            shutil.copy(log, copy.with_name(copy.name + end))
    return copy


async def still_works(url: str, first: int) -> None:
    """The next broker opens the file and goes on."""
    store = open_store(url)
    await store.open()
    request = make_request(
        first,
        VDI,
        group_id=None,
        session_id="ses_later",
        ticket_id="tkt_later",
        ticket_secret_hash=b"later",
    )
    outcome = await claim_one(store, request)
    assert outcome.desktop is not None
    await store.close()


def test_a_log_cut_anywhere_leaves_a_whole_past(crowded: str) -> None:
    """Power loss: the end of the log never reached the disk.

    Whatever is left is a moment of the past: whole batches, in the order acknowledged.
    """
    chance = random.Random(SEED)
    path = Path(crowded.removeprefix("sqlite:///"))
    # an open reader keeps the log from being worked into the file, which happens only after
    # the log is safe on the disk and therefore not in the case that is played here
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sessions").fetchone()
    lines = claim_and_kill(crowded, 1, 0.1)
    order = [session for _, session, _ in lines]
    size = path.with_name(path.name + "-wal").stat().st_size
    counts = set()
    for cut in [0, 31, 32, size - 1, size, *(chance.randrange(size) for _ in range(CUTS))]:
        copy = _copied(path)
        os.truncate(copy.with_name(copy.name + "-wal"), cut)
        found = stored(copy)
        kept = [session for session in order if session in found]
        assert kept == order[: len(kept)]
        counts.add(len(kept))
    reader.close()
    assert max(counts) == len(order) > 0
    assert len(counts) > 1
