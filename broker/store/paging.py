"""What a list accepts, checked in one place for every store."""

from __future__ import annotations

from collections.abc import Collection

from broker.limits import PAGE_LIMIT_MAX
from broker.ports import PageQuery

LIVE_VALUES = {"true": True, "false": False}
"""what the filter `live` of sessions takes"""


def check_query(query: PageQuery, *, filters: Collection[str], text: bool) -> None:
    """Refuse what the list does not take.

    Raises:
        ValueError: an unknown filter, a text where the rows have no name, `live` being neither
            true nor false, or a limit outside 1 to PAGE_LIMIT_MAX rows.
    """
    strange = sorted(set(query.filters) - set(filters))
    if strange:
        raise ValueError(f"unknown filter {strange[0]!r}; known: {', '.join(sorted(filters))}")
    if query.text is not None and not text:
        raise ValueError("this list has no names to search")
    if query.filters.get("live", "true") not in LIVE_VALUES:
        raise ValueError("the filter 'live' is true or false")
    if not 1 <= query.limit <= PAGE_LIMIT_MAX:
        raise ValueError(f"the limit is 1 to {PAGE_LIMIT_MAX} rows")


NAMED = ("users", "people", "groups", "desktops", "endpoints")
"""kinds whose names DirectoryStore.names_of tells"""


def check_names(kind: str, ids: Collection[str]) -> None:
    """Raises ValueError: an unknown kind, or more than PAGE_LIMIT_MAX ids."""
    if kind not in NAMED:
        raise ValueError(f"no names of {kind!r}; known: {', '.join(NAMED)}")
    if len(ids) > PAGE_LIMIT_MAX:
        raise ValueError(f"at most {PAGE_LIMIT_MAX} names at a time")


def folded(*names: str) -> str:
    """The form in which names are searched: case-folded, one to a line."""
    return "\n".join(names).casefold()
