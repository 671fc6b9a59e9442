"""`trivium backup`: beside a running broker, checked, restored, and what was there kept."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from broker.domain.errors import UnavailableError
from broker.services.backup import Backups
from broker.services.roster import import_roster
from broker.store import open_store
from broker.store.sql.files import take_place
from broker.system import SystemClock, SystemIds, lock_data
from tests.support.cli import Ran, run
from tests.support.roster_files import GOOD


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIVIUM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A data directory with people and pools."""
    data = tmp_path / "site"
    data.mkdir()

    async def fill() -> None:
        store = open_store(f"sqlite:///{data / 'trivium.db'}")
        await store.open()
        await import_roster(store, SystemClock(), SystemIds(), GOOD)
        await store.credentials.installation_secret("installation", b"ours")
        await store.close()

    asyncio.run(fill())
    return data


def backup(word: str, path: Path, data: Path, *words: str) -> Ran:
    return run("backup", word, str(path), "--data", str(data), *words)


def count(data: Path, table: str) -> int:
    with closing(sqlite3.connect(data / "trivium.db")) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


def test_a_site_is_backed_up_checked_and_restored(site: Path, tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "site.backup", tmp_path / "elsewhere"
    made = backup("create", path, site, "--json")
    assert made.code == 0, made.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.document["tables"]["users"] == count(site, "users") > 0
    assert made.document["file_bytes"] == path.stat().st_size
    assert made.document["installation_id"].startswith("tri_")
    checked = backup("check", path, elsewhere, "--json")
    assert checked.document == made.document
    assert not elsewhere.exists()
    done = backup("restore", path, elsewhere, "--json")
    assert done.code == 0, done.err
    assert done.document == made.document
    assert count(elsewhere, "users") == count(site, "users")
    assert run("db", "check", "--data", str(elsewhere)).code == 0


def test_what_was_sealed_before_a_restore_is_not_known_after_it(site: Path, tmp_path: Path) -> None:
    async def key(data: Path) -> bytes:
        store = open_store(f"sqlite:///{data}/trivium.db")
        await store.open()
        found = await store.credentials.installation_secret("image-key", b"as it was first")
        await store.close()
        return found

    path, elsewhere = tmp_path / "site.backup", tmp_path / "elsewhere"
    before = asyncio.run(key(site))
    assert backup("create", path, site).code == 0
    elsewhere.mkdir()
    anchor = elsewhere / "audit.anchor"
    anchor.write_text(f"9:{'ab' * 32}\n")
    assert backup("restore", path, elsewhere).code == 0
    after = asyncio.run(key(elsewhere))
    assert len(after) == 32
    assert after != before
    assert not anchor.exists(), "it is of another trail"


def test_people_are_told_what_was_done(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "site.backup"
    made = backup("create", path, site)
    assert "rows to" in made.err
    assert "installation" in made.out
    done = backup("restore", path, tmp_path / "elsewhere")
    assert [line.split()[1] for line in done.err.splitlines()] == ["check", "restore"]


def test_a_backup_is_made_while_a_broker_holds_the_directory(site: Path, tmp_path: Path) -> None:
    with closing(lock_data(site)):
        assert backup("create", tmp_path / "one", site).code == 0


def test_nothing_is_restored_while_a_broker_runs(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "site.backup"
    backup("create", path, site)
    before = (site / "trivium.db").read_bytes()
    for words in ((), ("--replace",)):
        with closing(lock_data(site)):
            ran = backup("restore", path, site, *words)
        assert ran.code == 1
        assert f"process {os.getpid()}" in ran.err
    assert (site / "trivium.db").read_bytes() == before
    assert backup("restore", path, site, "--replace").code == 0


def test_a_database_with_rows_is_left_alone_unless_it_may_be_replaced(
    site: Path, tmp_path: Path
) -> None:
    path = tmp_path / "site.backup"
    backup("create", path, site)
    with closing(sqlite3.connect(site / "trivium.db")) as connection, connection:
        connection.execute("UPDATE users SET display_name = 'changed since'")
    ran = backup("restore", path, site)
    assert ran.code == 1
    assert "not empty" in ran.err
    assert "--replace" in ran.err
    assert names(site / "trivium.db") == {"changed since"}
    done = backup("restore", path, site, "--replace", "--json")
    assert done.code == 0, done.err
    aside = Path(done.document["replaced"])
    assert names(aside) == {"changed since"}
    assert "changed since" not in names(site / "trivium.db")
    left = sorted(one.name for one in site.iterdir())
    assert left == sorted(["broker.lock", "trivium.db", aside.name])


def names(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT display_name FROM users")}


def test_one_that_breaks_off_leaves_the_old_database_in_its_place(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.backup"
    backup("create", path, site)
    before = names(site / "trivium.db")

    async def breaks_off(self: Backups, *_: object) -> None:
        raise UnavailableError("the power went")

    monkeypatch.setattr(Backups, "restore", breaks_off)
    ran = backup("restore", path, site, "--replace")
    assert ran.code == 1
    assert names(site / "trivium.db") == before
    assert sorted(one.name for one in site.iterdir()) == ["broker.lock", "trivium.db"]


def test_a_bad_file_is_named_and_nothing_is_changed(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "site.backup"
    backup("create", path, site)
    path.write_bytes(path.read_bytes()[:-100])
    before = (site / "trivium.db").read_bytes()
    for words in (("check",), ("restore", "--replace")):
        ran = backup(words[0], path, site, *words[1:], "--json")
        assert ran.code == 1
        assert json.loads(ran.err.splitlines()[-1])["error"]["code"] == "backup.invalid"
    assert (site / "trivium.db").read_bytes() == before
    assert not backup("check", tmp_path / "none", site).err.count("Traceback")


def test_there_is_nothing_to_back_up_before_there_is_a_database(tmp_path: Path) -> None:
    ran = backup("create", tmp_path / "x", tmp_path / "nothing")
    assert ran.code == 1
    assert "not made yet" in ran.err
    assert list(tmp_path.iterdir()) == []
    ran = backup("create", tmp_path / "x", tmp_path, "--database-url", "memory://")
    assert ran.code == 1
    assert "memory" in ran.err


def test_a_backup_overwrites_nothing(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "site.backup"
    backup("create", path, site)
    before = path.read_bytes()
    assert backup("create", path, site).code == 1
    assert path.read_bytes() == before


def test_replace_is_for_sqlite(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    (tmp_path / "x").touch()
    ran = backup("restore", tmp_path / "x", tmp_path, "--replace", "--database-url", url)
    assert ran.code == 1
    assert "SQLite" in ran.err


# ------------------------------------------------------------------------ taking a place


def database(path: Path, word: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE words (word TEXT)")
        connection.execute("INSERT INTO words VALUES (?)", (word,))
    return path


def word_in(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        found: str = connection.execute("SELECT word FROM words").fetchone()[0]
        return found


def test_a_log_that_was_left_behind_goes_with_its_database(tmp_path: Path) -> None:
    """As after a power cut: the newest commits are in the log alone."""
    old, new = tmp_path / "old.db", database(tmp_path / "new.db", "new")
    connection = sqlite3.connect(old)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE words (word TEXT)")
    connection.execute("INSERT INTO words VALUES ('old')")
    connection.commit()
    crashed = tmp_path / "crashed.db"
    for ending in ("", "-wal"):
        content = old.with_name(old.name + ending).read_bytes()
        crashed.with_name(crashed.name + ending).write_bytes(content)
    connection.close()
    aside = tmp_path / "aside.db"
    take_place(new, crashed, aside)
    assert word_in(aside) == "old"
    assert word_in(crashed) == "new"


def test_a_damaged_database_is_put_aside_with_what_lies_beside_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", database(tmp_path / "new.db", "new")
    old.write_bytes(b"this is not a database any more" * 200)
    old.with_name("old.db-wal").write_bytes(b"nor is this a log")
    aside = tmp_path / "aside.db"
    take_place(new, old, aside)
    assert word_in(old) == "new"
    assert aside.read_bytes().startswith(b"this is not")
    assert aside.with_name("aside.db-wal").exists()
