"""Query parameters: declared by the route, checked before its handler runs, shown in OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from multidict import MultiMapping

from broker.domain.errors import BadRequestError
from broker.limits import NAME_CHARS_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX

VALUE_CHARS_MAX: Final = 1024
"""characters of one parameter's value"""
_INTEGER_CHARS_MAX: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_QUERY: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One query parameter. `parse` raises ValueError with a sentence's end ("is not …")."""

    name: str
    says: str
    schema: Mapping[str, Any]
    parse: Callable[[str], Any]


def integer(name: str, low: int, high: int, says: str) -> Param:
    def parse(text: str) -> int:
        if len(text) <= _INTEGER_CHARS_MAX and text.isascii() and text.isdigit():
            value = int(text)
            if low <= value <= high:
                return value
        raise ValueError(f"is not a whole number from {low} to {high}")

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Param(name=name, says=says, schema=schema, parse=parse)


def text(name: str, says: str, *, chars_max: int = NAME_CHARS_MAX) -> Param:
    def parse(value: str) -> str:
        if not value or len(value) > chars_max:
            raise ValueError(f"does not have 1 to {chars_max} characters")
        return value

    schema = {"type": "string", "minLength": 1, "maxLength": chars_max}
    return Param(name=name, says=says, schema=schema, parse=parse)


def choice(name: str, values: type[StrEnum] | Sequence[str], says: str) -> Param:
    known = [str(value) for value in values]

    def parse(value: str) -> str:
        if value not in known:
            raise ValueError(f"is none of {', '.join(known)}")
        return value

    return Param(name=name, says=says, schema={"type": "string", "enum": known}, parse=parse)


def choices(name: str, values: Sequence[str], says: str) -> Param:
    """Several of `values`, separated by commas; parsed to a tuple without doubles."""

    def parse(value: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(value.split(",")))
        for one in found:
            if one not in values:
                raise ValueError(f"names something that is none of {', '.join(values)}")
        return found

    return Param(name=name, says=says, schema={"type": "string"}, parse=parse)


def moment(name: str, says: str) -> Param:
    """A time in RFC 3339 with its offset; parsed to milliseconds since the epoch."""

    def parse(value: str) -> int:
        try:
            at = datetime.fromisoformat(value)
            if at.tzinfo is not None and at >= _EPOCH:
                return int(at.timestamp() * 1000)
        except (ValueError, OverflowError):
            pass
        raise ValueError("is not a time such as 2026-11-21T08:00:00Z")

    schema = {"type": "string", "format": "date-time"}
    return Param(name=name, says=says, schema=schema, parse=parse)


PAGE: Final = (
    integer("limit", 1, PAGE_LIMIT_MAX, f"rows in the page; {PAGE_LIMIT_DEFAULT} if not given"),
    text("after", "the `next` of the page before", chars_max=VALUE_CHARS_MAX),
)
"""What every list takes."""
TEXT: Final = text("text", "part of a name, in any case")
"""What lists take whose rows have names."""


def parse_query(params: Iterable[Param], given: MultiMapping[str]) -> Mapping[str, Any]:
    """Name -> parsed value of what was given.

    Raises:
        BadRequestError: a parameter that the route does not know, one given twice, or a value
            that is not allowed; the field is named.
    """
    if not given:
        return _NO_QUERY
    known = {param.name: param for param in params}
    found: dict[str, Any] = {}
    for name, value in given.items():
        shown = name[:NAME_CHARS_MAX]
        param = known.get(name)
        if param is None:
            takes = f"; known: {', '.join(known)}" if known else ""
            raise _bad(shown, f"the parameter {shown!r} is not known here{takes}")
        if name in found:
            raise _bad(shown, f"the parameter {name} is given twice")
        if len(value) > VALUE_CHARS_MAX or "\0" in value:
            raise _bad(shown, f"the parameter {name} is too long or has a NUL")
        try:
            found[name] = param.parse(value)
        except ValueError as error:
            raise _bad(shown, f"the parameter {name} {error}") from None
    return found


def _bad(field: str, detail: str) -> BadRequestError:
    return BadRequestError(detail, fields={"field": field})
