"""An export of the audit trail: written, gone on with, and checked without a broker."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import msgspec

from broker.cli.errors import CommandError
from broker.cli.remote import Remote
from broker.domain.audit import GENESIS, AuditEntry, SealedEntry, first_break


def _damaged(path: Path, number: int) -> CommandError:
    return CommandError(
        "The file is not a whole export of the audit trail",
        detail=f"line {number} of {path} cannot be read",
        advice="Export into a new file.",
        code="cli.export_broken",
    )


class Export:
    """`file` is opened for the time of the export; `after`: the last number that it has."""

    def __init__(self, file: AbstractContextManager[IO[bytes]], *, after: int) -> None:
        self._file = file
        self._after = after

    @classmethod
    def into(cls, path: Path) -> Export:
        """Go on where the file ends; a line that was cut short is written anew.

        Raises CommandError: the file is something else.
        """
        if not path.exists():
            path.touch(mode=0o600)
        after, length = 0, 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                found = _read(line)
                if found is None:
                    raise _damaged(path, number)
                after = int(found["number"])
                length += len(line)
        with path.open("r+b") as file:
            file.truncate(length)
        return cls(path.open("ab"), after=after)

    async def run(self, remote: Remote) -> dict[str, Any]:
        """Write what there is; answers how many entries, and the last number and seal."""
        made: dict[str, Any] = {"entries": 0, "last_number": self._after, "last_seal": ""}
        with self._file as file:
            async for line in remote.lines("audit/export", after=self._after):
                found = _read(line)
                if found is None:
                    # the broker's own last line
                    return made
                file.write(line)
                made["entries"] += 1
                made["last_number"], made["last_seal"] = found["number"], found["seal"]
            file.flush()
        raise CommandError(
            "The export broke off",
            detail=f"the last whole entry is number {made['last_number']}",
            advice="Run the same command again: it goes on from there.",
            code="cli.export_cut",
        )


def _read(line: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "number" in found else None


def _chain(path: Path) -> Iterator[SealedEntry]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                found = msgspec.json.decode(line)
                entry = msgspec.convert(found["entry"], AuditEntry)
                seal = bytes.fromhex(found["seal"])
            except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
                raise _damaged(path, number) from None
            yield SealedEntry(number=found["number"], seal=seal, entry=entry)


def check_file(path: Path) -> dict[str, Any]:
    """As GET /audit/check answers. The first entry of a file that begins later is believed.

    Raises CommandError: it is no export.
    """
    chain = _chain(path)
    first = next(chain, None)
    before, number = GENESIS, 0
    if first is not None and first.number > 1:
        before, number = first.seal, first.number
    elif first is not None:
        broken, before, number = first_break(GENESIS, 0, [first])
        if broken is not None:
            return _found(number, before, {"number": broken.number, "why": broken.why})
    broken, before, number = first_break(before, number, chain)
    told = {"number": broken.number, "why": broken.why} if broken is not None else None
    return _found(number, before, told)


def _found(number: int, seal: bytes, broken: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "sealed": number,
        "last_number": number,
        "last_seal": seal.hex() if number else "",
        "unsealed": 0,
        "break": None if broken is None else {**broken, "before": None, "here": None},
    }
