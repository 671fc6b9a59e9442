"""Reads a backup that nobody vouches for.

Names within the file are compared with those expected and used for nothing else; everything is
decompressed piece by piece, against the lengths that the manifest declares; counts and checksums
are held against it, too.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from broker.domain.errors import BadBackupError, NotFoundError
from broker.limits import (
    BACKUP_CHUNK_BYTES,
    BACKUP_MANIFEST_BYTES_MAX,
    BACKUP_ROW_BYTES_MAX,
    BACKUP_TABLES_MAX,
    EXPORT_BATCH,
)
from broker.ports import TableDump
from broker.services.backup.manifest import Findings, Manifest, TableSum, decode
from broker.services.backup.writing import MANIFEST_NAME, member_name

_METHODS: Final = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED: Final = 1
"""the flag of an encrypted member"""
# what zipfile and zlib raise for bytes that are not what they should be
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


class BackupReader:
    """A backup file, opened; its manifest has been read and fits the file's directory."""

    def __init__(self, path: Path) -> None:
        """Raises NotFoundError: there is no such file. BadBackupError: it is no backup."""
        if not path.is_file():
            raise NotFoundError(f"there is no file {path.name}")
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise BadBackupError("it is not a backup, or was cut short") from error
        try:
            self._members = self._directory()
            self.manifest = self._manifest()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        members = self._zip.infolist()
        found = {member.filename: member for member in members}
        if len(members) > BACKUP_TABLES_MAX + 1 or len(found) < len(members):
            raise BadBackupError("it holds too many files, or one twice")
        for member in members:
            if member.compress_type not in _METHODS or member.flag_bits & _ENCRYPTED:
                raise BadBackupError("a file in it is packed in a way that backups are not")
        return found

    def _manifest(self) -> Manifest:
        member = self._members.get(MANIFEST_NAME)
        if member is None or member.file_size > BACKUP_MANIFEST_BYTES_MAX:
            raise BadBackupError("it has no manifest, or none of a sensible size")
        try:
            with self._zip.open(member) as file:
                text = file.read(BACKUP_MANIFEST_BYTES_MAX + 1)
        except _DAMAGE as error:
            raise BadBackupError("its manifest is damaged") from error
        manifest = decode(text)
        wanted = {member_name(table): one.bytes for table, one in manifest.tables.items()}
        found = {name: one.file_size for name, one in self._members.items()}
        del found[MANIFEST_NAME]
        if found != wanted:
            raise BadBackupError("its files are not those, or not as long as, its manifest says")
        return manifest

    def parts(self) -> Generator[TableDump, None, None]:
        """All rows, table by table; what does not fit the manifest is found on the way.

        Raises:
            BadBackupError: a table is damaged or is not what the manifest says.
        """
        findings = Findings()
        for table, expected in self.manifest.tables.items():
            for rows in self._table(table, expected):
                findings.see(table, rows)
                yield TableDump(table=table, rows=rows)
        findings.check(self.manifest)

    def _table(self, table: str, expected: TableSum) -> Iterator[tuple[dict[str, Any], ...]]:
        count = size = 0
        batch: list[dict[str, Any]] = []
        for line in self._lines(table, expected):
            batch.append(_row(table, line))
            size += len(line)
            if len(batch) == EXPORT_BATCH or size > BACKUP_ROW_BYTES_MAX:
                count += len(batch)
                yield tuple(batch)
                batch.clear()
                size = 0
        count += len(batch)
        if count != expected.rows:
            raise BadBackupError(f"{table} has {count} rows, not {expected.rows}")
        if batch:
            yield tuple(batch)

    def _lines(self, table: str, expected: TableSum) -> Iterator[bytes]:
        total, digest, rest = 0, hashlib.sha256(), b""
        for chunk in self._chunks(table):
            total += len(chunk)
            if total > expected.bytes:
                raise BadBackupError(f"{table} is longer than the manifest says")
            digest.update(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > BACKUP_ROW_BYTES_MAX:
                raise BadBackupError(f"a row of {table} has over {BACKUP_ROW_BYTES_MAX} bytes")
        if rest or total != expected.bytes or digest.hexdigest() != expected.sha256:
            raise BadBackupError(f"{table} was changed: its checksum is not the manifest's")

    def _chunks(self, table: str) -> Iterator[bytes]:
        try:
            with self._zip.open(self._members[member_name(table)]) as file:
                while chunk := file.read(BACKUP_CHUNK_BYTES):
                    yield chunk
        except _DAMAGE as error:
            raise BadBackupError(f"{table} is damaged") from error


def _row(table: str, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadBackupError(f"a row of {table} is no JSON") from error
    if not isinstance(found, dict):
        raise BadBackupError(f"a row of {table} is no record")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
