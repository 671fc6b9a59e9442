"""Rules and quotas as an administrator writes them. How they decide is in `entitlement`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.domain.calendar import Window


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class QuotaScope(StrEnum):
    """What a quota counts live sessions of: one person's, one group's, or one pool's."""

    USER = "user"
    GROUP = "group"
    POOL = "pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntitlementRule:
    """Allows or denies. An empty field matches anything; all fields that are set must match.

    `networks` are CIDR blocks of the client's address, `windows` hold in the site's time zone.
    A rule that allows names at least a person or a group. Denying always wins.
    """

    id: str
    name: str
    effect: Effect
    user_ids: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()
    pool_ids: tuple[str, ...] = ()
    endpoint_ids: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    enabled: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """At most `sessions_max` live sessions (those that hold a place, queued ones too).

    USER: of each person (of `group_id`, if set) over `pool_ids` (empty: all pools).
    GROUP: of the people of `group_id` together, as the group that entitles them.
    POOL: of each of `pool_ids` together.
    """

    id: str
    name: str
    scope: QuotaScope
    sessions_max: int
    group_id: str | None = None
    pool_ids: tuple[str, ...] = ()
    enabled: bool = True
