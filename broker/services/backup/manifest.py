"""A backup's manifest: what is in it, and how it can be told that it is whole."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from broker.domain.audit import GENESIS
from broker.domain.errors import BadBackupError
from broker.domain.model import Instant
from broker.limits import BACKUP_BYTES_MAX, BACKUP_TABLES_MAX
from broker.services.kit import installation_id_of

FORMAT: Final = "trivium-backup"
FORMAT_VERSION: Final = 1
_AUDIT: Final = "audit_entries"
_INSTALLATION: Final = "installation_secrets"
_TABLE_NAME: Final = re.compile(r"[a-z][a-z_]{0,62}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSum:
    """How many rows a table has, and the length and SHA-256 (hex) of its JSON lines."""

    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`trivium`: the version that made it. `schema`: of the store, see BackupStore.schema.
    `tables` stand in the order in which they can be stored again. `audit_number` and
    `audit_seal` (hex) are the last seal's: hold them against the trail. `installation_id`: ""
    where no broker has run yet.
    """

    trivium: str
    schema: str
    made_at: Instant
    installation_id: str
    audit_number: int
    audit_seal: str
    tables: Mapping[str, TableSum]

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.tables.values())

    @property
    def size(self) -> int:
        """Bytes of all tables, decompressed."""
        return sum(one.bytes for one in self.tables.values())

    def encode(self) -> bytes:
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(values, indent=2, ensure_ascii=False).encode()


def decode(text: bytes) -> Manifest:
    """Raises BadBackupError: it is no manifest, or one of another format."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadBackupError("its manifest is no JSON") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BadBackupError("its manifest is not that of a Trivium backup")
    if found.get("format_version") != FORMAT_VERSION:
        version = found.get("trivium")
        made_by = version if isinstance(version, str) else "another version"
        raise BadBackupError(f"its format is another one; it was made by Trivium {made_by}")
    manifest = Manifest(
        trivium=_text(found, "trivium"),
        schema=_text(found, "schema"),
        made_at=_count(found, "made_at"),
        installation_id=_text(found, "installation_id"),
        audit_number=_count(found, "audit_number"),
        audit_seal=_digest(found, "audit_seal"),
        tables=_tables(found.get("tables")),
    )
    if manifest.size > BACKUP_BYTES_MAX:
        raise BadBackupError(f"its tables have more than {BACKUP_BYTES_MAX} bytes")
    return manifest


def _tables(found: object) -> dict[str, TableSum]:
    if not isinstance(found, dict) or len(found) > BACKUP_TABLES_MAX:
        raise BadBackupError("its manifest lists no tables, or too many")
    tables: dict[str, TableSum] = {}
    for name, values in found.items():
        if _TABLE_NAME.fullmatch(name) is None or not isinstance(values, dict):
            raise BadBackupError("its manifest lists what is no table")
        tables[name] = TableSum(
            rows=_count(values, "rows"),
            bytes=_count(values, "bytes"),
            sha256=_digest(values, "sha256"),
        )
    return tables


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise BadBackupError(f"its manifest lacks {name}")
    return value


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    if type(value) is not int or value < 0:
        raise BadBackupError(f"its manifest lacks {name}")
    return value


def _digest(values: Mapping[str, Any], name: str) -> str:
    value = _text(values, name)
    if _SHA256.fullmatch(value) is None:
        raise BadBackupError(f"its manifest lacks {name}")
    return value


@dataclass(slots=True)
class Findings:
    """What the rows themselves tell about a backup, gathered while they pass."""

    audit_number: int = 0
    audit_seal: str = GENESIS.hex()
    installation_id: str = field(default="")

    def see(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Raises BadBackupError: a row lacks what is told from it."""
        try:
            if table == _AUDIT:
                for row in rows:
                    if row["number"] is not None and row["number"] > self.audit_number:
                        self.audit_number = row["number"]
                        self.audit_seal = b64decode(row["seal"], validate=True).hex()
            elif table == _INSTALLATION:
                for row in rows:
                    if row["name"] == "installation":
                        secret = b64decode(row["value"], validate=True)
                        self.installation_id = installation_id_of(secret)
        except (KeyError, TypeError, ValueError) as error:
            raise BadBackupError(f"a row of {table} is damaged") from error

    def check(self, manifest: Manifest) -> None:
        """Raises BadBackupError: the manifest says something else."""
        if (self.audit_number, self.audit_seal) != (manifest.audit_number, manifest.audit_seal):
            raise BadBackupError("the audit trail ends elsewhere than the manifest says")
        if self.installation_id != manifest.installation_id:
            raise BadBackupError("it is of another installation than the manifest says")
