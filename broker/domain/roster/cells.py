"""Reading one cell: text to value, or BadCellError with the reason."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TypeVar

from broker.domain import names

Kind = TypeVar("Kind", bound=StrEnum)

# int() and float() also take "1_000", "١٢" and "1e5", which no spreadsheet means as a number.
_WHOLE = re.compile(r"[0-9]{1,12}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


class BadCellError(ValueError):
    """Why a cell cannot be read, as the end of a sentence that starts with the cell's text."""


def _refuse(text: str, why: str | None) -> None:
    if why is not None:
        raise BadCellError(f"{names.shown(text)} {why}")


def name(text: str) -> str:
    found = names.clean(text)
    _refuse(found, names.name_problem(found))
    return found


def plain_name(text: str) -> str:
    """A name without "@", which joins an image's name and version."""
    found = name(text)
    if "@" in found:
        _refuse(found, "has an '@', which joins an image's name and version")
    return found


def username(text: str) -> str:
    found = names.fold_username(text)
    _refuse(found, names.username_problem(found))
    return found


def profile(text: str) -> str:
    """A host's profile: a kind, and knobs as in an address, so without blanks."""
    found = names.clean(text)
    _refuse(found, names.profile_problem(found))
    return found


def label(text: str) -> str:
    found = names.clean(text)
    _refuse(found, names.label_problem(found))
    return found


def name_list(text: str) -> tuple[str, ...]:
    """Names separated by semicolons; one named twice counts once, and order is kept."""
    parts = (names.clean(part) for part in text.split(";"))
    return tuple(dict.fromkeys(name(part) for part in parts if part))


def image_reference(text: str) -> str:
    """`name@version`, the version without leading zeros."""
    found = names.clean(text)
    image, at, version = found.rpartition("@")
    if not at or not _WHOLE.fullmatch(version):
        _refuse(found, "is not of the form name@version")
    return f"{plain_name(image)}@{int(version)}"


def one_of(kind: type[Kind], text: str) -> Kind:
    """A value of an enumeration, in any letter case."""
    try:
        return kind(text.strip().lower())
    except ValueError:
        known = ", ".join(kind)
        raise BadCellError(f"{names.shown(text)} is none of {known}") from None


def whole(low: int, high: int, text: str) -> int:
    """A whole number from `low` to `high`."""
    found = text.strip()
    if not _WHOLE.fullmatch(found) or not low <= int(found) <= high:
        raise BadCellError(f"{names.shown(found)} is not a whole number from {low} to {high}")
    return int(found)


def decimal(low: float, high: float, text: str) -> float:
    """A decimal number, with a point, from `low` to `high`."""
    found = text.strip()
    if not _DECIMAL.fullmatch(found) or not low <= float(found) <= high:
        raise BadCellError(f"{names.shown(found)} is not a number from {low:g} to {high:g}")
    return float(found)
