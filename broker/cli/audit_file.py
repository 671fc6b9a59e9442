"""An export of the audit trail: written, gone on with, and checked without a broker."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Annotated, Any, Final

import msgspec

from broker.cli.errors import CommandError
from broker.cli.remote import Remote
from broker.domain.audit import GENESIS, AuditEntry, Break, SealedEntry, first_break
from broker.services.audit import SEAL_CHARS, Anchor

NUMBER_MAX: Final = 2**53
"""the largest number that every reader of JSON keeps exactly"""


def _damaged(path: Path, number: int) -> CommandError:
    return CommandError(
        "The file is not a whole export of the audit trail",
        detail=f"line {number} of {path} cannot be read",
        advice="Export into a new file.",
        code="cli.export_broken",
    )


class Export:
    """`file` is opened for the time of the export; `after`, `seal`: of the last entry it has."""

    def __init__(
        self, file: AbstractContextManager[IO[bytes]], *, after: int, seal: str = ""
    ) -> None:
        self._file = file
        self._after = after
        self._seal = seal

    @classmethod
    def into(cls, path: Path) -> Export:
        """Go on where the file ends; a line that was cut short is written anew.

        Raises CommandError: the file is something else, or cannot be written.
        """
        try:
            return cls._into(path)
        except OSError as error:
            raise CommandError(
                "Nothing can be written there",
                detail=f"{path}: {error.strerror}",
                advice="Name a file in a folder that is there, and in which you may write.",
                code="cli.export_unwritable",
            ) from None

    @classmethod
    def _into(cls, path: Path) -> Export:
        if not path.exists():
            path.touch(mode=0o600)
        after, seal, length = 0, "", 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                found = _read(line)
                if found is None:
                    raise _damaged(path, number)
                after, seal = found.number, found.seal
                length += len(line)
        with path.open("r+b") as file:
            file.truncate(length)
        return cls(path.open("ab"), after=after, seal=seal)

    async def run(self, remote: Remote) -> dict[str, Any]:
        """Write what there is; answers how many entries, and the last number and seal."""
        made: dict[str, Any] = {"entries": 0, "last_number": self._after, "last_seal": self._seal}
        with self._file as file:
            async for line in remote.lines("audit/export", after=self._after):
                found = _read(line)
                if found is None:
                    # the broker's own last line
                    return made
                file.write(line)
                made["entries"] += 1
                made["last_number"], made["last_seal"] = found.number, found.seal
            file.flush()
        raise CommandError(
            "The export broke off",
            detail=f"the last whole entry is number {made['last_number']}",
            advice="Run the same command again: it goes on from there.",
            code="cli.export_cut",
        )


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`entry`: as it is sealed, every field of it and no other."""

    number: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    seal: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{SEAL_CHARS}}}$")]
    entry: dict[str, Any]


def _read(line: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _chain(path: Path) -> Iterator[SealedEntry]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            found = _read(line)
            if found is None or found.entry.keys() != set(AuditEntry.__slots__):
                raise _damaged(path, number)
            try:
                entry = msgspec.convert(found.entry, AuditEntry)
            except msgspec.MsgspecError:
                raise _damaged(path, number) from None
            yield SealedEntry(number=found.number, seal=bytes.fromhex(found.seal), entry=entry)


def check_file(
    path: Path, *, since: Anchor | None = None, anchor: Anchor | None = None
) -> dict[str, Any]:
    """As GET /audit/check answers, and `first_number`: the file's first. Where that is not 1 and
    not behind `since`, the first entry is believed.

    Raises CommandError: it is no export, or has nothing in it.
    """
    chain = _chain(path)
    first = next(chain, None)
    if first is None:
        raise CommandError(
            "The file has no entries",
            advice="Export into it first; with an anchor, what was in it can be told.",
            code="cli.export_broken",
        )
    held = _Held(anchor)
    before, number = (since.seal, since.number) if since is not None else (GENESIS, 0)
    if since is None and first.number > 1:
        before, number = first.seal, first.number
        rest = held.watch(chain)
        held.saw(first)
    else:
        rest = held.watch(itertools.chain([first], chain))
    broken, before, number = first_break(before, number, rest)
    told = broken or held.broken()
    found = _found(
        number, before, None if told is None else {"number": told.number, "why": told.why}
    )
    return {**found, "first_number": first.number}


class _Held:
    """Whether the anchor's entry went by, with its seal."""

    def __init__(self, anchor: Anchor | None) -> None:
        self._anchor = anchor
        self._seal: bytes | None = None

    def saw(self, one: SealedEntry) -> None:
        if self._anchor is not None and one.number == self._anchor.number:
            self._seal = one.seal

    def watch(self, chain: Iterable[SealedEntry]) -> Iterator[SealedEntry]:
        for one in chain:
            self.saw(one)
            yield one

    def broken(self) -> Break | None:
        if self._anchor is None or self._seal == self._anchor.seal:
            return None
        why = "not in this file" if self._seal is None else "has another seal than the anchor"
        return Break(number=self._anchor.number, why=why)


def _found(number: int, seal: bytes, broken: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "sealed": number,
        "last_number": number,
        "last_seal": seal.hex() if number else "",
        "unsealed": 0,
        "break": None if broken is None else {**broken, "before": None, "here": None},
    }
