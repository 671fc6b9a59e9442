"""What the API's request bodies are made of: text of bounded length, numbers in their range."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, UnsetType

from broker.limits import NAME_CHARS_MAX, PASSWORD_CHARS_MAX, PROFILE_CHARS_MAX

Value = TypeVar("Value")

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
"""A name, or an id in its place."""
Profile: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=PROFILE_CHARS_MAX, pattern="^[!-~]+$")
]
"""A kind of host, and knobs as in an address."""
Label: TypeAlias = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
"""A title or display name; may be empty."""
Password: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4 * PASSWORD_CHARS_MAX)]
"""Longer than any that is accepted, so that the service says what is wrong with it."""
Secret: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Names: TypeAlias = Annotated[list[Name], Meta(max_length=1000)]
Cpus: TypeAlias = Annotated[float, Meta(gt=0, le=4096)]
MemoryMib: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 26)]


DiskMib: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 40)]
Iops: TypeAlias = Annotated[int, Meta(ge=0, le=100_000_000)]
NetworkMbit: TypeAlias = Annotated[int, Meta(ge=0, le=10_000_000)]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every request body: a field that is not known is refused, never ignored."""


def given(value: Value | UnsetType) -> Value | None:
    """None for a field that was left out."""
    return None if isinstance(value, UnsetType) else value


def given_fields(body: Body) -> dict[str, Any]:
    """The fields that were sent."""
    return {
        name: value
        for name in body.__struct_fields__
        if not isinstance(value := getattr(body, name), UnsetType)
    }
