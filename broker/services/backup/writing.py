"""Writes a backup: a zip of one JSON-lines file per table, and the manifest.

It is made under another name beside its place, brought to the disk, and only then given its
name: whatever has the name is whole. Only its owner may read it, for it holds password hashes
and the installation's secrets.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from broker.domain.errors import BadRequestError, TriviumError
from broker.limits import BACKUP_ROW_BYTES_MAX
from broker.ports import TableDump
from broker.services.backup.manifest import Findings, Manifest, TableSum

MANIFEST_NAME: Final = "manifest.json"
_OWNER_ONLY: Final = 0o100600 << 16
"""a member's Unix mode, as zip keeps it"""


def member_name(table: str) -> str:
    return f"tables/{table}.jsonl"


class BackupWriter:
    """One backup being written. Leaving the block without `finish` leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        """Raises BadRequestError: something has that name, or nothing can be written there."""
        self._path = path
        if path.exists():
            raise BadRequestError(f"{path.name} exists already; a backup overwrites nothing")
        self._stack = ExitStack()
        self._table: _TableWriter | None = None
        self._tables: dict[str, TableSum] = {}
        self._findings = Findings()
        try:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        except OSError as error:
            raise BadRequestError(f"nothing can be written to {path.parent}") from error
        self._unfinished = Path(name)
        self._file = self._stack.enter_context(os.fdopen(handle, "wb"))
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)
        self._stack.enter_context(self._zip)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with self._stack:
                if self._table is not None:
                    self._table.close()
        except OSError:
            # a full disk fails again here; the first failure is on its way already
            if kind is None:
                raise
        finally:
            self._unfinished.unlink(missing_ok=True)

    def add(self, part: TableDump) -> int:
        """Add rows; the parts of one table come one after the other. How many it has so far."""
        if self._table is None or self._table.name != part.table:
            self._end_table()
            if part.table in self._tables:
                raise TriviumError(f"the parts of {part.table} do not follow each other")
            self._table = _TableWriter(self._zip, part.table)
        self._findings.see(part.table, part.rows)
        return self._table.add(part)

    def _end_table(self) -> None:
        if self._table is not None:
            self._tables[self._table.name] = self._table.close()
            self._table = None

    def finish(self, *, trivium: str, schema: str, made_at: int) -> Manifest:
        """Write the manifest, bring everything to the disk and give it its name."""
        self._end_table()
        manifest = Manifest(
            trivium=trivium,
            schema=schema,
            made_at=made_at,
            installation_id=self._findings.installation_id,
            audit_number=self._findings.audit_number,
            audit_seal=self._findings.audit_seal,
            tables=self._tables,
        )
        self._zip.writestr(_member(MANIFEST_NAME), manifest.encode())
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._unfinished.replace(self._path)
        sync_directory(self._path.parent)
        return manifest


class _TableWriter:
    def __init__(self, archive: zipfile.ZipFile, table: str) -> None:
        self.name = table
        self._member: IO[bytes] = archive.open(_member(member_name(table)), "w", force_zip64=True)
        self._rows = 0
        self._bytes = 0
        self._sum = hashlib.sha256()

    def add(self, part: TableDump) -> int:
        for row in part.rows:
            line = _line(dict(row))
            if len(line) > BACKUP_ROW_BYTES_MAX:
                raise TriviumError(f"a row of {self.name} is too long for a backup")
            self._member.write(line)
            self._sum.update(line)
            self._bytes += len(line)
        self._rows += len(part.rows)
        return self._rows

    def close(self) -> TableSum:
        self._member.close()
        return TableSum(rows=self._rows, bytes=self._bytes, sha256=self._sum.hexdigest())


def _line(row: dict[str, Any]) -> bytes:
    text = json.dumps(row, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _member(name: str) -> zipfile.ZipInfo:
    # without the time of day, so that the same rows make the same file
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = _OWNER_ONLY
    return info


def sync_directory(path: Path) -> None:
    """Bring a directory's names to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
