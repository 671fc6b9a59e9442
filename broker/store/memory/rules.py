"""Entitlement rules and quotas, in memory."""

from __future__ import annotations

from broker.domain.errors import AlreadyExistsError, NotFoundError
from broker.domain.policy.rules import EntitlementRule, Quota
from broker.limits import RULES_MAX
from broker.store.capped import check_number
from broker.store.memory.state import State


class MemoryRules:
    """The part of broker.ports.DirectoryStore that is about rules and quotas."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def rules(self) -> tuple[EntitlementRule, ...]:
        found = sorted(self._state.rules.values(), key=lambda one: one.name)
        return tuple(found[:RULES_MAX])

    async def save_rule(self, rule: EntitlementRule, *, new: bool) -> None:
        if new is (rule.id in self._state.rules):
            raise AlreadyExistsError if new else NotFoundError("there is no such rule")
        if new:
            check_number(len(self._state.rules) + 1, RULES_MAX, "rules")
        self._state.put_named("rules", self._state.rules, rule.id, rule.name, rule)

    async def delete_rule(self, rule_id: str) -> None:
        if rule_id not in self._state.rules:
            raise NotFoundError("there is no such rule")
        self._state.drop_named("rules", self._state.rules, rule_id)

    async def quotas(self) -> tuple[Quota, ...]:
        found = sorted(self._state.quotas.values(), key=lambda one: one.name)
        return tuple(found[:RULES_MAX])

    async def save_quota(self, quota: Quota, *, new: bool) -> None:
        if new is (quota.id in self._state.quotas):
            raise AlreadyExistsError if new else NotFoundError("there is no such quota")
        if new:
            check_number(len(self._state.quotas) + 1, RULES_MAX, "quotas")
        self._state.must_know(self._state.groups, quota.group_id)
        self._state.put_named("quotas", self._state.quotas, quota.id, quota.name, quota)

    async def delete_quota(self, quota_id: str) -> None:
        if quota_id not in self._state.quotas:
            raise NotFoundError("there is no such quota")
        self._state.drop_named("quotas", self._state.quotas, quota_id)
