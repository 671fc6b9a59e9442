"""Which role may do what. Refused unless listed here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from broker.domain.model import Role


class Permission(StrEnum):
    """What a route asks for. `OWN_SESSIONS` covers only what belongs to the caller."""

    OWN_SESSIONS = "own-sessions"
    READ = "read"
    MANAGE_SESSIONS = "manage-sessions"
    SHADOW_SESSIONS = "shadow-sessions"
    MANAGE_ENDPOINTS = "manage-endpoints"
    MANAGE_POOLS = "manage-pools"
    MANAGE_USERS = "manage-users"
    MANAGE_HOSTS = "manage-hosts"
    RUN_CAMPAIGNS = "run-campaigns"
    MANAGE_POLICIES = "manage-policies"
    MANAGE_SITE = "manage-site"
    READ_AUDIT = "read-audit"


_READERS = frozenset({Permission.OWN_SESSIONS, Permission.READ})

GRANTS: Mapping[Role, frozenset[Permission]] = {
    Role.USER: frozenset({Permission.OWN_SESSIONS}),
    Role.AUDITOR: _READERS | {Permission.READ_AUDIT},
    Role.OPERATOR: _READERS
    | {
        Permission.MANAGE_SESSIONS,
        Permission.SHADOW_SESSIONS,
        Permission.MANAGE_ENDPOINTS,
        Permission.RUN_CAMPAIGNS,
    },
    Role.ADMINISTRATOR: frozenset(Permission),
}


def allows(role: Role, permission: Permission) -> bool:
    return permission in GRANTS[role]
