"""Names and labels that people give to things: cleaned, and refused with the field's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from broker.domain import names
from broker.domain.errors import BadRequestError

_Problem: TypeAlias = Callable[[str], str | None]


def checked_name(text: str, field: str = "name") -> str:
    """The name as it is stored. Raises BadRequestError."""
    return _checked(names.clean(text), names.name_problem, field)


def checked_username(text: str) -> str:
    """The user name as it is stored and compared. Raises BadRequestError."""
    return _checked(names.fold_username(text), names.username_problem, "username")


def checked_label(text: str, field: str) -> str:
    """A title, display name or location as it is stored. Raises BadRequestError."""
    return _checked(names.clean(text), names.label_problem, field)


def _checked(text: str, problem: _Problem, field: str) -> str:
    found = problem(text)
    if found is not None:
        raise BadRequestError(f"the {field.replace('_', ' ')} {found}", fields={"field": field})
    return text
