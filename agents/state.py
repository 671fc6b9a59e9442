"""Where endpoints keep who they are: one small JSON file for one, one file for a whole fleet.

The file holds private keys: it is made with mode 0600, and one that others may read is refused.
It is replaced whole, never written in place, and locked against a second process, for two agents
with one key would push each other off the link for ever.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from agents.core.identity import Identity

VERSION = 1
_KEY_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StateError(Exception):
    """The file cannot be used; the text says why and what to do."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    location: str
    private_key: str
    endpoint_id: str | None = None
    installation_id: str | None = None


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    endpoints: list[_Record]
    version: int = VERSION


class StateFile:
    """Use as a context manager: it is locked in between."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1

    def __enter__(self) -> Self:
        """Raises StateError when another process has it, or its folder cannot be written."""
        lock_path = self._path.with_name(self._path.name + ".lock")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"{lock_path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StateError(f"{self._path} is in use by another agent; stop that first") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def load(self) -> dict[str, Identity]:
        """Identities by name, in the order stored; empty when there is no file yet.

        Raises:
            StateError: others may read the file, or it is not what `save` wrote.
        """
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StateError(f"{self._path} cannot be read: {error.strerror}") from error
        if mode & _OTHERS:
            raise StateError(f"{self._path} holds keys and others may read it: chmod 600 it")
        try:
            stored = msgspec.json.decode(data, type=_Stored)
            found = [_identity(record) for record in stored.endpoints]
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise StateError(
                f"{self._path} is damaged ({error}); restore it, or remove it and enrol anew"
            ) from error
        if stored.version != VERSION:
            raise StateError(f"{self._path} was written by another version of the agent")
        return {identity.name: identity for identity in found}

    def save(self, identities: Iterable[Identity]) -> None:
        """Replace the file. Raises StateError; the old file is then as it was."""
        stored = _Stored(
            endpoints=[
                _Record(
                    name=one.name,
                    kind=one.kind,
                    location=one.location,
                    private_key=one.private_key.hex(),
                    endpoint_id=one.endpoint_id,
                    installation_id=one.installation_id,
                )
                for one in identities
            ]
        )
        new = self._path.with_name(self._path.name + ".new")
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(stored), indent=1))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            raise StateError(f"{self._path} cannot be written: {error.strerror}") from error


def _identity(record: _Record) -> Identity:
    private_key = bytes.fromhex(record.private_key)
    if len(private_key) != _KEY_BYTES:
        raise ValueError(f"the key of {record.name!r} is not {_KEY_BYTES} bytes long")
    return Identity(
        name=record.name,
        kind=record.kind,
        location=record.location,
        private_key=private_key,
        endpoint_id=record.endpoint_id,
        installation_id=record.installation_id,
    )
