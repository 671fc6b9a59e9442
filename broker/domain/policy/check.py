"""What is wrong with a rule or a quota, in words, by field."""

from __future__ import annotations

from collections.abc import Iterator

from broker.domain.policy.networks import parse_network
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from broker.domain.settings_check import Problem, window_problems
from broker.limits import RULE_PARTS_MAX

SESSIONS_MAX = 1_000_000
"""the largest number that a quota may name"""
_PARTS = ("user_ids", "group_ids", "pool_ids", "endpoint_ids", "networks", "windows")


def rule_problems(rule: EntitlementRule) -> Iterator[Problem]:
    """Everything about this rule that cannot be."""
    for part in _PARTS:
        if len(getattr(rule, part)) > RULE_PARTS_MAX:
            yield part.replace("_ids", "s"), f"more than {RULE_PARTS_MAX} are named"
    if rule.effect is Effect.ALLOW and not rule.user_ids and not rule.group_ids:
        yield "users", "a rule that allows names at least a person or a group"
    for network in rule.networks:
        try:
            parse_network(network)
        except ValueError:
            yield "networks", f"{network!r} is not a network such as 10.2.0.0/16 or 2001:db8::/32"
    for window in rule.windows:
        for text in window_problems(window):
            yield "windows", text


def quota_problems(quota: Quota) -> Iterator[Problem]:
    """Everything about this quota that cannot be."""
    if not 0 <= quota.sessions_max <= SESSIONS_MAX:
        yield "sessions_max", f"a quota is a number from 0 to {SESSIONS_MAX}"
    if len(quota.pool_ids) > RULE_PARTS_MAX:
        yield "pools", f"more than {RULE_PARTS_MAX} are named"
    match quota.scope:
        case QuotaScope.GROUP if quota.group_id is None:
            yield "group", "a quota of a group names the group"
        case QuotaScope.POOL if not quota.pool_ids:
            yield "pools", "a quota of pools names them"
        case QuotaScope.POOL if quota.group_id is not None:
            yield "group", "a quota of pools counts everybody, so it names no group"
