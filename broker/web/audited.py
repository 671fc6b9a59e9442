"""How a route that changes something gets into the audit trail; every such route says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import UnsetType

from broker.domain.errors import BadCredentialsError, TooManyAttemptsError, TriviumError

SAFE_TEXTS: Final = frozenset(
    {
        "architecture",
        "day",
        "days",
        "display_name",
        "end",
        "endpoint",
        "endpoints",
        "engine",
        "group",
        "groups",
        "image",
        "labels",
        "name",
        "networks",
        "plan_sha256",
        "pool",
        "pools",
        "prefer_labels",
        "profile",
        "start",
        "storage",
        "time_zone",
        "title",
        "username",
        "users",
        "verdict",
    }
)
"""fields of bodies whose texts are kept; of every other text only that it was given"""
TEXT_CHARS_MAX: Final = 200
ITEMS_MAX: Final = 50
"""items of one list that are kept"""
GIVEN: Final = "(given)"
"""stands for a value that is not kept"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """`action`: the entry's, `noun.verb`.

    about: the entry's field (pool_id, …) that the path's `id` and the answer's `id` belong to.
    by_service: the service, or the store in the change's own transaction, writes the entry. Then
    the web writes only that a signed-in person's request was refused, and leaves out the
    refusals that the service writes itself or means to leave out (`told`). What strangers are
    refused is in the access log: nobody unknown can fill the trail.
    """

    action: str
    about: str = ""
    by_service: bool = False
    told: tuple[type[TriviumError], ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError."""
        noun, dot, verb = self.action.partition(".")
        if not (noun and dot and verb):
            raise ValueError(f"{self.action!r} is not noun.verb")
        if self.told and not self.by_service:
            raise ValueError(f"{self.action}: only a service tells")


SIGN_IN: Final = Audited(
    action="user.sign_in", by_service=True, told=(BadCredentialsError, TooManyAttemptsError)
)
SIGN_OUT: Final = Audited(action="user.sign_out", by_service=True)
SET_UP: Final = Audited(action="user.set_up", by_service=True)


def safe_fields(body: Any) -> Mapping[str, object]:
    """Field -> its value where it is small and no secret can be in it, else GIVEN."""
    if not isinstance(body, msgspec.Struct):
        return {}
    return {
        name: _safe(name, value)
        for name in body.__struct_fields__
        if not isinstance(value := getattr(body, name), UnsetType)
    }


def _safe(name: str, value: Any) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, msgspec.Struct):
        return dict(safe_fields(value))
    if isinstance(value, list | tuple):
        return [_safe(name, one) for one in value[:ITEMS_MAX]]
    if isinstance(value, str) and name in SAFE_TEXTS:
        return value[:TEXT_CHARS_MAX]
    return GIVEN
