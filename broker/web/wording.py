"""Why a value is not what an address takes, in words for people: what is wanted there, and which
values or fields there are. msgspec says where it is; what is wanted is read from the type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import inspect

_NAME_CHARS_MAX: Final = 120
_SHOWN_CHARS_MAX: Final = 40
"""of a value that is not taken"""
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(?:\d+|\.\.\.)\]")
_NAMED: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_ENUM: Final = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_GOT: Final = re.compile(r"Expected .*, got `(\w+)`")
_GIVEN: Final = {
    "int": "a whole number",
    "float": "a number with a fraction",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


class Refusal(NamedTuple):
    """`field`: where, dotted, as in settings.idle_s; empty: the whole value. `says`: why."""

    field: str
    says: str


def refusal(error: msgspec.ValidationError, kind: Any) -> Refusal:
    """What msgspec refused to convert to this kind, and why."""
    message, _, path = str(error).partition(" - at `")
    path = path.rstrip("`").removeprefix("$")
    where = path.removeprefix(".")[:_NAME_CHARS_MAX]
    here = _at(_type_of(kind), path)
    if named := _NAMED.fullmatch(message):
        name = named[2][:_NAME_CHARS_MAX]
        known = ", ".join(_fields(here)) or "none"
        missing = named[1].startswith("missing")
        says = "it is missing" if missing else f"there is no such field; there are: {known}"
        return Refusal(f"{where}.{name}" if where else name, says)
    wanted = _wanted(here) if here is not None else ""
    if not wanted:
        return Refusal(where, message.replace("`", "'")[: 2 * _NAME_CHARS_MAX])
    if value := _ENUM.fullmatch(message):
        return Refusal(where, f"{wanted} is wanted, not {value[1][:_SHOWN_CHARS_MAX]}")
    got = _GOT.fullmatch(message)
    given = f", not {_GIVEN.get(got[1], got[1])}" if got else ""
    return Refusal(where, f"{wanted} is wanted{given}")


@lru_cache(maxsize=256)
def _type_of(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _members(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Of a union each, of others itself."""
    yield from kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _at(kind: inspect.Type, path: str) -> inspect.Type | None:
    """What is wanted at this path, as msgspec writes it; None where that cannot be told."""
    here: inspect.Type | None = kind
    for step in _STEP.finditer(path):
        here = None if here is None else _inner(here, step[1] or "")
    return here


def _inner(kind: inspect.Type, name: str) -> inspect.Type | None:
    """Of a field, or with no name of an item."""
    for one in _members(kind):
        if name and isinstance(one, inspect.StructType):
            found = next((field for field in one.fields if field.encode_name == name), None)
            if found is not None:
                return found.type
        elif not name and isinstance(one, inspect.ListType):
            return one.item_type
        elif not name and isinstance(one, inspect.DictType):
            return one.value_type
    return None


def _fields(kind: inspect.Type | None) -> list[str]:
    every = () if kind is None else _members(kind)
    structs = (one for one in every if isinstance(one, inspect.StructType))
    return [field.encode_name for one in structs for field in one.fields]


def _wanted(kind: inspect.Type) -> str:
    """Empty for what has no words here."""
    words = [_words(one) for one in _members(kind)]
    return " or ".join(words) if all(words) else ""


def _words(kind: inspect.Type) -> str:  # noqa: PLR0911 - one for each kind
    match kind:
        case inspect.IntType():
            return f"a whole number{_range(kind)}"
        case inspect.FloatType():
            return f"a number{_range(kind)}"
        case inspect.StrType(pattern=pattern):
            form = f" that matches {pattern}" if pattern else ""
            return f"a text{_length(kind, ' characters')}{form}"
        case inspect.BoolType():
            return "true or false"
        case inspect.EnumType(cls=cls):
            return f"one of {', '.join(str(one.value) for one in cls)}"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.ListType(item_type=item):
            example = ' such as ["a", "b"]' if isinstance(item, inspect.StrType) else ""
            return f"a list{example}{_length(kind, '')}"
        case inspect.StructType() | inspect.DictType():
            return "an object"
        case inspect.NoneType():
            return "null"
        case _:
            return ""


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    parts = (
        f"from {kind.ge:.15g}" if kind.ge is not None else "",
        f"above {kind.gt:.15g}" if kind.gt is not None else "",
        f"to {kind.le:.15g}" if kind.le is not None else "",
        f"below {kind.lt:.15g}" if kind.lt is not None else "",
    )
    return "".join(f" {part}" for part in parts if part)


def _length(kind: inspect.StrType | inspect.ListType, unit: str) -> str:
    least, most = kind.min_length or 0, kind.max_length
    if most is None:
        return f" of at least {least}{unit}" if least else ""
    return f" of {least} to {most}{unit}" if least else f" of at most {most}{unit}"
