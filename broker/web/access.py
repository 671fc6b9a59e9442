"""What a route asks of its caller. There is no default: a route names it or cannot be made."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from broker.domain.errors import ForbiddenError
from broker.domain.model import Identity
from broker.domain.roles import Permission, allows


class Access(StrEnum):
    """What a route may ask for instead of a permission."""

    PUBLIC = "public"
    """anybody; the handler may still ask who it is"""
    SIGNED_IN = "signed-in"
    """any signed-in person"""
    AGENT = "agent"
    """endpoints, which prove themselves to the handler; browsers are refused by their Origin"""
    LOCAL_READ = "local-read"
    """programs on this machine by a loopback name; from elsewhere the permission to read"""


Need: TypeAlias = Access | Permission | frozenset[Permission]
"""A set of permissions asks for all of them."""


def permissions_of(need: Need) -> frozenset[Permission]:
    """The permissions that a signed-in caller must have."""
    if isinstance(need, frozenset):
        return need
    if isinstance(need, Permission):
        return frozenset({need})
    return frozenset({Permission.READ}) if need is Access.LOCAL_READ else frozenset()


def check(need: Need, identity: Identity) -> None:
    """Raises ForbiddenError naming the first permission that the caller's role lacks."""
    if isinstance(need, Permission):
        if not allows(identity.role, need):
            raise ForbiddenError(f"this needs the permission {need}")
        return
    for permission in sorted(permissions_of(need)):
        if not allows(identity.role, permission):
            raise ForbiddenError(f"this needs the permission {permission}")
