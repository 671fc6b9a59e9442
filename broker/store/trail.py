"""What the stores of the trail share: how details are kept, and what the list of entries takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from broker.domain.audit import AuditEntry, Outcome
from broker.domain.errors import BadRequestError
from broker.domain.model import Instant
from broker.limits import AUDIT_DETAILS_BYTES_MAX, DOCUMENT_BYTES_MAX
from broker.ports import PageQuery
from broker.store.paging import check_query

ENTRY_FILTERS: Final = (
    "actor",
    "action",
    "outcome",
    "user_id",
    "session_id",
    "desktop_id",
    "pool_id",
    "host_id",
    "endpoint_id",
    "request_id",
)
"""filters of AuditStore.entries that compare a field of the same name"""
ENTRY_ABOUT: Final = (
    "user_id",
    "session_id",
    "desktop_id",
    "pool_id",
    "host_id",
    "endpoint_id",
)
"""what an entry may be about, by id; settling may add those that were not known before"""
CUT: Final = "cut"
"""the detail that says how many of an entry's details were cut or left out"""
UNREADABLE: Final = "unreadable"
"""the detail that holds what is no JSON object: somebody changed the row"""
_CUT_ROOM: Final = len(f',"{CUT}":1000000')

_encode = msgspec.json.Encoder().encode


def detail_text(details: Mapping[str, object]) -> str:
    """An entry's details as JSON of at most AUDIT_DETAILS_BYTES_MAX bytes.

    Where they are longer, texts and lists lose their end, what is nothing of the kind is left
    out, and the detail `cut` says of how many that is true.
    """
    whole = _encode(details)
    if len(whole) <= AUDIT_DETAILS_BYTES_MAX:
        return whole.decode()
    room = AUDIT_DETAILS_BYTES_MAX - len("{}") - _CUT_ROOM
    kept: dict[str, object] = {}
    cut = 0
    for name, value in details.items():
        field = len(_encode(name)) + len(":,")
        found = _fitting(value, room - field)
        cut += found is not value
        if found is not None or value is None:
            kept[name] = found
            room -= field + len(_encode(found))
    return _encode({**kept, CUT: cut}).decode()


def _fitting(value: object, room: int) -> object:
    """The value, as much of a text or list as takes at most `room` bytes, or None."""
    if len(_encode(value)) <= room:
        return value
    if not isinstance(value, str | list | tuple) or room < len('""'):
        return None
    shortest, longest = 0, len(value)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if len(_encode(value[:middle])) <= room:
            shortest = middle
        else:
            longest = middle - 1
    return value[:shortest]


def object_of(text: str) -> dict[str, Any]:
    """Details as they were written. What somebody put there instead must not keep the chain from
    being checked, so it comes back as a detail that breaks it."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {UNREADABLE: text}


def stored(entry: AuditEntry) -> AuditEntry:
    """The entry as it comes back from a store."""
    return replace(entry, details=object_of(detail_text(entry.details)))


def settled(
    entry: AuditEntry,
    outcome: Outcome,
    why: str,
    details: Mapping[str, object],
    about: Mapping[str, str],
) -> AuditEntry:
    """The entry with its outcome. What it is about already stays; details are added.

    Raises ValueError for an `about` that no entry has.
    """
    unknown = sorted(about.keys() - set(ENTRY_ABOUT))
    if unknown:
        raise ValueError(f"an entry is not about {', '.join(unknown)}")
    fresh = {name: one for name, one in about.items() if not getattr(entry, name)}
    merged = {**entry.details, **details}
    changes: dict[str, Any] = {"outcome": outcome, "why": why, "details": merged, **fresh}
    return stored(replace(entry, **changes))


def document_text(value: Mapping[str, object]) -> str:
    """A document as JSON. Raises BadRequestError: it has more than DOCUMENT_BYTES_MAX bytes."""
    text = _encode(value)
    if len(text) > DOCUMENT_BYTES_MAX:
        raise BadRequestError(f"a document has at most {DOCUMENT_BYTES_MAX} bytes")
    return text.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryQuery:
    """What is asked of the list of entries, read and checked. `after`: (at, id) of an entry."""

    limit: int
    after: tuple[Instant, str] | None
    since: Instant | None
    until: Instant | None
    equal: Mapping[str, str]


def entry_query(query: PageQuery) -> EntryQuery:
    """Raises ValueError: an unknown filter, an empty one, or a bad instant or `after`."""
    check_query(query, filters=(*ENTRY_FILTERS, "since", "until"), text=False)
    given = dict(query.filters)
    since, until = given.pop("since", None), given.pop("until", None)
    for name, value in given.items():
        if not value:
            raise ValueError(f"the filter {name!r} is empty")
    return EntryQuery(
        limit=query.limit,
        after=None if query.after is None else _place(query.after),
        since=None if since is None else int(since),
        until=None if until is None else int(until),
        equal=given,
    )


def _place(after: str) -> tuple[Instant, str]:
    at, colon, entry_id = after.partition(":")
    if not colon:
        raise ValueError("`after` is an instant, a colon and an id")
    return int(at), entry_id


def place_of(entry: AuditEntry) -> str:
    """What `after` is to be for the entries behind this one."""
    return f"{entry.at}:{entry.id}"
