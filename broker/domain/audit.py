"""The audit trail's records, and the chain that shows tampering and where.

An entry is written in the transaction of the change it tells of. A sealer, one at a time, gives
entries their place: each seal is the SHA-256 of the seal before it and of the entry, so changing,
removing or inserting one breaks every seal after it. Who can rewrite the whole table can rewrite
all seals: keep seals elsewhere (exports and backups name the last one) and hold the chain against
them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

GENESIS = bytes(32)
"""what stands before the first entry"""


class Outcome(StrEnum):
    """Asked: begun and not settled yet. Unknown: nobody settled it in time."""

    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One request that changes something, or one decision.

    `actor` is a user's or endpoint's id, or "broker". `action` is `noun.verb`. `why` is for a
    person at the help desk; `details` (JSON-able, small) holds the reasons one by one. The ids
    say what it is about, "" where it is not about such a thing.
    """

    id: str
    at: int
    actor: str
    action: str
    outcome: Outcome
    why: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    user_id: str = ""
    session_id: str = ""
    desktop_id: str = ""
    pool_id: str = ""
    host_id: str = ""
    endpoint_id: str = ""
    request_id: str = ""
    source: str = ""
    """address the request came from"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedEntry:
    """An entry in its place: `number` counts from 1 without gaps."""

    number: int
    seal: bytes
    entry: AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where the chain does not hold: at this number, for this reason."""

    number: int
    why: str


def canonical(entry: AuditEntry) -> bytes:
    """The entry as the bytes that are sealed: JSON with sorted keys, no spaces, UTF-8."""
    values = {name: getattr(entry, name) for name in AuditEntry.__slots__}
    return json.dumps(
        values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def seal_of(before: bytes, number: int, entry: AuditEntry) -> bytes:
    """SHA-256 of the seal before, the number (8 bytes, big-endian) and the canonical entry."""
    return hashlib.sha256(before + number.to_bytes(8) + canonical(entry)).digest()


def sealed(before: bytes, number: int, entries: Iterable[AuditEntry]) -> tuple[SealedEntry, ...]:
    """Seal these one after the other; the last sealed so far was `number` with seal `before`."""
    chain: list[SealedEntry] = []
    for entry in entries:
        number += 1
        before = seal_of(before, number, entry)
        chain.append(SealedEntry(number=number, seal=before, entry=entry))
    return tuple(chain)


def first_break(
    before: bytes, number: int, chain: Iterable[SealedEntry]
) -> tuple[Break | None, bytes, int]:
    """(where it breaks or None, the last good seal, its number)."""
    for one in chain:
        if one.number != number + 1:
            missing = Break(number=number + 1, why=f"missing; {one.number} follows {number}")
            return missing, before, number
        if one.seal != seal_of(before, one.number, one.entry):
            return Break(number=one.number, why="changed, or one before it was"), before, number
        before, number = one.seal, one.number
    return None, before, number
