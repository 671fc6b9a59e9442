"""Rules, quotas and requests for tests of the policy."""

from __future__ import annotations

from typing import Any

from broker.domain.model import EndpointKind
from broker.domain.policy.entitlement import Asking
from broker.domain.policy.rules import Effect, EntitlementRule, Quota, QuotaScope
from tests.support.builders import NOW, make_pool


def make_rule(name: str = "exam", effect: Effect = Effect.DENY, **changes: Any) -> EntitlementRule:
    values: dict[str, Any] = {"id": f"rul_{name}", "name": name, "effect": effect}
    return EntitlementRule(**(values | changes))


def allow(name: str = "guests", **changes: Any) -> EntitlementRule:
    return make_rule(name, Effect.ALLOW, **changes)


def deny(name: str = "exam", **changes: Any) -> EntitlementRule:
    return make_rule(name, Effect.DENY, **changes)


def make_quota(name: str = "one", **changes: Any) -> Quota:
    values: dict[str, Any] = {
        "id": f"quo_{name}",
        "name": name,
        "scope": QuotaScope.USER,
        "sessions_max": 1,
    }
    return Quota(**(values | changes))


def make_asking(**changes: Any) -> Asking:
    """Somebody of grp_1, who is entitled to the pool, from 10.1.2.3."""
    values: dict[str, Any] = {
        "user_id": "usr_1",
        "group_ids": ("grp_1",),
        "pool": make_pool(),
        "endpoint": None,
        "endpoint_kind": EndpointKind.THIN,
        "runs_on_endpoint": False,
        "address": "10.1.2.3",
        "now": NOW,
    }
    return Asking(**(values | changes))
