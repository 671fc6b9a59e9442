"""Pages of lists: limit, cursor and filters from the query; items and the next cursor back."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from broker.domain.errors import BadRequestError
from broker.limits import PAGE_LIMIT_DEFAULT
from broker.ports import Page, PageQuery
from broker.web.call import Call

Shape = TypeVar("Shape")
Item = TypeVar("Item")

_CHECK_BYTES: Final = 6
_OWN: Final = frozenset({"limit", "after", "text"})


class Listed(msgspec.Struct, Generic[Shape], frozen=True, kw_only=True):
    """One page. `next` goes into `after` for the page that follows; null on the last one."""

    items: list[Shape]
    next: str | None = None


def _check(kind: str, key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_CHECK_BYTES, person=kind.encode()[:16]).digest()


def make_cursor(kind: str, key: str) -> str:
    """An opaque cursor. The check in it is no secret: it tells mistakes, and cursors of other
    lists, from good ones; a made-up key would only show what the list shows anyway."""
    raw = key.encode()
    return base64.urlsafe_b64encode(_check(kind, raw) + raw).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> str:
    """The key. Raises BadRequestError for a cursor that this list did not give."""
    try:
        padded = (cursor + "=" * (-len(cursor) % 4)).encode("ascii")
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        check, key = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if check == _check(kind, key) and make_cursor(kind, key.decode()) == cursor:
            return key.decode()
    except (UnicodeError, binascii.Error):
        pass
    raise BadRequestError("this is not a cursor of this list", fields={"field": "after"})


def page_query(call: Call, kind: str, filters: Mapping[str, str] | None = None) -> PageQuery:
    """What the caller asked for; `filters` are added to (and outweigh) the given ones."""
    given = call.query
    after = given.get("after")
    found = {name: str(value) for name, value in given.items() if name not in _OWN}
    if filters:
        found.update(filters)
    return PageQuery(
        limit=given.get("limit", PAGE_LIMIT_DEFAULT),
        after=read_cursor(kind, after) if after is not None else None,
        text=given.get("text"),
        filters=found,
    )


def listed(kind: str, shapes: list[Any], next_after: str | None) -> Listed[Any]:
    return Listed(
        items=shapes, next=make_cursor(kind, next_after) if next_after is not None else None
    )


def cut(items: Iterable[Item], query: PageQuery, name: Callable[[Item], str]) -> Page[Item]:
    """One page of a list that is in memory whole, by name; `text` is part of the name."""
    wanted = (query.text or "").casefold()
    rest = sorted(
        (
            item
            for item in items
            if wanted in name(item).casefold() and (query.after is None or name(item) > query.after)
        ),
        key=name,
    )
    page = tuple(rest[: query.limit])
    return Page(items=page, next_after=name(page[-1]) if len(rest) > query.limit else None)
