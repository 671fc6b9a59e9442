"""Backup files taken apart and put together again, as somebody with a knife would."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.ports import Store
from broker.services.backup import Backups
from broker.system import SystemIds
from tests.support.clock import ManualClock

Files = dict[str, bytes]
MANIFEST = "manifest.json"


def backups_of(store: Store, at_s: float = 1_000.0) -> Backups:
    return Backups(store.backup, clock=ManualClock(at_s), ids=SystemIds(), version="1.2.3")


def unpacked(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def with_manifest(files: Files, change: Callable[[dict[str, Any]], None]) -> Files:
    """The files with their manifest changed."""
    manifest = json.loads(files[MANIFEST])
    change(manifest)
    return files | {MANIFEST: json.dumps(manifest).encode()}


def with_table(files: Files, table: str, content: bytes, *, rows: int | None = None) -> Files:
    """The files with a table's content changed, and a manifest that agrees with it."""

    def agree(manifest: dict[str, Any]) -> None:
        manifest["tables"][table] = {
            "rows": content.count(b"\n") if rows is None else rows,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    return with_manifest(files | {f"tables/{table}.jsonl": content}, agree)
