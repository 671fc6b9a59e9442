"""A thousand people claim at once: two processes, forty connections, one PostgreSQL.

There are exactly as many desktops as people. None is given twice and nobody goes without; the
two hundred who ask in both processes get one session each, and under a quota no more get one
than it allows. The naive way (read a ready desktop,
then write that it is taken) goes through the same harness to show that it can fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from broker.store import open_store
from tests.support import bulk
from tests.support.claimer import QUOTA
from tests.support.postgres import PostgresServer
from tests.support.stores import fill, new_desktop

PEOPLE = 1000
CONNECTIONS = 20
SHARES = ((1, 600), (401, 1000))
"""which people each process claims for; 200 ask in both"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def crowded(postgres_url: str) -> str:
    """A thousand users and a thousand ready desktops."""
    await _fill(postgres_url)
    return postgres_url


async def _fill(url: str) -> None:
    store = open_store(url, connections=2)
    await store.open()
    await fill(store, users=0, endpoints=0)
    await store.close()
    bulk.insert_users(url, range(1, PEOPLE + 1))
    bulk.insert_ready(url, [new_desktop(number) for number in range(PEOPLE)])


def storm(url: str, how: str, shares: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    """Let one process for each share claim at the same time; what each reports."""
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.claimer",
                url,
                how,
                str(first),
                str(last),
                str(CONNECTIONS),
            ],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first, last in shares
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        reports = []
        for process in processes:
            out, _ = process.communicate(timeout=100)
            assert process.returncode == 0
            reports.append(json.loads(out))
        return reports
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def held(url: str) -> list[tuple[str, str]]:
    """(user, desktop) of every session that holds a desktop, as the database has them."""
    return [
        (user, desktop)
        for user, desktop in bulk.run(
            url, "SELECT user_id, desktop_id FROM sessions WHERE state = 'delivering'"
        )
    ]


def test_a_thousand_at_once_get_a_desktop_each(crowded: str) -> None:
    reports = storm(crowded, "store", SHARES)
    claims = [tuple(claim) for report in reports for claim in report["claims"]]
    assert len(claims) == 1200
    told: dict[int, set[Any]] = {}
    for user, session, desktop in claims:
        told.setdefault(user, set()).add((session, desktop))
    # both processes tell a user who asked twice the same session and the same desktop
    assert {len(answers) for answers in told.values()} == {1}
    assert all(desktop is not None for _, _, desktop in claims)
    sessions = held(crowded)
    assert len(sessions) == len({user for user, _ in sessions}) == PEOPLE
    assert len({desktop for _, desktop in sessions}) == PEOPLE
    assert {(f"usr_{user}", desktop) for user, _, desktop in claims} == set(sessions)
    assert bulk.run(crowded, "SELECT DISTINCT state FROM desktops") == [("assigned",)]


def test_a_quota_holds_between_processes(crowded: str) -> None:
    reports = storm(crowded, "quota", SHARES)
    told = {claim[1] for report in reports for claim in report["claims"]} - {None}
    assert len(held(crowded)) == len(told) == QUOTA.sessions_max


@pytest.mark.usefixtures("crowded")
def test_the_naive_way_is_refused_by_the_database(crowded: str) -> None:
    reports = storm(crowded, "naive", ((1, 500), (501, 1000)))
    sessions = held(crowded)
    assert len({desktop for _, desktop in sessions}) == len(sessions)
    unserved = sum(claim[2] is None for report in reports for claim in report["claims"])
    assert unserved == PEOPLE - len(sessions) > 0


async def test_the_naive_way_gives_desktops_twice_where_nothing_refuses_it(
    postgres: PostgresServer,
) -> None:
    """The harness sees a double assignment when there is one."""
    url = postgres.create()
    await _fill(url)
    bulk.run(url, "DROP INDEX a_desktop_has_one_live_session")
    bulk.run(url, "ALTER TABLE desktops DROP CONSTRAINT a_desktop_moves_along_its_lifecycle")
    storm(url, "naive", ((1, 500), (501, 1000)))
    users_of = Counter(desktop for _, desktop in held(url))
    assert max(users_of.values()) > 1
    postgres.drop(url)
