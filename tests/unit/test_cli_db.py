"""`trivium db`: schema, health, diagrams; and what counts as a contradiction."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from broker.cli.consistency import contradictions
from broker.cli.db import LIFECYCLES
from broker.domain.lifecycle import DESKTOP
from broker.domain.model import Desktop, DesktopState, Session, SessionState
from broker.services.roster import import_roster
from broker.store import open_store
from broker.system import SystemClock, SystemIds
from tests.support.builders import make_desktop, make_session
from tests.support.cli import Ran, run
from tests.support.roster_files import GOOD

S = SessionState
TAKEN = make_desktop(state=DesktopState.ASSIGNED)


@pytest.mark.parametrize(
    ("desktops", "sessions", "said"),
    [
        ((TAKEN,), (make_session(),), ()),
        ((TAKEN,), (make_session(state=S.ENDING),), ()),
        ((make_desktop(),), (make_session(state=S.QUEUED, desktop_id=None),), ()),
        ((TAKEN,), (), ("assigned and has no session",)),
        ((TAKEN,), (make_session(state=S.ENDED),), ("assigned and has no session",)),
        ((make_desktop(),), (make_session(),), ("has a session and is ready",)),
        ((), (make_session(),), ("has a session and is gone",)),
        ((), (make_session(desktop_id=None),), ("has no desktop",)),
        (
            (TAKEN,),
            (make_session(), make_session(id="ses_2", user_id="usr_2")),
            ("has 2 sessions at once",),
        ),
        (
            (TAKEN,),
            (make_session(), make_session(id="ses_2", state=S.QUEUED, desktop_id=None)),
            ("has 2 live sessions in pool",),
        ),
    ],
)
def test_contradictions(
    desktops: Iterable[Desktop], sessions: Iterable[Session], said: tuple[str, ...]
) -> None:
    found = contradictions(desktops, sessions)
    assert len(found) == len(said)
    for sentence, part in zip(found, said, strict=True):
        assert part in sentence


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIVIUM_")]:
        monkeypatch.delenv(name)


def db(data: Path, *words: str) -> Ran:
    return run("db", *words, "--data", str(data))


def test_a_database_is_made_known_and_healthy(tmp_path: Path) -> None:
    before = db(tmp_path, "status", "--json")
    assert (before.code, before.document["standing"]) == (1, "not made yet")
    assert list(tmp_path.iterdir()) == []
    made = db(tmp_path, "migrate", "--json").document
    assert made["before"] is None
    assert "already" in db(tmp_path, "migrate").err
    now = db(tmp_path, "status", "--json")
    assert (now.code, now.document["schema"]) == (0, made["now"])
    assert db(tmp_path, "check", "--json").document == {"problems": []}


def spoil(data: Path, *statements: str) -> None:
    with closing(sqlite3.connect(data / "trivium.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            connection.execute(statement)


def test_a_newer_and_an_older_schema_are_told_apart(tmp_path: Path) -> None:
    db(tmp_path, "migrate")
    spoil(tmp_path, "UPDATE schema_version SET version_num = '9999'")
    newer = db(tmp_path, "status")
    assert newer.code == 1
    assert "newer" in newer.err
    assert "Update Trivium" in newer.err
    spoil(tmp_path, "UPDATE schema_version SET version_num = '0001'")
    older = db(tmp_path, "check")
    assert older.code == 1
    assert "db migrate" in older.err


def test_check_names_lost_references_and_contradictions(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trivium.db'}"

    async def fill() -> None:
        store = open_store(url)
        await store.open()
        await import_roster(store, SystemClock(), SystemIds(), GOOD)
        await store.close()

    asyncio.run(fill())
    assert db(tmp_path, "check").code == 0
    spoil(
        tmp_path,
        "UPDATE desktops SET prior_state = 'ready', state = 'assigned' WHERE name = 'lab-01'",
        "DELETE FROM groups WHERE name = 'teachers'",
    )
    ran = db(tmp_path, "check")
    assert ran.code == 1
    assert "desktop lab-01 is assigned and has no session" in ran.out
    assert "refers to a missing row of groups" in ran.out
    assert len(db(tmp_path, "check", "--json").document["problems"]) >= 2


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "trivium.db").write_text("this is a letter to my aunt, nothing else" * 100)
    ran = db(tmp_path, "status")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "not one" in ran.err


def test_diagrams_are_mermaid() -> None:
    assert run("db", "diagram", "desktop").out.strip() == DESKTOP.mermaid().strip()
    every = run("db", "diagram").out
    assert every.count("stateDiagram-v2") == len(LIFECYCLES)
