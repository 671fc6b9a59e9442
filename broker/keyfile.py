"""The broker's own SSH keys: each a file of the data directory, made where there is none."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import asyncssh

from broker.domain.errors import ConfigError

ALGORITHM: Final = "ssh-ed25519"
_log = logging.getLogger(__name__)


def own_key(path: Path) -> asyncssh.SSHKey:
    """The key of that file; made (Ed25519, mode 0600) where there is none.

    Raises:
        ConfigError: it cannot be read or made, others may read it, or it is no Ed25519 key.
    """
    try:
        if not path.exists():
            _make_key(path)
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path.name}: others may read this key; give it mode 0600")
        key = asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise ConfigError(f"{path.name}: the SSH key cannot be read or made") from error
    if key.get_algorithm() != ALGORITHM:
        raise ConfigError(f"{path.name}: not an Ed25519 key")
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = asyncssh.generate_private_key(ALGORITHM).export_private_key()
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    # a broker that starts at the same time may have made one: the first stays
    try:
        os.link(part, path)
    except FileExistsError:
        _log.info("%s exists already", path.name)
    finally:
        part.unlink()
