"""What the console's lists have in common: filters from the address, and one page of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlencode

from broker.domain.model import Architecture, Pool
from broker.limits import NAME_CHARS_MAX
from broker.ports import Page, PageQuery
from broker.web.call import Call
from broker.web.params import VALUE_CHARS_MAX, Param

ROWS: Final = 50
"""rows of one page: about two screens"""

Options = Sequence[tuple[str, str]]


def filter_text(name: str, says: str, chars_max: int = NAME_CHARS_MAX) -> Param:
    """A filter that a form may send empty, which means: not filtered."""

    def parse(value: str) -> str:
        text = value.strip()
        if len(text) > chars_max:
            raise ValueError(f"has more than {chars_max} characters")
        return text

    return Param(name=name, says=says, schema={"type": "string"}, parse=parse)


def filter_choice(name: str, values: Iterable[str], says: str) -> Param:
    known = frozenset(values) | {""}

    def parse(value: str) -> str:
        if value not in known:
            raise ValueError("is not one of the choices")
        return value

    return Param(name=name, says=says, schema={"type": "string"}, parse=parse)


AFTER: Final = filter_text("after", "the last row of the page before", VALUE_CHARS_MAX)


def options(values: type[StrEnum]) -> Options:
    return tuple((one.value, one.value) for one in values)


ARCHITECTURES: Final[Options] = tuple((one.value, one.value.upper()) for one in Architecture)


def pool_options(pools: Iterable[Pool]) -> Options:
    return tuple((pool.id, pool.title) for pool in sorted(pools, key=lambda pool: pool.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What was asked for; every filter of the route is there, the empty ones too."""

    values: Mapping[str, str]
    path: str
    after: str

    @classmethod
    def of(cls, call: Call, params: Iterable[Param]) -> Filters:
        names = [param.name for param in params if param is not AFTER]
        return cls(
            values={name: call.query.get(name) or "" for name in names},
            path=call.request.path,
            after=call.query.get("after") or "",
        )

    @property
    def given(self) -> dict[str, str]:
        return {name: value for name, value in self.values.items() if value}

    def url(self, after: str = "") -> str:
        """The address of this list, from this row on."""
        pairs = {**self.given, **({"after": after} if after else {})}
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    @property
    def this_url(self) -> str:
        return self.url(self.after)

    def query(self, *, leave_out: Iterable[str] = ("text",), **more: str) -> PageQuery:
        """For the store: `text` apart, everything else an equality filter."""
        skip = {"text", *leave_out}
        filters = {name: value for name, value in self.given.items() if name not in skip}
        return PageQuery(
            limit=ROWS,
            after=self.after or None,
            text=self.values.get("text") or None,
            filters={**filters, **more},
        )

    def context(self, page: Page[Any] | None, rows: Sequence[Any]) -> dict[str, Any]:
        """What every list template is given."""
        next_after = page.next_after if page is not None else None
        return {
            "filters": self.values,
            "filtered": bool(self.given) or bool(self.after),
            "this_url": self.this_url,
            "page": {
                "rows": rows,
                "first_url": self.url() if self.after else None,
                "next_url": self.url(next_after) if next_after else None,
            },
        }
