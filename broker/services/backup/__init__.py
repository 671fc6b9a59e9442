"""Backup and restore: a whole store into a file, while it serves, and back into an empty one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import BadBackupError, UnavailableError
from broker.domain.model import Instant
from broker.limits import GENERATION_STEP
from broker.ports import BackupStore, Clock, Ids, TableDump
from broker.services.backup.manifest import Manifest, TableSum
from broker.services.backup.reading import BackupReader
from broker.services.backup.writing import BackupWriter

__all__ = ["Backups", "Manifest", "Progress", "TableSum", "when"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is: rows of all tables so far, of so many (None: not known), and the table."""

    table: str
    rows: int
    rows_total: int | None


Told = Callable[[Progress], None]


def when(instant: Instant) -> str:
    """The instant as RFC 3339 text."""
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="seconds")


class Backups:
    """Makes, checks and restores backups of one store. `version` is Trivium's own."""

    def __init__(self, store: BackupStore, *, clock: Clock, ids: Ids, version: str) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._version = version

    async def create(self, path: Path, told: Told = lambda _: None) -> Manifest:
        """Write everything, as of now, to a new file.

        Raises:
            BadRequestError: the file exists, or cannot be made. UnavailableError: the database
            does not answer, or the disk takes no more.
        """
        try:
            return await self._create(path, told)
        except OSError as error:
            raise UnavailableError(f"the file cannot be written: {error.strerror}") from error

    async def _create(self, path: Path, told: Told) -> Manifest:
        made_at = self._clock.now()
        done = 0
        with BackupWriter(path) as writer:
            async with aclosing(self._store.dump()) as parts:
                async for part in parts:
                    await asyncio.to_thread(writer.add, part)
                    done += len(part.rows)
                    told(Progress(table=part.table, rows=done, rows_total=None))
            return await asyncio.to_thread(
                writer.finish, trivium=self._version, schema=self._store.schema, made_at=made_at
            )

    async def check(self, path: Path, told: Told = lambda _: None) -> Manifest:
        """Read all of a file and hold it against its manifest.

        Raises:
            NotFoundError: there is no such file. BadBackupError: it is damaged, or was made
            with another schema.
        """
        with await asyncio.to_thread(BackupReader, path) as reader:
            self._check_schema(reader.manifest)
            async with aclosing(_parts(reader, told)) as parts:
                async for _ in parts:
                    pass
            return reader.manifest

    def _check_schema(self, manifest: Manifest) -> None:
        if manifest.schema != self._store.schema:
            raise BadBackupError(
                f"it was made by Trivium {manifest.trivium} with schema {manifest.schema};"
                f" this is Trivium {self._version} with schema {self._store.schema}"
            )

    async def restore(self, path: Path, told: Told = lambda _: None) -> Manifest:
        """Fill an empty store with a file that `check` found whole; all of it or nothing.

        What was given out before does not work after: see BackupStore.restore.

        Raises:
            ConflictError: the store is not empty. Otherwise as `check`; it may have changed.
        """
        with await asyncio.to_thread(BackupReader, path) as reader:
            self._check_schema(reader.manifest)
            async with aclosing(_parts(reader, told)) as parts:
                await self._store.restore(
                    parts, entry=self._entry(reader.manifest), generation_step=GENERATION_STEP
                )
            return reader.manifest

    def _entry(self, manifest: Manifest) -> AuditEntry:
        return AuditEntry(
            id=self._ids.new("aud"),
            at=self._clock.now(),
            actor="broker",
            action="site.restore",
            outcome=Outcome.DONE,
            why=f"restored from the backup of {when(manifest.made_at)}",
            details={
                "made_at": manifest.made_at,
                "made_by": manifest.trivium,
                "installation_id": manifest.installation_id,
                "rows": manifest.rows,
                "audit_number": manifest.audit_number,
                "audit_seal": manifest.audit_seal,
            },
        )


async def _parts(reader: BackupReader, told: Told) -> AsyncGenerator[TableDump, None]:
    done = 0
    with closing(reader.parts()) as parts:
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part
            done += len(part.rows)
            told(Progress(table=part.table, rows=done, rows_total=reader.manifest.rows))
