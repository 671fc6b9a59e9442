"""A backup's file: whole or refused, whoever made it; nothing changes for one that is refused."""

from __future__ import annotations

import os
import resource
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest

from broker.domain.errors import BadBackupError, BadRequestError, NotFoundError, UnavailableError
from broker.limits import BACKUP_ROW_BYTES_MAX, EXPORT_BATCH
from broker.ports import PageQuery, TableDump
from broker.services.backup import Progress
from broker.services.backup.reading import BackupReader
from broker.services.backup.writing import BackupWriter
from broker.store.memory import MemoryStore
from tests.support.backups import (
    MANIFEST,
    Files,
    backups_of,
    packed,
    unpacked,
    with_manifest,
    with_table,
)
from tests.support.stores import fill
from tests.support.trail import by_table, dumped, make_entry, seal_all, sealer


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.open()
    await fill(store)
    await store.credentials.installation_secret("installation", b"ours")
    await store.audit.append([make_entry(n) for n in range(1, 4)])
    await seal_all(store, await sealer(store))
    await store.audit.append([make_entry(n) for n in range(4, EXPORT_BATCH + 10)])
    return store


@pytest.fixture
async def file(store: MemoryStore, tmp_path: Path) -> Path:
    path = tmp_path / "site.backup"
    await backups_of(store).create(path)
    return path


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def data_of(whole: bytes, info: zipfile.ZipInfo) -> int:
    """Where a member's data begin, behind its header, name and extra field."""
    name, extra = struct.unpack_from("<HH", whole, info.header_offset + 26)
    return int(info.header_offset + 30 + name + extra)


# --------------------------------------------------------------------------------- making


async def test_the_manifest_says_what_is_in_it(store: MemoryStore, file: Path) -> None:
    manifest = await backups_of(store).check(file)
    assert manifest.trivium == "1.2.3"
    assert manifest.schema == store.backup.schema
    assert manifest.made_at == 1_000_000
    assert manifest.installation_id.startswith("tri_")
    number, seal = await store.audit.last_seal()
    assert (manifest.audit_number, manifest.audit_seal) == (number, seal.hex()) != (0, "")
    rows = by_table(await dumped(store))
    assert {name: one.rows for name, one in manifest.tables.items()} == {
        name: len(found) for name, found in rows.items()
    }
    assert list(manifest.tables) == list(rows)
    assert manifest.rows == sum(map(len, rows.values()))


