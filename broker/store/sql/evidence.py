"""Audit entries out of rows that somebody may have written past the broker.

SQLite keeps whatever is put into a column: bytes, a text that is not UTF-8, a word for a number.
Such a row must not keep the chain from being checked, nor the others from being sealed and
listed. What cannot be read stands in the entry's details instead, which breaks its seal if it
had one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from broker.domain.audit import AuditEntry, Outcome, SealedEntry
from broker.store.sql.rows import Row
from broker.store.trail import UNREADABLE, object_of

NAMES: Final = tuple(AuditEntry.__slots__)


class as_stored(FunctionElement[Any]):  # noqa: N801 - named as SQL's functions are
    """A column's value as bytes where the database keeps no types; SQLite's driver refuses a
    whole answer for one text that is not UTF-8."""

    inherit_cache = True
    type = sa.types.NULLTYPE


class is_text(FunctionElement[bool]):  # noqa: N801 - likewise
    """Whether it is what a text is compared with."""

    inherit_cache = True
    type = sa.Boolean()


class is_whole(FunctionElement[bool]):  # noqa: N801 - likewise
    """Whether it is a whole number."""

    inherit_cache = True
    type = sa.Boolean()


@compiles(as_stored)
def _as_it_is(element: as_stored, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(as_stored, "sqlite")
def _as_bytes(element: as_stored, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(is_text)
@compiles(is_whole)
def _always(_element: FunctionElement[bool], _compiler: SQLCompiler, **_options: Any) -> str:
    return "TRUE"


@compiles(is_text, "sqlite")
def _by_type(element: is_text, compiler: SQLCompiler, **options: Any) -> str:
    return f"typeof({compiler.process(element.clauses, **options)}) = 'text'"


@compiles(is_whole, "sqlite")
def _by_whole(element: is_whole, compiler: SQLCompiler, **options: Any) -> str:
    return f"typeof({compiler.process(element.clauses, **options)}) = 'integer'"


def to_entry(row: Row) -> AuditEntry:
    """From the columns NAMES, each `as_stored`."""
    odd: dict[str, object] = {}
    values: dict[str, Any] = {}
    for name, value in zip(NAMES, row, strict=True):
        values[name] = _number(name, value, odd) if name == "at" else _text(name, value, odd)
    details = object_of(values["details"])
    values["outcome"] = _outcome(values["outcome"], odd)
    if odd:
        details = {**details, UNREADABLE: odd}
    return AuditEntry(**values | {"details": details})


def to_sealed(row: Row) -> SealedEntry:
    """From number and seal and the columns NAMES, each `as_stored`."""
    number, seal, *entry = row
    return SealedEntry(
        number=_number("number", number, {}), seal=bytes(seal or b""), entry=to_entry(entry)
    )


def is_named(entry: AuditEntry) -> bool:
    """Whether its id could be read: no other can be sealed."""
    odd = entry.details.get(UNREADABLE)
    return not (isinstance(odd, Mapping) and "id" in odd)


def _text(name: str, value: object, odd: dict[str, object]) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        odd[name] = repr(value)
        return ""
    try:
        return value.decode()
    except UnicodeDecodeError:
        odd[name] = value.hex()
        return ""


def _number(name: str, value: Any, odd: dict[str, object]) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        odd[name] = repr(value)
        return 0


def _outcome(text: str, odd: dict[str, object]) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        odd.setdefault("outcome", text)
        return Outcome.UNKNOWN
