"""Small files that only their owner may read: passwords, tokens, casts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def make_folder(folder: Path) -> None:
    """Make it and what it lies in, each for its owner alone; what exists stays as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write the file whole, mode 0600, replacing what was there; makes its folder, mode 0700."""
    make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def read_json(path: Path) -> Any:
    """The document in the file, or None when there is none or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