async def test_the_file_is_its_owners_alone_whatever_the_umask(
    store: MemoryStore, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        await backups_of(store).create(tmp_path / "open")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o600


async def test_the_same_rows_make_the_same_file(store: MemoryStore, tmp_path: Path) -> None:
    for name in ("one", "two"):
        await backups_of(store).create(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


async def test_nothing_is_overwritten(store: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "site.backup"
    path.write_text("precious")
    with pytest.raises(BadRequestError, match="exists"):
        await backups_of(store).create(path)
    assert path.read_text() == "precious"
    with pytest.raises(BadRequestError, match="written"):
        await backups_of(store).create(tmp_path / "nowhere" / "x")


async def test_one_that_fails_on_the_way_leaves_nothing(store: MemoryStore, tmp_path: Path) -> None:
    def told(progress: Progress) -> None:
        if progress.rows > 20:
            raise UnavailableError("the database went away")

    with pytest.raises(UnavailableError):
        await backups_of(store).create(tmp_path / "site.backup", told)
    assert left_in(tmp_path) == []


async def test_a_disk_that_takes_no_more_leaves_nothing(store: MemoryStore, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UnavailableError, match="written"):
            await backups_of(store).create(tmp_path / "site.backup")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_in(tmp_path) == []


async def test_progress_is_told(store: MemoryStore, file: Path) -> None:
    seen: list[Progress] = []
    manifest = await backups_of(store).check(file, seen.append)
    assert [one.rows for one in seen] == sorted(one.rows for one in seen)
    assert (seen[-1].rows, seen[-1].rows_total) == (manifest.rows, manifest.rows)


async def test_a_row_that_no_backup_takes_back_is_not_written(tmp_path: Path) -> None:
    row = {"text": "x" * BACKUP_ROW_BYTES_MAX}
    with BackupWriter(tmp_path / "x") as writer, pytest.raises(Exception, match="too long"):
        writer.add(TableDump(table="documents", rows=(row,)))
    assert left_in(tmp_path) == []


# ------------------------------------------------------------------------------ restoring


async def test_a_restore_is_in_the_audit_trail(store: MemoryStore, file: Path) -> None:
    empty = MemoryStore()
    await backups_of(empty, 5_000).restore(file)
    entry = (await empty.audit.entries(PageQuery(filters={"action": "site.restore"}))).items[0]
    assert entry.at == 5_000_000
    assert entry.details["made_at"] == 1_000_000
    assert entry.details["audit_number"] == 3
    assert len((await empty.directory.users(PageQuery())).items) == 10


async def test_the_installation_stays_the_one_that_agents_know(
    store: MemoryStore, file: Path
) -> None:
    empty = MemoryStore()
    manifest = await backups_of(empty).restore(file)
    assert await empty.credentials.installation_secret("installation", b"x") == b"ours"
    again = file.with_name("again")
    assert (await backups_of(empty).create(again)).installation_id == manifest.installation_id


# -------------------------------------------------------------------- damaged and hostile


async def refused(path: Path, said: str | None = None) -> None:
    """Refused by check and by restore, and the store stays empty."""
    empty = MemoryStore()
    await empty.open()
    for act in (backups_of(empty).check, backups_of(empty).restore):
        with pytest.raises(BadBackupError, match=said):
            await act(path)
    assert await dumped(empty) == []


async def test_a_file_that_is_not_there_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        await backups_of(MemoryStore()).check(tmp_path / "none")
    with pytest.raises(NotFoundError):
        await backups_of(MemoryStore()).check(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all" * 100])
async def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    await refused(path)


async def test_one_that_was_cut_anywhere_is_refused(file: Path) -> None:
    whole = content_of(file)
    cut = file.with_name("cut")
    for share in (0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(whole[: int(len(whole) * share)])
        await refused(cut)
    cut.write_bytes(whole[:-1])
    await refused(cut)


async def test_a_changed_byte_is_refused_wherever_it_is(file: Path) -> None:
    """Bytes that say nothing (padding, times of day) may change; rows and manifest may not."""
    whole = content_of(file)
    with zipfile.ZipFile(file) as archive:
        places = [
            data_of(whole, info) + part * info.compress_size // 4
            for info in archive.infolist()
            for part in (1, 2, 3)
        ]
    changed = file.with_name("changed")
    for place in places:
        changed.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        await refused(changed)
    assert len(places) > 20


Change = Callable[[Files], Files]


def manifest_says(**values: Any) -> Change:
    return lambda files: with_manifest(files, lambda manifest: manifest.update(values))


def table_says(**values: Any) -> Change:
    return lambda files: with_manifest(
        files, lambda manifest: manifest["tables"]["users"].update(values)
    )


def users_are(content: bytes, **given: Any) -> Change:
    return lambda files: with_table(files, "users", content, **given)


def another_table(name: str, content: bytes = b"{}\n") -> Change:
    return lambda files: with_table(files, name, content)


HOSTILE: dict[str, tuple[Change, str]] = {
    "no manifest": (lambda files: {k: v for k, v in files.items() if k != MANIFEST}, "manifest"),
    "a manifest of words": (lambda files: files | {MANIFEST: b"hello"}, "manifest"),
    "a manifest of nothing": (lambda files: files | {MANIFEST: b"[]"}, "manifest"),
    "a deep manifest": (lambda files: files | {MANIFEST: b"[" * 100_000}, "manifest"),
    "a huge manifest": (lambda files: files | {MANIFEST: b" " * 10**6}, "manifest"),
    "another format": (manifest_says(format="tar"), "manifest"),
    "a later format": (manifest_says(format_version=2), "made by Trivium 1.2.3"),
    "another schema": (manifest_says(schema="0099"), "schema 0099"),
    "no time": (manifest_says(made_at="now"), "made_at"),
    "a truth for a number": (manifest_says(audit_number=True), "audit_number"),
    "another seal": (manifest_says(audit_seal="0" * 64), "audit trail"),
    "an earlier seal": (manifest_says(audit_number=2), "audit trail"),
    "another installation": (manifest_says(installation_id="tri_x"), "installation"),
    "fewer rows": (table_says(rows=9), "10 rows, not 9"),
    "more rows": (table_says(rows=11), "10 rows, not 11"),
    "another checksum": (table_says(sha256="0" * 64), "checksum"),
    "another length": (table_says(bytes=1), "not as long"),
    "a negative length": (table_says(bytes=-1), "bytes"),
    "terabytes": (table_says(bytes=2**60), "more than"),
    "no tables": (manifest_says(tables=[]), "tables"),
    "too many tables": (
        manifest_says(tables={a + b: {} for a in ascii_lowercase for b in ascii_lowercase}),
        "tables",
    ),
    "a path out of here": (another_table("../../etc/passwd"), "no table"),
    "an absolute path": (another_table("/etc/passwd"), "no table"),
    "a table nobody knows": (another_table("passwd"), ""),
    "a file too many": (lambda files: files | {"tables/x.jsonl": b"{}\n"}, "its files"),
    "a file beside": (lambda files: files | {"../evil": b"#!/bin/sh"}, "its files"),
    "a file missing": (
        lambda files: {k: v for k, v in files.items() if k != "tables/users.jsonl"},
        "its files",
    ),
    "rows of words": (users_are(b"hello\n"), "no JSON"),
    "rows of lists": (users_are(b"[]\n"), "no record"),
    "rows of NaN": (users_are(b'{"id":NaN}\n'), "no JSON"),
    "deep rows": (users_are(b"[" * 100_000 + b"\n"), "no JSON"),
    "rows that are no text": (users_are(b'{"id":"\xff"}\n'), "no JSON"),
    "a row without its end": (users_are(b"{}\n{}", rows=1), "checksum"),
    "an endless row": (users_are(b'{"id":"' + b"x" * 3 * 2**20 + b'"}\n'), "over"),
    "rows of something else": (users_are(b'{"id":"usr_1"}\n'), ""),
    "an entry without a seal": (
        lambda files: with_table(files, "audit_entries", b'{"number":1,"seal":null}\n'),
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_backup_that_lies_is_refused(file: Path, kind: str) -> None:
    change, said = HOSTILE[kind]
    lying = packed(file.with_name("lying"), change(unpacked(file)))
    if said:
        await refused(lying, said)
        return
    # only the store knows its tables and columns
    empty = MemoryStore()
    await empty.open()
    with pytest.raises(BadBackupError):
        await backups_of(empty).restore(lying)
    assert await dumped(empty) == []


async def test_what_changes_nothing_is_taken(file: Path) -> None:
    """The knife itself does no harm: what the tests above find is what they put in."""
    again = packed(file.with_name("again"), unpacked(file), zipfile.ZIP_STORED)
    empty = MemoryStore()
    await backups_of(empty).check(again)
    await backups_of(empty).restore(again)
    lines = unpacked(file)["tables/users.jsonl"]
    same = packed(file.with_name("same"), with_table(unpacked(file), "users", lines))
    await backups_of(MemoryStore()).check(same)


async def test_a_file_twice_in_the_archive_is_refused(file: Path) -> None:
    twice = packed(file.with_name("twice"), unpacked(file))
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("tables/users.jsonl", b"")
    await refused(twice, "twice")


async def test_other_ways_of_packing_are_refused(file: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        await refused(packed(file.with_name("odd"), unpacked(file), method), "packed")


async def test_a_length_that_the_archive_lies_about_is_found(file: Path) -> None:
    """The directory says what the manifest says, and the data go on."""
    files = unpacked(file)
    bomb = with_table(files, "users", b"{}\n" * 10)
    path = packed(file.with_name("bomb"), bomb | {"tables/users.jsonl": b"\n" * 10**6})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<L", 10**6), struct.pack("<L", 30)))
    await refused(path)


async def test_a_file_that_changes_between_check_and_restore_is_refused(
    store: MemoryStore, file: Path
) -> None:
    empty = MemoryStore()
    await empty.open()
    backups = backups_of(empty)
    await backups.check(file)
    packed(
        file, with_manifest(unpacked(file), lambda found: found["tables"]["users"].update(rows=9))
    )
    with pytest.raises(BadBackupError):
        await backups.restore(file)
    assert await dumped(empty) == []


def test_a_reader_that_refuses_lets_the_file_go(file: Path) -> None:
    lying = packed(file.with_name("lying"), manifest_says(format="tar")(unpacked(file)))
    with pytest.raises(BadBackupError):
        BackupReader(lying)
    held = [one.readlink() for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    assert lying not in held
